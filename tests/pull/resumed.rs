//! A pull that was interrupted in the middle of a layer goes on there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use bowline::image::{Compression, Digest, ImageReference};
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::registry::Fault;
use bowline::testing::tar;

use crate::chunked::Scene;
use crate::support::Place;

const SIZE: u64 = 4 << 20;
/// Where the transfer breaks off.
pub const CUT: u64 = 3 << 20;

/// An image of one ordinary layer.
fn image_in(compression: Compression) -> Image {
    let tar = tar::layer(&format!(
        "data /usr/lib/big 0 0 644 {SIZE} 9\nfile /etc/x 0 0 644 x"
    ))
    .unwrap();
    let layer = Layer::new(&tar, compression).unwrap();
    ImageBuilder::default().layer(layer).build()
}

pub fn image() -> Image {
    image_in(Compression::Gzip)
}

/// An image of an ostree commit, with a large chunk and an ordinary layer above.
fn encapsulated() -> Image {
    let fixture = Fixture::new().unwrap();
    let lines = format!("{OS}\ndata /usr/lib/big 0 0 644 {SIZE} 9\n");
    let commit = fixture.commit(&lines).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    let image = image.unwrap().derived("file /etc/x 0 0 644 x").unwrap();
    image.build()
}

/// Digest and size of an image's largest blob.
pub fn largest(image: &Image) -> (Digest, u64) {
    let blobs = image.blobs.iter();
    let (digest, bytes) = blobs.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    (*digest, bytes.len() as u64)
}

/// A pull that came to its end `after` so many bytes of a layer.
pub struct Interrupted {
    pub scene: Scene,
    pub imgref: ImageReference,
    image: Image,
    /// Where the bytes of the layer are kept.
    kept: PathBuf,
}

impl Interrupted {
    pub fn new(image: Image) -> Self {
        let scene = Scene::new("bare-user");
        let imgref = scene.serve(&image, "1");
        let blob = largest(&image).0;
        let kept = kept_dir(&scene).join(blob.hex());
        interrupt(&scene, &imgref, &blob, CUT, 1);
        Self {
            scene,
            imgref,
            image,
            kept,
        }
    }

    /// Pulls again; gives the ranges of the layer that were asked for.
    fn finish(&self) -> Vec<Option<String>> {
        let (record, said) = self.scene.pull(&self.imgref);
        let expected = whole(&self.image);
        assert_eq!((record.unwrap().commit, said), (expected, Vec::new()));
        self.scene.place.check();
        assert!(!self.kept.exists());
        let blob = largest(&self.image).0.to_string();
        let requests = self.scene.registry.requests().into_iter();
        let blobs = requests.filter(|r| r.path.ends_with(&blob));
        blobs
            .map(|r| r.header("range").map(ToOwned::to_owned))
            .collect()
    }
}

/// Pulls, and has one of the first `times` transfers of a blob end too early.
fn interrupt(scene: &Scene, imgref: &ImageReference, blob: &Digest, cut: u64, times: u32) {
    let (registry, blob) = (&scene.registry, blob.to_string());
    registry.fault(&blob, Fault::Slow(Duration::from_millis(8)));
    registry.fault_times(&blob, Fault::CutAfter(cut), times);
    registry.fault(&blob, Fault::Status(404, String::new()));
    scene.pull(imgref).0.unwrap_err();
    registry.clear_faults();
}

pub fn kept_dir(scene: &Scene) -> PathBuf {
    scene.place.repo_path().join("extensions/bowline/blobs")
}

/// The commit of an image that was pulled in one go.
fn whole(image: &Image) -> String {
    let whole = Place::new("bare-user");
    whole.pull(&whole.add(image, "whole")).unwrap().commit
}

#[test]
fn what_came_slowly_is_not_fetched_again() {
    let images = [
        image_in(Compression::Gzip),
        image_in(Compression::Zstd),
        image_in(Compression::None),
        encapsulated(),
    ];
    for image in images {
        let last = largest(&image).1 - 1;
        let interrupted = Interrupted::new(image);
        let length = fs::metadata(&interrupted.kept).unwrap().len();
        assert_eq!(length, CUT);
        assert_eq!(interrupted.finish(), [Some(format!("bytes={CUT}-{last}"))]);
    }
}

#[test]
fn parts_of_a_layer_go_on_too() {
    let image = |changed: usize| {
        let seed = |n| if n < changed { n + 1000 } else { n };
        let lines = (0..40).map(|n| format!("data /usr/f{n:02} 0 0 644 40000 {}\n", seed(n)));
        let tar = tar::layer(&lines.collect::<String>()).unwrap();
        let layer = ChunkedLayer::new(&tar).unwrap().layer().unwrap();
        ImageBuilder::default().layer(layer).build()
    };
    let scene = Scene::new("bare-user");
    scene.pull(&scene.serve(&image(0), "1")).0.unwrap();
    let new = image(30);
    let imgref = scene.serve(&new, "2");
    let blob = largest(&new).0;
    // The first transfer is that of the table of contents, which is smaller.
    interrupt(&scene, &imgref, &blob, 800_000, 2);
    let kept = fs::read_dir(kept_dir(&scene)).unwrap().next().unwrap();
    let length = kept.unwrap().metadata().unwrap().len();
    assert!((700_000..=800_000).contains(&length), "{length}");
    let (record, said) = scene.pull(&imgref);
    assert_eq!((record.unwrap().commit, said), (whole(&new), Vec::new()));
    let sent = scene.registry.requests().into_iter();
    let sent: u64 = sent
        .filter(|r| r.path.ends_with(&blob.to_string()))
        .map(|r| r.bytes)
        .sum();
    assert!(sent < 1_200_000 - length + 20_000, "{sent}");
    assert_eq!(fs::read_dir(kept_dir(&scene)).unwrap().count(), 0);
    scene.place.check();
}

#[test]
fn what_is_kept_is_checked() {
    let interrupted = Interrupted::new(image());
    let mut bytes = fs::read(&interrupted.kept).unwrap();
    bytes[2_000_000] ^= 1;
    fs::write(&interrupted.kept, bytes).unwrap();
    let asked = interrupted.finish();
    assert_eq!((asked.len(), &asked[1]), (2, &None));
}

#[test]
fn what_cannot_be_what_was_kept_is_left_alone() {
    type Put = fn(&PathBuf);
    let table: [Put; 5] = [
        |at| symlink("/etc/hostname", at).unwrap(),
        |at| fs::create_dir(at).unwrap(),
        |at| fs::write(at, vec![0; (SIZE + SIZE) as usize]).unwrap(),
        |at| fs::write(at, "").unwrap(),
        |at| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, at, mode).unwrap();
        },
    ];
    for (case, put) in table.into_iter().enumerate() {
        let interrupted = Interrupted::new(image());
        fs::remove_file(&interrupted.kept).unwrap();
        put(&interrupted.kept);
        assert_eq!(interrupted.finish(), [None], "{case}");
        // Nor do they disturb where they are no blob's.
        put(&kept_dir(&interrupted.scene).join("other"));
        interrupted.scene.place.repo.prune().unwrap();
        let left = fs::read_dir(kept_dir(&interrupted.scene)).unwrap();
        assert_eq!(left.count(), 0, "{case}");
    }
}

#[test]
fn a_registry_that_sends_no_ranges_starts_over() {
    type Break = fn(&Scene);
    let table: [Break; 2] = [
        |scene| scene.registry.fault("/blobs/", Fault::NoRange),
        |scene| {
            let refused = Fault::Status(416, String::new());
            let blob = largest(&image()).0.to_string();
            scene.registry.fault_times(&blob, refused, 1);
        },
    ];
    for spoil in table {
        let interrupted = Interrupted::new(image());
        spoil(&interrupted.scene);
        let asked = interrupted.finish();
        assert_eq!((asked.len(), &asked[1]), (2, &None));
    }
}

#[test]
fn a_registry_that_is_away_for_now_costs_nothing_of_it() {
    let interrupted = Interrupted::new(image());
    let scene = &interrupted.scene;
    let denied = Fault::Status(403, String::new());
    let blob = largest(&image()).0.to_string();
    scene.registry.fault_times(&blob, denied, 1);
    scene.pull(&interrupted.imgref).0.unwrap_err();
    assert_eq!(fs::metadata(&interrupted.kept).unwrap().len(), CUT);
    let last = largest(&image()).1 - 1;
    assert_eq!(interrupted.finish(), [Some(format!("bytes={CUT}-{last}"))]);
}

#[test]
fn other_pulls_and_prunes_clear_it_away() {
    let other = ImageBuilder::default()
        .derived("file /etc/other 0 0 644 x")
        .unwrap()
        .build();
    let pulled = Interrupted::new(image());
    let scene = &pulled.scene;
    scene.pull(&scene.serve(&other, "other")).0.unwrap();
    assert!(!pulled.kept.exists());
    let pruned = Interrupted::new(image());
    pruned.scene.place.repo.prune().unwrap();
    assert!(!pruned.kept.exists());
}
