//! What was pulled goes back out: the same config, the same layers, whatever was in them and whatever the
//! repository dropped of it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bowline::build::reexport::{self, ReexportError};
use bowline::image::{Compression, Digest, ImageLayout};
use bowline::progress::{ProgressSink, Silent};
use bowline::repo::{ImageRecord, NoRecord};
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{ImageBuilder, Layer};
use bowline::testing::tar::{Dialect, Tar};
use bowline::transport::push::{Destination, PushOptions};
use bowline::transport::{self, Blob, ImageSource, SourceOptions};

use crate::support::{Place, runtime};

/// An image with what makes a layer hard to put together again.
fn image(compression: Compression) -> ImageBuilder {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let image = Encapsulation::chunked()
        .image(fixture.repo(), &commit)
        .unwrap();
    let long = "d".repeat(120);
    let image = image
        .derived(&format!(
            "file /etc/new.conf 0 0 600 new\\n
             file /usr/bin/a 0 0 4755 one
             hardlink /usr/bin/b /usr/bin/a
             link /usr/bin/c a
             whiteout /usr/bin/hi
             opaque /usr/share/doc
             char /dev/null 1 3
             data /dev/left 0 0 600 5000 3
             data /run/left 0 0 644 300000 4
             data /opt/tool/big 0 0 755 700000 5
             file /opt/tool/small 0 0 755 small
             file /var/lib/state 7 7 640 state
             file /usr/share/{long}/{long} 0 0 644 long
             xattr /usr/bin/a user.x 0x00ff
             file /usr/twice 0 0 644 first
             file /usr/twice 0 0 644 second"
        ))
        .unwrap();
    let sparse = sparse();
    let image = image.layer(sparse.clone());
    // The same layer twice.
    let image = image.layer(sparse);
    let layers = image.layers.iter();
    let layers = layers.map(|layer| layer.recompressed(compression).unwrap());
    ImageBuilder {
        layers: layers.collect(),
        ..image.clone()
    }
}

/// Sparse files, and an end that is longer than it needs to be.
fn sparse() -> Layer {
    let mut tar = Tar::new(Vec::new(), Dialect::Pax);
    tar.sparse_pax("usr/s1", 1 << 20, &[(4096, b"data"), (500_000, b"more")])
        .unwrap();
    tar.sparse_gnu("usr/s2", 1 << 20, &[(8192, b"data")])
        .unwrap();
    tar.sparse_gnu("opt/s3", 1 << 20, &[(0, b"dropped")])
        .unwrap();
    let mut tar = tar.finish().unwrap();
    tar.extend([0; 9000]);
    tar.extend(b"and something behind its end");
    Layer::new(&tar, Compression::Gzip).unwrap()
}

fn written(
    place: &Place,
    record: &ImageRecord,
    to: &str,
    how: Option<Compression>,
) -> Result<Digest> {
    let to = to.parse().unwrap();
    runtime().block_on(async {
        let destination = Destination::open(&to, &PushOptions::default()).await?;
        let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
        reexport::run(&place.repo, record, &destination, (how, 2), &progress).await
    })
}

fn layout(place: &Place, name: &str) -> String {
    format!("oci:{}:x", place.dir.path().join(name).display())
}

/// Digests of the uncompressed layers of `name`, and how they are compressed.
fn diff_ids(name: &str) -> (Vec<Digest>, Vec<Compression>, Vec<u8>) {
    runtime().block_on(async {
        let name = name.parse().unwrap();
        let source = transport::open(&name, &SourceOptions::default())
            .await
            .unwrap();
        let arch = bowline::image::host_arch();
        let manifest = transport::resolve(&*source, &arch).await.unwrap().manifest;
        let config = transport::fetch_config(&*source, &manifest).await.unwrap();
        let layers = ImageLayout::new(&manifest, &config).unwrap();
        // An object or nothing (image-spec, descriptor.md).
        assert!(!String::from_utf8_lossy(manifest.raw()).contains("null"));
        let (mut found, mut compressions) = (Vec::new(), Vec::new());
        for layer in layers.layers() {
            found.push(uncompressed(&*source, layer).await);
            compressions.push(layer.compression);
        }
        (found, compressions, config.raw().to_vec())
    })
}

async fn uncompressed(source: &dyn ImageSource, layer: &bowline::image::Layer) -> Digest {
    let Blob::Reader(blob) = source.blob(&layer.descriptor).await.unwrap() else {
        panic!("a layout has files");
    };
    let mut reader: Box<dyn Read> = match layer.compression {
        Compression::None => blob,
        Compression::Gzip => Box::new(flate2::read::GzDecoder::new(blob)),
        Compression::Zstd => Box::new(zstd::Decoder::new(blob).unwrap()),
    };
    let mut tar = Vec::new();
    reader.read_to_end(&mut tar).unwrap();
    Digest::of(&tar)
}

#[test]
fn an_image_comes_out_as_it_went_in() {
    for (mode, compression) in [
        ("bare", Compression::Gzip),
        ("bare-user", Compression::Zstd),
        ("archive", Compression::None),
    ] {
        let place = Place::new(mode);
        let image = image(compression).build();
        let record = place.pull(&place.add(&image, "d")).unwrap();
        for wanted in [None, Some(Compression::Zstd), Some(Compression::None)] {
            let to = layout(&place, "out");
            written(&place, &record, &to, wanted).unwrap();
            let (found, compressions, config) = diff_ids(&to);
            assert_eq!(found, record.config.diff_ids);
            let expected = wanted.unwrap_or(compression);
            assert!(
                compressions.iter().all(|c| *c == expected),
                "{compressions:?}"
            );
            assert_eq!(config, image.config);
            // Others see the same image.
            let again = Place::new("bare-user");
            let pulled = again.pull(&to.parse().unwrap()).unwrap();
            assert_eq!(again.list(&pulled.commit), place.list(&record.commit));
            std::fs::remove_dir_all(place.dir.path().join("out")).unwrap();
        }
        place.check();
    }
}

#[test]
fn what_the_destination_has_already_is_used() {
    let place = Place::new("bare-user");
    let image = image(Compression::Gzip).build();
    let from = place.add(&image, "d");
    let record = place.pull(&from).unwrap();
    let to = format!("oci:{}:again", place.layout().display());
    let digest = written(&place, &record, &to, None).unwrap();
    assert_eq!(digest, image.digest());
    let blobs = place.layout().join("blobs/sha256").read_dir().unwrap();
    assert_eq!(blobs.count(), image.blobs.len() + 2);
}

fn records(place: &Place) -> usize {
    let dir = place.repo_path().join("extensions/bowline/records");
    dir.read_dir().map_or(0, Iterator::count)
}

#[test]
fn records_live_as_long_as_their_layers() {
    let place = Place::new("bare-user");
    let image = image(Compression::Gzip).build();
    let imgref = place.add(&image, "d");
    let record = place.pull(&imgref).unwrap();
    // Twice the same layer is one.
    assert_eq!(records(&place), record.config.diff_ids.len() - 1);
    place.repo.prune().unwrap();
    assert_eq!(records(&place), record.config.diff_ids.len() - 1);
    written(&place, &record, &layout(&place, "out"), None).unwrap();
    place.repo.remove_image(&imgref).unwrap();
    place.repo.prune().unwrap();
    assert_eq!(records(&place), 0);
}

#[test]
fn what_cannot_be_put_together_is_said() {
    let place = Place::new("bare-user");
    let image = image(Compression::Gzip).build();
    let record = place.pull(&place.add(&image, "d")).unwrap();
    let dir = place.repo_path().join("extensions/bowline/records");
    let last = record.config.diff_ids[record.config.diff_ids.len() - 3];
    let file = dir.join(last.hex());
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let error = written(&place, &record, &layout(&place, "out"), None).unwrap_err();
    assert_eq!(error.downcast_ref::<NoRecord>().unwrap().0, last);
    // A record that is another layer's.
    let other = dir.join(record.config.diff_ids[0].hex());
    std::fs::copy(&other, &file).unwrap();
    let error = written(&place, &record, &layout(&place, "out"), None).unwrap_err();
    let found = error
        .chain()
        .find_map(|e| e.downcast_ref::<ReexportError>());
    assert!(
        matches!(found, Some(ReexportError::DiffId { .. })),
        "{error:#}"
    );
    assert!(!Path::new(&place.dir.path().join("out/index.json")).exists());
    std::fs::write(&file, kept).unwrap();
    written(&place, &record, &layout(&place, "out"), None).unwrap();
}
