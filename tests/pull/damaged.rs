//! Repositories that something else has changed: objects, commits or refs that went away, a prune
//! at the wrong moment, a disk that must not fill up. Pulling again makes the image whole.

use bowline::image::ImageReference;
use bowline::pull::Unsuitable;
use bowline::repo::{ImageRecord, Repo, refs};
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use rustix::fs::{FlockOperation, flock};

use crate::support::Place;

/// A pulled image of a commit layer, two chunks and an ordinary layer.
fn pulled() -> (Place, ImageReference, ImageRecord) {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    let image = image.unwrap().derived("file /usr/bin/own 0 0 755 own\\n");
    let place = Place::new("bare-user");
    let imgref = place.add(&image.unwrap().build(), "os");
    let record = place.pull(&imgref).unwrap();
    (place, imgref, record)
}

/// Takes an object's file away, and lets fsck say so in the repository.
fn lose(place: &Place, checksum: &str, extension: &str) {
    let (dir, rest) = checksum.split_at(2);
    let object = format!("objects/{dir}/{rest}.{extension}");
    std::fs::remove_file(place.repo_path().join(object)).unwrap();
    let mut fsck = std::process::Command::new("ostree");
    fsck.arg(format!("--repo={}", place.repo_path().display()));
    let output = fsck.args(["fsck", "--quiet", "--delete"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("partial"), "{text}");
}

#[test]
fn lost_objects_come_back() {
    for path in [
        "/usr/bin/hello",
        "/usr/lib/big",
        "/usr/share/doc",
        "/usr/bin/own",
    ] {
        let (place, imgref, record) = pulled();
        let line = place.ostree(&["ls", "-C", &record.commit, path]);
        let checksum = line.split_whitespace().nth(4).unwrap();
        lose(&place, checksum, "file");
        assert_eq!(place.plan(&imgref).layers_to_fetch(), 1, "{path}");
        place.pull(&imgref).unwrap();
        place.ostree(&["ls", "-X", &record.commit, path]);
        assert_eq!(place.plan_or_none(&imgref), None, "{path}");
        place.check();
    }
}

#[test]
fn a_lost_merge_commit_is_made_again() {
    let (place, imgref, record) = pulled();
    let (dir, rest) = record.commit.split_at(2);
    let object = format!("objects/{dir}/{rest}.commit");
    std::fs::remove_file(place.repo_path().join(object)).unwrap();
    assert_eq!(place.plan(&imgref).layers_to_fetch(), 0);
    assert_eq!(place.pull(&imgref).unwrap(), record);
    place.check();
}

#[test]
fn a_plan_survives_a_prune() {
    let (place, imgref, record) = pulled();
    let image = place.layout();
    let other = ImageReference {
        name: format!("{}:other", image.display()),
        ..imgref.clone()
    };
    std::fs::remove_dir_all(&image).unwrap();
    let (again, ..) = pulled();
    std::fs::rename(again.layout(), &image).unwrap();
    let index = image.join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("\"os\"", "\"other\"")).unwrap();
    let plan = place.plan(&other);
    assert_eq!(plan.layers_to_fetch(), 0);
    place.repo.remove_image(&imgref).unwrap();
    place.repo.prune().unwrap();
    assert_eq!(place.run(&other, plan).unwrap().manifest, record.manifest);
    place.check();
}

#[test]
fn a_prune_waits_for_a_pull_before_it_decides() {
    let (place, imgref, record) = pulled();
    let layer = refs::of_blob(&record.manifest.layers[0].digest);
    let staging = place.repo.staging().unwrap();
    place.repo.remove_image(&imgref).unwrap();
    let path = place.repo_path();
    let prune = std::thread::spawn(move || Repo::open(&path).unwrap().prune().unwrap());
    let tmp = std::fs::File::open(place.repo_path().join("tmp")).unwrap();
    let there = || place.repo.resolve_ref(&layer).unwrap().is_some();
    // Until the prune has got as far as it can.
    let free = || flock(&tmp, FlockOperation::NonBlockingLockExclusive).is_ok();
    while free() && there() {
        flock(&tmp, FlockOperation::Unlock).unwrap();
        std::thread::yield_now();
    }
    let image = refs::of_image(&imgref).unwrap();
    let moved = [(image, record.commit.clone())];
    staging.publish(Vec::new(), &moved).unwrap();
    drop(staging);
    assert_eq!(prune.join().unwrap().layers, 0);
    assert!(there());
    place.check();
}

#[test]
fn what_must_stay_free_stays_free() {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    let image = image
        .unwrap()
        .derived("data /usr/big 0 0 644 20000000 1")
        .unwrap();
    let mut place = Place::new("bare-user");
    let imgref = place.add(&image.build(), "os");
    let plan = place.plan(&imgref);
    place.ostree(&["config", "set", "core.min-free-space-size", "900TB"]);
    place.repo = Repo::open(&place.repo_path()).unwrap();
    let error = place.prepare(&imgref).unwrap_err();
    let space = error.downcast_ref();
    assert!(matches!(
        space,
        Some(Unsuitable::Space { available: 0, .. })
    ));
    let error = format!("{:#}", place.run(&imgref, plan).unwrap_err());
    assert!(error.contains("min-free-space keeps"), "{error}");
    place.check();
}
