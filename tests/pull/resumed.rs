//! A pull that was interrupted in the middle of a layer goes on there.

use std::time::Duration;

use bowline::image::{Compression, Digest, ImageReference};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::registry::Fault;
use bowline::testing::tar;

use crate::chunked::Scene;
use crate::support::Place;

const SIZE: u64 = 4 << 20;
/// Where the transfer breaks off.
const CUT: u64 = 3 << 20;

fn image() -> Image {
    let tar = tar::layer(&format!(
        "data /usr/lib/big 0 0 644 {SIZE} 9\nfile /etc/x 0 0 644 x"
    ))
    .unwrap();
    let layer = Layer::new(&tar, Compression::Gzip).unwrap();
    ImageBuilder::default().layer(layer).build()
}

/// Digest and size of its layer.
fn blob() -> (Digest, usize) {
    let image = image();
    let (digest, bytes) = image.blobs.first_key_value().unwrap();
    (*digest, bytes.len())
}

/// A scene in which a pull has failed after [`CUT`] bytes of the layer, and where those are kept.
fn interrupted() -> (Scene, ImageReference, std::path::PathBuf) {
    let scene = Scene::new("bare-user");
    let imgref = scene.serve(&image(), "1");
    let layer = blob().0.to_string();
    scene
        .registry
        .fault(&layer, Fault::Slow(Duration::from_millis(4)));
    scene.registry.fault_times(&layer, Fault::CutAfter(CUT), 1);
    scene
        .registry
        .fault(&layer, Fault::Status(404, String::new()));
    scene.pull(&imgref).0.unwrap_err();
    scene.registry.clear_faults();
    let kept = scene.place.repo_path().join("extensions/bowline/blobs");
    (
        scene,
        imgref,
        kept.join(layer.strip_prefix("sha256:").unwrap()),
    )
}

fn finish(scene: &Scene, imgref: &ImageReference) -> Vec<Option<String>> {
    let (record, said) = scene.pull(imgref);
    let whole = Place::new("bare-user");
    let expected = whole.pull(&whole.add(&image(), "whole")).unwrap().commit;
    assert_eq!((record.unwrap().commit, said), (expected, Vec::new()));
    scene.place.check();
    let requests = scene.registry.requests().into_iter();
    let blobs = requests.filter(|r| r.path.contains("/blobs/"));
    blobs
        .map(|r| r.header("range").map(ToOwned::to_owned))
        .skip(1)
        .collect()
}

#[test]
fn what_came_slowly_is_not_fetched_again() {
    let (scene, imgref, kept) = interrupted();
    let length = std::fs::metadata(&kept).unwrap().len();
    assert_eq!(length, CUT);
    let expected = format!("bytes={CUT}-{}", blob().1 - 1);
    assert_eq!(finish(&scene, &imgref), [Some(expected)]);
    assert!(!kept.exists());
}

#[test]
fn what_is_kept_is_checked() {
    let (scene, imgref, kept) = interrupted();
    let mut bytes = std::fs::read(&kept).unwrap();
    bytes[2_000_000] ^= 1;
    std::fs::write(&kept, bytes).unwrap();
    let asked = finish(&scene, &imgref);
    assert_eq!((asked.len(), &asked[1]), (2, &None));
    assert!(!kept.exists());
}

#[test]
fn a_registry_without_ranges_starts_over() {
    let (scene, imgref, kept) = interrupted();
    scene.registry.fault("/blobs/", Fault::NoRange);
    let asked = finish(&scene, &imgref);
    assert_eq!((asked.len(), &asked[1]), (2, &None));
    assert!(!kept.exists());
}

#[test]
fn other_pulls_and_prunes_clear_it_away() {
    let (scene, ..) = interrupted();
    let other = ImageBuilder::default()
        .derived("file /etc/other 0 0 644 x")
        .unwrap()
        .build();
    let (pulled, _, kept) = interrupted();
    pulled.pull(&pulled.serve(&other, "other")).0.unwrap();
    assert!(!kept.exists());
    scene.place.repo.prune().unwrap();
    let left = scene.place.repo_path().join("extensions/bowline/blobs");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
}
