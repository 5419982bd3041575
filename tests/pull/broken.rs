//! Images that must not be used: what the error says, and that the repository is as before.

use bowline::image::{Compression, Digest, ManifestOrIndex};
use bowline::repo::refs;
use bowline::testing::encapsulate::{Encapsulation, Tamper};
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::tar;

use crate::support::{Place, chain};

/// Pulls an image that must fail; checks the repository and gives the error.
fn refused(image: &Image) -> String {
    let place = Place::new("bare-user");
    let imgref = place.add(image, "bad");
    let error = place.pull(&imgref).expect_err("the image must be refused");
    assert!(place.repo.images().unwrap().is_empty());
    place.check();
    chain(&error)
}

fn encapsulated(tamper: Option<Tamper>) -> ImageBuilder {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let how = Encapsulation {
        tamper,
        ..Encapsulation::chunked()
    };
    how.image(fixture.repo(), &commit).unwrap()
}

#[test]
fn tampered_ostree_layers() {
    let cases = [
        (Tamper::ObjectName, "has the content of sha256:"),
        (
            Tamper::MetadataInChunk,
            "a chunk layer may only have file objects",
        ),
        (Tamper::DuplicateObject, "it stands in the layer twice"),
        (Tamper::NoXattrs, "its attributes do not stand before it"),
        (Tamper::HugeXattrs, "it is too large"),
    ];
    for (tamper, text) in cases {
        let error = refused(&encapsulated(Some(tamper)).build());
        assert!(error.contains(text), "{tamper:?}: {error}");
        assert!(error.contains("Fetching layer 3 of 3 (sha256:"), "{error}");
    }
}

#[test]
fn a_chunk_that_lacks_an_object_is_noticed_before_a_host_boots() {
    let mut image = encapsulated(None);
    let empty = tar::layer("dir /sysroot 0 0 755").unwrap();
    image.layers[2] = Layer::new(&empty, Compression::Gzip).unwrap();
    let diff_id = image.layers[2].diff_id.to_string();
    image.labels.insert("ostree.final-diffid".into(), diff_id);
    let error = refused(&image.build());
    assert!(
        error.contains("which is in none of the image's layers"),
        "{error}"
    );
}

/// An image with one layer whose blob is replaced after the manifest was written.
fn with_blob(change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = ImageBuilder::default()
        .derived("data /usr/x 0 0 644 90000 3")
        .unwrap()
        .build();
    change(image.blobs.values_mut().next().unwrap());
    image
}

#[test]
fn bytes_that_are_not_the_promised_ones() {
    let wrong = refused(&with_blob(|blob| *blob.last_mut().unwrap() ^= 1));
    assert!(wrong.contains("its digest is sha256:"), "{wrong}");
    let short = refused(&with_blob(|blob| blob.truncate(blob.len() / 2)));
    assert!(short.contains("bytes"), "{short}");
    let long = refused(&with_blob(|blob| blob.extend([0; 10])));
    assert!(long.contains("bytes"), "{long}");
}

#[test]
fn garbage_under_the_right_digest() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let mut layer = Layer::new(&tar::layer("dir /usr 0 0 755").unwrap(), compression).unwrap();
        layer.blob = b"this is not what it says, at all".repeat(40);
        layer.digest = Digest::of(&layer.blob);
        layer.size = layer.blob.len() as i64;
        let error = refused(&ImageBuilder::default().layer(layer).build());
        let text = if compression == Compression::None {
            "broken header"
        } else {
            "garbage"
        };
        assert!(error.contains(text), "{compression:?}: {error}");
    }
}

#[test]
fn a_wrong_diff_id() {
    let mut image = ImageBuilder::default()
        .derived("file /usr/x 0 0 644 x")
        .unwrap();
    image.layers[0].diff_id = Digest::of(b"something else");
    let error = refused(&image.build());
    assert!(
        error.contains("but the image config promises diff_id"),
        "{error}"
    );
}

#[test]
fn paths_that_leave_the_tree() {
    let cases = [
        ("file /usr/../../etc/shadow 0 0 644 x", "leaves the tree"),
        (
            "hardlink /usr/x /../../etc/shadow",
            "hard link to a place outside",
        ),
        (
            "hardlink /usr/x /usr/not-there",
            "which this layer does not have",
        ),
        ("char /usr/null 1 3", "is a device or pipe"),
        (
            "file /usr/x 0 0 644 x\nfile /usr/x/y 0 0 644 y",
            "but also a file",
        ),
    ];
    for (lines, text) in cases {
        let error = refused(&ImageBuilder::default().derived(lines).unwrap().build());
        assert!(error.contains(text), "{lines}: {error}");
    }
}

#[test]
fn what_was_fetched_before_a_failure_is_kept() {
    let place = Place::new("bare-user");
    let good = encapsulated(None).build();
    let mut bad = good.clone();
    let last = ManifestOrIndex::parse(good.manifest.clone(), None).unwrap();
    let ManifestOrIndex::Manifest(manifest) = last else {
        panic!()
    };
    let broken = manifest.layers[2].digest;
    bad.blobs.get_mut(&broken).unwrap().truncate(100);
    let imgref = place.add(&bad, "os");
    place.pull(&imgref).unwrap_err();
    place.check();
    good.write_layout(&place.layout(), "os").unwrap();
    assert_eq!(place.plan(&imgref).layers_to_fetch(), 1);
    place.pull(&imgref).unwrap();
    place.check();
}

/// Two layers that have much in common come at the same time; the first to have it turns out to be wrong.
#[test]
fn a_layer_is_whole_whatever_becomes_of_one_that_it_shares_files_with() {
    let common: String = (0..20)
        .map(|n| format!("data /usr/lib/common{n} 0 0 644 50000 {n}\n"))
        .collect();
    let common = format!("{common}data /usr/lib/big 0 0 644 1000000 77\n");
    let wrong = format!("{common}data /usr/lib/tail 0 0 644 5000000 78\n");
    let good = format!("data /usr/share/head 0 0 644 2000000 79\n{common}");
    for mode in ["bare", "bare-user", "archive"] {
        let image = ImageBuilder::default().derived(&wrong).unwrap();
        let good_image = image.derived(&good).unwrap().build();
        let mut bad = good_image.clone();
        let manifest = ManifestOrIndex::parse(good_image.manifest.clone(), None).unwrap();
        let ManifestOrIndex::Manifest(manifest) = manifest else {
            panic!()
        };
        let blob = bad.blobs.get_mut(&manifest.layers[0].digest).unwrap();
        *blob.last_mut().unwrap() ^= 1;
        let place = Place::new(mode);
        let imgref = place.add(&bad, "os");
        let error = chain(&place.pull(&imgref).unwrap_err());
        assert!(error.contains("its digest is sha256:"), "{error}");
        place.check();
        let kept = refs::of_blob(&manifest.layers[1].digest);
        let commit = place.repo.resolve_ref(&kept).unwrap().unwrap();
        assert!(place.list(&commit).contains("/usr/lib/common19"), "{mode}");
        good_image.write_layout(&place.layout(), "os").unwrap();
        assert_eq!(place.plan(&imgref).layers_to_fetch(), 1);
        let record = place.pull(&imgref).unwrap();
        assert!(place.list(&record.commit).contains("/usr/lib/tail"));
        place.check();
    }
}

#[test]
fn an_image_that_cannot_fit_is_refused_before_it_is_fetched() {
    let mut image = encapsulated(None);
    image.layers[1].size = 1 << 60;
    let error = refused(&image.build());
    assert!(
        error.contains("more in the repository, but only"),
        "{error}"
    );
}

#[test]
fn bytes_that_are_no_objects_under_a_right_checksum() {
    let junk = "not a commit";
    let checksum = Digest::of(junk.as_bytes()).hex();
    let (dir, rest) = checksum.split_at(2);
    let line = format!("file sysroot/ostree/repo/objects/{dir}/{rest}.commit 0 0 644 {junk}");
    let layer = Layer::new(&tar::layer(&line).unwrap(), Compression::Gzip).unwrap();
    let diff_id = layer.diff_id.to_string();
    let mut image = ImageBuilder::default().layer(layer);
    image.labels.insert("ostree.final-diffid".into(), diff_id);
    let error = refused(&image.build());
    assert!(error.contains("malformed commit"), "{error}");
}
