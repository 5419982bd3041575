//! zstd:chunked layers from a registry: only what changed comes over the wire, and whatever is wrong
//! with a table of contents, a registry or the repository, the image is the right one.

use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use bowline::image::{Compression, Digest, ImageReference, host_arch};
use bowline::progress::{Event, ProgressSink};
use bowline::pull::{self, Prepared, PullOptions};
use bowline::repo::{ImageRecord, Repo, refs};
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::registry::{Fault, TestRegistry};
use bowline::testing::tar;
use bowline::transport::{self, SourceOptions};

use crate::support::{Place, accept, chain, runtime};

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

/// What is wrong, how it is made wrong, and the words that tell of it.
type Case = (
    &'static str,
    fn(&Scene, &mut ChunkedLayer, &mut Layer),
    &'static str,
);

fn middle_of(layer: &mut ChunkedLayer, name: &str) -> u64 {
    let entry = layer.entry(name);
    (entry["offset"].as_u64().unwrap() + entry["endOffset"].as_u64().unwrap()) / 2
}

fn toc_position(layer: &Layer) -> u64 {
    let key = "io.github.containers.zstd-chunked.manifest-position";
    layer.annotations[key]
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn annotate(layer: &mut Layer, name: &str, value: &str) {
    let key = format!("io.github.containers.zstd-chunked.{name}");
    layer.annotations.insert(key, value.into());
}

const CASES: [Case; 13] = [
    (
        "no ranges",
        |scene, _, _| scene.registry.fault("/blobs/", Fault::NoRange),
        "has HTTP status 200",
    ),
    (
        "another range",
        |scene, _, _| scene.registry.fault("/blobs/", Fault::WrongRange(9)),
        "has the range",
    ),
    (
        "a table that is damaged on its way",
        |scene, _, layer| {
            let at = Fault::FlipAt(toc_position(layer) + 20);
            scene.registry.fault_times(&layer.digest.to_string(), at, 1);
        },
        "Checking the table of contents: its digest is",
    ),
    (
        "a file that is damaged on its way",
        |scene, chunked, layer| {
            let at = Fault::FlipAt(middle_of(chunked, "/usr/lib/f25"));
            scene.registry.fault_times(&layer.digest.to_string(), at, 2);
        },
        "cannot be put together of parts",
    ),
    (
        "parts that end too early",
        |scene, _, layer| {
            let refused = Fault::Status(403, String::new());
            scene
                .registry
                .fault_times(&layer.digest.to_string(), Fault::FlipAt(0), 1);
            scene
                .registry
                .fault_times(&layer.digest.to_string(), refused, 1);
        },
        "is denied",
    ),
    (
        "another digest of the table",
        |_, _, layer| annotate(layer, "manifest-checksum", &Digest::of(b"x").to_string()),
        "Checking the table of contents: its digest is",
    ),
    (
        "another position of the table",
        |_, _, layer| {
            let wrong = toc_position(layer) - 300;
            annotate(layer, "manifest-position", &format!("{wrong}:200:3000:1"));
        },
        "Checking the table of contents: its digest is",
    ),
    (
        "a lie about a file that is fetched",
        |_, chunked, layer| {
            chunked.entry("/usr/lib/f05")["digest"] = Digest::of(b"x").to_string().into();
            *layer = chunked.layer().unwrap();
        },
        "are not the file with digest",
    ),
    (
        "a lie about a file that is here",
        |_, chunked, layer| {
            let other = chunked.entry("/usr/lib/f10")["digest"].clone();
            chunked.entry("/usr/lib/f11")["digest"] = other;
            *layer = chunked.layer().unwrap();
        },
        "the image config promises diff_id",
    ),
    (
        "a lie about the tar stream",
        |_, chunked, layer| {
            chunked.split.swap(0, 2);
            *layer = chunked.layer().unwrap();
        },
        "cannot be put together of parts",
    ),
    (
        "another size in the tar-split data",
        |_, chunked, layer| {
            let file = chunked
                .split
                .iter_mut()
                .find(|line| line["size"].is_u64())
                .unwrap();
            file["size"] = 5.into();
            *layer = chunked.layer().unwrap();
        },
        "has a file of 5 bytes, the table of contents of 20000",
    ),
    (
        "tar-split data that ends too early",
        |_, chunked, layer| {
            chunked.split.truncate(20);
            *layer = chunked.layer().unwrap();
        },
        "cannot be put together of parts",
    ),
    (
        "garbage for a table",
        |_, chunked, layer| {
            chunked.entry("/usr/lib/f05")["offset"] = 1_000_000_000.into();
            *layer = chunked.layer().unwrap();
        },
        "where it cannot be",
    ),
];

#[test]
fn whatever_is_wrong_the_layer_is_fetched_whole() {
    for (name, spoil, words) in CASES {
        let scene = Scene::new("bare-user");
        scene.pull_quietly(&scene.serve(&old(), "1"));
        let mut chunked = new_layer();
        let mut layer = chunked.layer().unwrap();
        spoil(&scene, &mut chunked, &mut layer);
        let size = layer.size as u64;
        let image = image(layer);
        let imgref = scene.serve(&image, "2");
        let (record, said) = scene.pull(&imgref);
        let record = record.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(
            said[0].starts_with("layer 1 of 1 ") && said[0].contains(words),
            "{name}: {said:?}"
        );
        assert!(scene.sent() >= size, "{name}");
        assert_eq!(record.commit, scene.whole(&image), "{name}");
        let blob = refs::of_blob(&record.manifest.layers[0].digest);
        assert!(
            scene.place.repo.resolve_ref(&blob).unwrap().is_some(),
            "{name}"
        );
        scene.place.check();
    }
}

#[test]
fn a_layer_that_is_wrong_as_a_whole_is_refused() {
    let scene = Scene::new("bare-user");
    scene.pull_quietly(&scene.serve(&old(), "1"));
    let mut layer = new_layer().layer().unwrap();
    layer.diff_id = Digest::of(b"x");
    let (record, said) = scene.pull(&scene.serve(&image(layer), "2"));
    assert!(chain(&record.unwrap_err()).contains("promises diff_id"));
    assert_eq!(said.len(), 1);
    scene.place.check();
}

fn index(scene: &Scene) -> std::path::PathBuf {
    scene.place.repo_path().join("extensions/bowline/contents")
}

/// Versions of an image, each with one file more.
fn version(number: usize) -> Image {
    let more: String = (0..number)
        .map(|n| format!("data /usr/more/f{n} 0 0 644 {FILE_SIZE} {}\n", 5000 + n))
        .collect();
    image(
        chunked(&format!("{}{more}", lines(|n| n + 1)))
            .layer()
            .unwrap(),
    )
}

#[test]
fn an_index_that_is_lost_or_wrong_costs_one_layer_at_most() {
    let scene = Scene::new("bare-user");
    for number in 0..2 {
        scene.pull_quietly(&scene.serve(&version(number), &number.to_string()));
    }
    let good = std::fs::read(index(&scene)).unwrap();
    assert_eq!(good.len(), 16 + 64 * FILES);
    // Lost, cut off, of another kind: it is made anew.
    let spoiled = [
        &good[..0],
        &good[..16],
        &good[..1000],
        b"something else",
        &good,
    ];
    let mut number = 2;
    for bytes in spoiled {
        std::fs::write(index(&scene), bytes).unwrap();
        let image = version(number);
        let (record, sent) = scene.pull_quietly(&scene.serve(&image, &number.to_string()));
        assert!(sent < 2 * FILE_SIZE as u64, "{sent}");
        assert_eq!(record.commit, scene.whole(&image));
        number += 1;
    }
    // Every content leads to another object.
    let mut lies = std::fs::read(index(&scene)).unwrap();
    let mut objects: Vec<_> = lies[16..]
        .chunks_exact(64)
        .map(|r| r[32..].to_vec())
        .collect();
    objects.rotate_left(1);
    for (record, object) in lies[16..].chunks_exact_mut(64).zip(objects) {
        record[32..].copy_from_slice(&object);
    }
    std::fs::write(index(&scene), &lies).unwrap();
    let (record, said) = scene.pull(&scene.serve(&version(number), "lies"));
    assert_eq!(record.unwrap().commit, scene.whole(&version(number)));
    assert!(
        said[0].contains("does not have the content that was expected"),
        "{said:?}"
    );
    let (_, sent) = scene.pull_quietly(&scene.serve(&version(number + 1), "after"));
    assert!(sent < 2 * FILE_SIZE as u64, "{sent}");
    scene.place.check();
}

#[test]
fn a_damaged_object_is_found_and_replaced() {
    for mode in ["bare", "bare-user"] {
        let scene = Scene::new(mode);
        for number in 0..2 {
            scene.pull_quietly(&scene.serve(&version(number), &number.to_string()));
        }
        let commit = scene
            .place
            .repo
            .resolve_ref(&image_ref(&scene, "1"))
            .unwrap()
            .unwrap();
        let line = scene.place.ostree(&["ls", "-C", &commit, "/usr/lib/f30"]);
        let checksum = line.split_whitespace().nth(4).unwrap();
        let object = format!("objects/{}/{}.file", &checksum[..2], &checksum[2..]);
        let path = scene.place.repo_path().join(object);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let image = version(2);
        let (record, said) = scene.pull(&scene.serve(&image, "2"));
        assert!(
            said[0].contains(&format!("local object sha256:{checksum}")),
            "{said:?}"
        );
        assert_eq!(record.unwrap().commit, scene.whole(&image));
        scene.place.check();
    }
}

fn image_ref(scene: &Scene, tag: &str) -> String {
    let name = format!("docker://{}/ns/os:{tag}", scene.registry.host());
    refs::of_image(&name.parse().unwrap()).unwrap()
}
