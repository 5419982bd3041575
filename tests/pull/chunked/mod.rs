//! zstd:chunked layers from a registry: only what changed comes over the wire. What the tests of this
//! directory share is here, too.

mod index;
mod wrong;

use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use bowline::image::{Compression, ImageReference, host_arch};
use bowline::progress::{Event, ProgressSink};
use bowline::pull::{self, Prepared, PullOptions};
use bowline::repo::{ImageRecord, Repo, refs};
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::registry::TestRegistry;
use bowline::testing::tar;
use bowline::transport::{self, SourceOptions};

use crate::support::{Place, accept, runtime};

const MODES: [&str; 3] = ["bare", "bare-user", "archive"];
const FILES: usize = 60;
const FILE_SIZE: usize = 20_000;

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl ProgressSink for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// A repository and a registry.
pub struct Scene {
    pub place: Place,
    pub registry: TestRegistry,
}

impl Scene {
    pub fn new(mode: &str) -> Self {
        Self {
            place: Place::new(mode),
            registry: TestRegistry::start(),
        }
    }

    pub fn serve(&self, image: &Image, tag: &str) -> ImageReference {
        let layout = self.place.layout();
        image.write_layout(&layout, tag).unwrap();
        self.registry.add_layout("ns/os", &layout).unwrap();
        let name = format!("docker://{}/ns/os:{tag}", self.registry.host());
        name.parse().unwrap()
    }

    /// Pulls, and gives what was said meanwhile.
    pub fn pull(&self, imgref: &ImageReference) -> (Result<ImageRecord>, Vec<String>) {
        let warnings = Arc::new(Warnings::default());
        self.registry.clear_requests();
        let record = pull_into(&self.place.repo, imgref, warnings.clone());
        let said = warnings.0.lock().unwrap().clone();
        (record, said)
    }

    /// Pulls an image that is in parts, and gives the bytes of blobs that were sent.
    fn pull_quietly(&self, imgref: &ImageReference) -> (ImageRecord, u64) {
        let (record, said) = self.pull(imgref);
        assert_eq!(said, [""; 0]);
        (record.unwrap(), self.sent())
    }

    fn sent(&self) -> u64 {
        let blobs = self.registry.requests().into_iter();
        blobs
            .filter(|r| r.path.contains("/blobs/"))
            .map(|r| r.bytes)
            .sum()
    }

    /// The merge commit of the same image in an empty repository, where all of it was fetched whole.
    fn whole(&self, image: &Image) -> String {
        let place = Place::new("bare-user");
        let record = place.pull(&place.add(image, "whole")).unwrap();
        record.commit
    }
}

fn pull_into(repo: &Repo, imgref: &ImageReference, sink: Arc<Warnings>) -> Result<ImageRecord> {
    let sink: Arc<dyn ProgressSink> = sink;
    let options = PullOptions {
        arch: host_arch().to_string(),
        require_bootable: false,
    };
    runtime().block_on(async {
        let source = transport::open(imgref, &SourceOptions::default()).await?;
        let accepted = accept(&*source, imgref, &options.arch).await?;
        match pull::prepare(repo, &*source, &accepted, &options).await? {
            Prepared::Unchanged(record) => Ok(*record),
            Prepared::Ready(mut plan) => {
                pull::compare(repo, &*source, &mut plan, &sink).await?;
                pull::run(repo, Arc::from(source), *plan, 3, sink).await
            }
        }
    })
}

/// Lines of a tree whose files have these seeds.
fn lines(seeds: impl Fn(usize) -> usize) -> String {
    let line = |n| format!("data /usr/lib/f{n:02} 0 0 644 {FILE_SIZE} {}\n", seeds(n));
    let files: String = (0..FILES).map(line).collect();
    format!(
        "dir /usr 0 0 755\nfile /usr/empty 0 0 644\nlink /usr/link lib\n{files}hardlink /usr/hard /usr/lib/f07\n"
    )
}

fn chunked(lines: &str) -> ChunkedLayer {
    ChunkedLayer::new(&tar::layer(lines).unwrap()).unwrap()
}

fn image(layer: Layer) -> Image {
    ImageBuilder::default().layer(layer).build()
}

/// The image before, and the one after: files 5, 25 and 45 have changed.
fn old() -> Image {
    image(chunked(&lines(|n| n + 1)).layer().unwrap())
}

fn new_layer() -> ChunkedLayer {
    chunked(&lines(|n| if n % 20 == 5 { n + 1000 } else { n + 1 }))
}

/// What the program itself makes of a tree with these files, as zstd:chunked.
fn encapsulated(scene: &Scene, fixture: &Fixture, files: &str, tag: &str) -> ImageReference {
    let commit = fixture.commit(&format!("{OS}\n{files}")).unwrap();
    let layout = scene.place.layout();
    let output = Command::new(env!("CARGO_BIN_EXE_bowline"))
        .args(["container", "encapsulate", "--compression", "zstd:chunked"])
        .args(["--max-layers", "2", &commit, "--repo"])
        .arg(fixture.path())
        .arg(format!("oci:{}:{tag}", layout.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    scene.registry.add_layout("ns/os", &layout).unwrap();
    let name = format!("docker://{}/ns/os:{tag}", scene.registry.host());
    name.parse().unwrap()
}

#[test]
fn of_layers_that_we_made_only_what_changed_is_fetched() {
    let (scene, fixture) = (Scene::new("bare-user"), Fixture::new().unwrap());
    let files = |seed: &dyn Fn(usize) -> usize| {
        let line = |n| format!("data /usr/lib/f{n:02} 0 0 644 {FILE_SIZE} {}\n", seed(n));
        (0..FILES).map(line).collect::<String>()
    };
    let old = encapsulated(&scene, &fixture, &files(&|n| n + 1), "1");
    let (_, sent) = scene.pull_quietly(&old);
    assert!(sent > (FILES * FILE_SIZE) as u64);
    let changed = |n| if n % 20 == 5 { n + 1000 } else { n + 1 };
    let new = encapsulated(&scene, &fixture, &files(&changed), "2");
    let (_, sent) = scene.pull_quietly(&new);
    let requests = scene.registry.requests();
    let ranges = requests.iter().filter(|r| r.header("range").is_some());
    let ranges: Vec<u64> = ranges.map(|r| r.bytes).collect();
    // The table of contents, and then the frames of three files.
    let three = 3 * FILE_SIZE as u64;
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!((three..three + 1500).contains(&ranges[1]), "{ranges:?}");
    // The commit's own layer comes whole.
    assert!(sent < ranges[0] + ranges[1] + 60_000, "{sent}: {ranges:?}");
    scene.place.check();
}

#[test]
fn only_what_changed_is_fetched() {
    for mode in MODES {
        let scene = Scene::new(mode);
        let (_, sent) = scene.pull_quietly(&scene.serve(&old(), "1"));
        // The table of contents of an image that cannot be here is not asked for.
        assert!(
            scene
                .registry
                .requests()
                .iter()
                .all(|r| r.header("range").is_none())
        );
        assert!(sent > (FILES * FILE_SIZE) as u64);
        let image = image(new_layer().layer().unwrap());
        let (record, sent) = scene.pull_quietly(&scene.serve(&image, "2"));
        let changed = 3 * FILE_SIZE as u64;
        assert!(
            (changed..changed * 13 / 10).contains(&sent),
            "{mode}: {sent}"
        );
        // The manifest and the config, the table, the parts.
        assert_eq!(scene.registry.requests().len(), 4, "{mode}");
        assert_eq!(record.commit, scene.whole(&image), "{mode}");
        scene.place.check();
        let again = scene.pull_quietly(&scene.serve(&image, "3"));
        assert_eq!(
            (again.0.commit, scene.registry.requests().len()),
            (record.commit, 2)
        );
    }
}

#[test]
fn moved_files_are_found_by_their_content() {
    let scene = Scene::new("bare-user");
    scene.pull_quietly(&scene.serve(&old(), "1"));
    let moved = lines(|n| n + 1)
        .replace("/usr/lib/", "/usr/libexec/")
        .replace("644", "600");
    let image = image(chunked(&moved).layer().unwrap());
    let (record, sent) = scene.pull_quietly(&scene.serve(&image, "2"));
    assert!(sent < FILE_SIZE as u64, "{sent}");
    assert_eq!(record.commit, scene.whole(&image));
    scene.place.check();
}

#[test]
fn chunks_of_an_ostree_commit_are_fetched_in_parts() {
    let fixture = Fixture::new().unwrap();
    let build = |change: &str| {
        let many: String = (0..40)
            .map(|n| format!("data /usr/lib/many/f{n} 0 0 644 9000 {n}\n"))
            .collect();
        let commit = fixture.commit(&format!("{OS}\n{many}{change}")).unwrap();
        let mut image = Encapsulation::chunked()
            .image(fixture.repo(), &commit)
            .unwrap();
        for layer in &mut image.layers {
            let tar = layer.recompressed(Compression::None).unwrap().blob;
            *layer = ChunkedLayer::new(&tar).unwrap().layer().unwrap();
        }
        (commit, image.build())
    };
    for mode in MODES {
        let scene = Scene::new(mode);
        scene.pull_quietly(&scene.serve(&build("").1, "1"));
        let (commit, image) = build("data /usr/lib/many/new 0 0 644 9000 77\n");
        let (record, sent) = scene.pull_quietly(&scene.serve(&image, "2"));
        let lib = record.manifest.layers[2].size.unwrap();
        assert!(sent < lib / 2, "{mode}: {sent} of {lib}");
        assert_eq!(scene.place.list(&record.commit), scene.place.list(&commit));
        // Nobody has seen the whole blob of the layer that came in parts.
        let named = record.manifest.layers.iter().map(|layer| {
            let name = refs::of_blob(&layer.digest);
            scene.place.repo.resolve_ref(&name).unwrap().is_some()
        });
        assert_eq!(named.collect::<Vec<_>>(), [true, true, false]);
        scene.place.check();
    }
}
