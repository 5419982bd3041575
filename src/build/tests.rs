//! Tests of the way from a commit to archives and images and back: every commit comes back as it was, and
//! what is written is what readers of the format expect.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use ostree::glib::VariantDict;
use ostree::prelude::*;
use serde_json::Value;

use super::compress::LayerCompression;
use super::image::ImageWishes;
use super::tar_export::{FormatVersion, chunk_layer, export};
use super::*;
use crate::image::Digest;
use crate::pull::import_commit;
use crate::repo::{CommitFacts, Repo};
use crate::testing::fixture::{Fixture, OS};
use crate::transport::push::{Destination, PushOptions};

/// What is hard about trees, as fixture lines.
fn hard() -> String {
    let long = "d".repeat(60);
    let deep = format!("/usr/share/{long}/{long}/{long}/{long}/{long}/file");
    format!(
        "{OS}
        file {deep} 0 0 600 deep\\n
        hardlink /usr/lib/also-deep {deep}
        link /usr/bin/hi2 hello
        link /usr/lib/denormal ../../..//sbin/chkconfig
        link /usr/lib/dots usr/./lib/../bin/
        link /usr/lib/long {}end
        link /usr/lib/long-denormal {}end
        file /usr/etc/empty 3 4 640
        hardlink /usr/lib/empty-too usr/lib/empty
        data /usr/lib/blocks 0 0 644 700000 9
        file /usr/lib/owned 1000 3000000 2751 owned
        xattr /usr/bin/ping security.capability 0x0100000200200000000000000000000000000000
        xattr /usr/bin/ping user.x y
        xattr /usr/lib/owned user.x y
        dir /usr/share/ü 7 8 1750
        file /usr/share/ü/ß 0 0 644 ü",
        "long/".repeat(40),
        "long//".repeat(40)
    )
}

struct World {
    fixture: Fixture,
    repo: Repo,
    facts: CommitFacts,
}

fn world(lines: &str) -> World {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(lines).unwrap();
    let repo = Repo::open(fixture.path()).unwrap();
    let dictionary = VariantDict::new(None);
    dictionary.insert_value("signature", &"of somebody".to_variant());
    repo.set_detached(&commit, &dictionary.end()).unwrap();
    let facts = repo
        .commit_facts(Digest::from_hex(&commit).unwrap())
        .unwrap();
    World {
        fixture,
        repo,
        facts,
    }
}

fn tar(world: &World) -> Vec<u8> {
    export(&world.repo, &world.facts, Vec::new()).unwrap()
}

/// Entries of an archive: path, kind, link.
fn entries(tar: &[u8]) -> Vec<(String, char, String)> {
    let mut archive = ::tar::Archive::new(tar);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let kind = char::from(entry.header().entry_type().as_byte());
        let link = entry.link_name_bytes().map(|link| text(&link));
        (text(&entry.path_bytes()), kind, link.unwrap_or_default())
    });
    entries.collect()
}

fn real_paths(tar: &[u8]) -> Vec<(String, char)> {
    let all = entries(tar).into_iter();
    let real = all.filter(|(path, ..)| !path.starts_with("sysroot"));
    real.map(|(path, kind, _)| (path, kind)).collect()
}

fn assert_same(world: &World, repo: &Repo, commit: &str) {
    assert_eq!(commit, world.facts.checksum.hex());
    assert!(repo.has_complete_commit(commit).unwrap());
    let other = repo.commit_facts(world.facts.checksum).unwrap();
    assert_eq!(other.detached, world.facts.detached);
    crate::repo::merge::verify_complete(repo, commit).unwrap();
}

#[test]
fn a_commit_comes_back_as_it_was() {
    let world = world(&hard());
    let tar = tar(&world);
    assert!(world.facts.detached.is_some());
    assert_eq!(tar, export(&world.repo, &world.facts, Vec::new()).unwrap());
    let other = Fixture::new().unwrap();
    let repo = Repo::open(other.path()).unwrap();
    let commit = import_commit(&repo, &tar[..], Some("os/ref")).unwrap();
    assert_same(&world, &repo, &commit);
    assert_eq!(repo.resolve_ref("os/ref").unwrap(), Some(commit));
}

#[test]
fn a_stream_that_breaks_off_leaves_no_commit() {
    let world = world(OS);
    let tar = tar(&world);
    let other = Fixture::new().unwrap();
    let repo = Repo::open(other.path()).unwrap();
    let step = tar.len() / 40;
    for end in (0..tar.len() - 1024).step_by(step) {
        assert!(
            import_commit(&repo, &tar[..end], Some("os")).is_err(),
            "{end}"
        );
        let here = repo
            .has_complete_commit(&world.facts.checksum.hex())
            .unwrap();
        assert!(!here, "{end}");
    }
    assert_eq!(repo.resolve_ref("os").unwrap(), None);
    import_commit(&repo, &tar[..], None).unwrap();
}

#[test]
fn an_archive_begins_with_a_repository_and_the_commit() {
    let world = world(&hard());
    let all = entries(&tar(&world));
    let commit = world.facts.checksum.hex();
    let object = |suffix: &str| {
        format!(
            "sysroot/ostree/repo/objects/{}/{}.{suffix}",
            &commit[..2],
            &commit[2..]
        )
    };
    let paths: Vec<&str> = all.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(paths[..3], ["./", "sysroot", "sysroot/ostree"]);
    assert_eq!(paths[5], "sysroot/ostree/repo/objects/00");
    assert_eq!(paths[269], "sysroot/ostree/repo/config");
    assert_eq!(paths[270..272], [object("commit"), object("commitmeta")]);
    assert!(paths[272].ends_with(".dirmeta") && paths[273].ends_with(".dirtree"));
    assert_eq!(paths.last(), Some(&"var/tmp"));
}

#[test]
fn each_path_is_there_once_as_what_it_is() {
    let world = world(&hard());
    let all = entries(&tar(&world));
    let count = |name: &str| all.iter().filter(|(path, ..)| path == name).count();
    let find = |name: &str| {
        let found = all.iter().find(|(path, ..)| path == name);
        let (_, kind, link) = found.unwrap_or_else(|| panic!("{name} is missing"));
        (*kind, link.as_str())
    };
    for name in [
        "sysroot",
        "etc/",
        "etc/motd",
        "usr/bin/hi2",
        "var/tmp",
        "usr/lib/long",
    ] {
        assert_eq!(count(name), 1, "{name}");
    }
    // A second name of a link is a link to the same object, not an empty file.
    assert_eq!(find("usr/bin/hi"), find("usr/bin/hi2"));
    assert_eq!(find("usr/bin/hi").0, '1');
    assert_eq!(find("usr/lib/empty-too"), ('0', ""));
    let targets: BTreeSet<&str> = all
        .iter()
        .filter(|e| e.1 == '2')
        .map(|e| e.2.as_str())
        .collect();
    for target in ["../../..//sbin/chkconfig", "usr/./lib/../bin/"] {
        assert!(targets.contains(target), "{targets:?}");
    }
    let paths: BTreeSet<&str> = all.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(paths.len(), all.len());
}

#[test]
fn what_is_below_sysroot_is_kept_as_objects() {
    let lines = format!("{OS}\nfile /sysroot/only/here 0 0 644 x\ndir /var/tmp 0 0 1700");
    let world = world(&lines);
    let tar = tar(&world);
    let real = real_paths(&tar);
    assert!(real.contains(&("var/tmp".into(), '5')));
    assert_eq!(real.iter().filter(|(path, _)| path == "var/tmp").count(), 1);
    assert!(
        !entries(&tar)
            .iter()
            .any(|(path, ..)| path.starts_with("sysroot/only"))
    );
    let other = Fixture::new().unwrap();
    let repo = Repo::open(other.path()).unwrap();
    let commit = import_commit(&repo, &tar[..], None).unwrap();
    assert_same(&world, &repo, &commit);
}

#[test]
fn the_second_format_has_directories_once() {
    let world = world(&hard());
    let listing = Listing::of(&world.repo, &world.facts).unwrap();
    let objects: Vec<Digest> = listing.objects().map(|object| object.checksum()).collect();
    let layer = |format| chunk_layer(&world.repo, &listing, &objects, format, Vec::new()).unwrap();
    let (first, second) = (
        real_paths(&layer(FormatVersion::V1)),
        real_paths(&layer(FormatVersion::V2)),
    );
    assert!(first.iter().all(|(_, kind)| *kind != '5'));
    let mut seen = BTreeSet::new();
    for (path, kind) in &second {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        assert!(
            parent.is_none_or(|parent| seen.contains(&parent)),
            "{path} comes too early"
        );
        assert!(seen.insert(path.clone()), "{path} is there twice");
        assert!(*kind != '5' || path != "usr/etc");
    }
    assert!(seen.contains("etc"));
    let files = |all: &[(String, char)]| {
        all.iter()
            .filter(|e| e.1 != '5')
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(files(&first), files(&second));
}

#[test]
fn a_damaged_object_ends_the_work() {
    let world = world(OS);
    let listing = Listing::of(&world.repo, &world.facts).unwrap();
    let big = listing
        .objects()
        .find(|o| o.paths().any(|(_, path)| path == "usr/lib/big"));
    let hex = big.unwrap().checksum().hex();
    let path = world
        .fixture
        .path()
        .join(format!("objects/{}/{}.filez", &hex[..2], &hex[2..]));
    let small = listing
        .objects()
        .find(|o| o.paths().any(|(_, path)| path == "usr/bin/hello"));
    let small = small.unwrap().checksum().hex();
    let other = world
        .fixture
        .path()
        .join(format!("objects/{}/{}.filez", &small[..2], &small[2..]));
    std::fs::copy(other, &path).unwrap();
    let error = export(&world.repo, &world.facts, Vec::new()).unwrap_err();
    let damaged = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<DamagedObject>());
    assert_eq!(damaged.map(|damaged| damaged.0.hex()), Some(hex));
}

fn options(compression: LayerCompression, threads: usize) -> EncapsulateOptions {
    EncapsulateOptions {
        compression,
        format: FormatVersion::V1,
        wishes: ImageWishes {
            arch: Some("amd64".into()),
            ..ImageWishes::default()
        },
        scratch: std::env::temp_dir(),
        threads: NonZeroUsize::new(threads).unwrap(),
    }
}

/// Three layers of a listing's objects, and some that are in none.
fn plan(listing: &Listing) -> Vec<LayerPlan> {
    let mut layers = ["a", "b", "c"].map(|name| LayerPlan {
        name: format!("layer {name}"),
        components: vec![format!("{name}2"), format!("{name}1")],
        ..LayerPlan::default()
    });
    for (number, object) in listing.objects().enumerate() {
        if let Some(layer) = layers.get_mut(number % 4) {
            layer.objects.push(object.checksum());
        }
    }
    let mut layers = Vec::from(layers);
    let nobody = vec![Digest::of(b"nobody has this")];
    layers.push(LayerPlan {
        objects: nobody,
        ..LayerPlan::default()
    });
    layers
}

async fn write(
    world: &World,
    dir: &Path,
    plan: Vec<LayerPlan>,
    options: &EncapsulateOptions,
) -> Encapsulated {
    let target = format!("oci:{}:tag", dir.display()).parse().unwrap();
    let destination = Destination::open(&target, &PushOptions::default())
        .await
        .unwrap();
    let facts = world.facts.clone();
    let written = encapsulate(&world.repo, facts, plan, options, Arc::new(destination));
    written.await.unwrap()
}

fn blob(dir: &Path, digest: &Digest) -> Vec<u8> {
    std::fs::read(dir.join("blobs/sha256").join(digest.hex())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_has_the_same_digest_whatever_the_threads() {
    let world = world(&hard());
    let listing = Listing::of(&world.repo, &world.facts).unwrap();
    for compression in [
        LayerCompression::Gzip(6),
        LayerCompression::Zstd(3),
        LayerCompression::ZstdChunked(3),
        LayerCompression::None,
    ] {
        let mut digests = BTreeSet::new();
        for threads in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let options = options(compression, threads);
            let written = write(&world, dir.path(), plan(&listing), &options).await;
            digests.insert(written.digest);
            assert_eq!(written.layers.len(), 4);
            let manifest: Value =
                serde_json::from_slice(&blob(dir.path(), &written.digest)).unwrap();
            let annotations =
                |n: usize| manifest["layers"][n]["annotations"]["ostree.components"].clone();
            assert_eq!(
                (annotations(0), annotations(1)),
                (Value::Null, "a1,a2".into())
            );
            let names: Vec<_> = written.layers.iter().map(|l| l.history.as_str()).collect();
            assert_eq!(names, ["fixture", "layer a", "layer b", "layer c"]);
        }
        assert_eq!(digests.len(), 1, "{compression:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_in_one_layer() {
    let world = world(&hard());
    let listing = Listing::of(&world.repo, &world.facts).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let written = write(
        &world,
        dir.path(),
        plan(&listing),
        &options(LayerCompression::None, 2),
    )
    .await;
    let mut objects = BTreeMap::new();
    for (number, layer) in written.layers.iter().enumerate() {
        let mut last = String::new();
        for (path, ..) in entries(&blob(dir.path(), &layer.digest)) {
            if let Some(object) = path.strip_suffix(".file") {
                assert!(object > last.as_str(), "{object} is out of order");
                last = object.to_owned();
                assert_eq!(objects.insert(object.to_owned(), number), None, "{object}");
            }
        }
    }
    assert_eq!(objects.len(), listing.objects().count());
    let layers: BTreeSet<usize> = objects.into_values().collect();
    assert_eq!(layers, BTreeSet::from([0, 1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_cannot_be_is_refused_before_the_work() {
    let world = world(OS);
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(LayerCompression::None, 1);
    options.wishes.copied = vec!["nothing".into()];
    let target = format!("oci:{}:tag", dir.path().display()).parse().unwrap();
    let destination = Destination::open(&target, &PushOptions::default())
        .await
        .unwrap();
    let facts = world.facts.clone();
    let error = encapsulate(
        &world.repo,
        facts,
        Vec::new(),
        &options,
        Arc::new(destination),
    )
    .await;
    assert!(format!("{:#}", error.unwrap_err()).contains("has no nothing"));
    let blobs = std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 0);
    let mut index = String::new();
    if let Ok(mut file) = std::fs::File::open(dir.path().join("index.json")) {
        file.read_to_string(&mut index).unwrap();
    }
    assert!(!index.contains("sha256"), "{index}");
}
