//! Images that are older than what is there, and images that somebody else chose: refused with exit
//! code 4 before anything is fetched, and installed where that is meant.

use std::fs;

use bowline::image::Digest;
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{CommitOptions, Fixture, OS};
use bowline::testing::{Image, samples};

use crate::booted::{self, Machine, can_run, versions};
use crate::scene::{Scene, os, turn};

/// The fixture OS, made at a time.
fn made_at(version: &str, timestamp: u64) -> Image {
    let fixture = Fixture::new().unwrap();
    let mut options = CommitOptions {
        timestamp,
        ..CommitOptions::default()
    };
    options.metadata[0].1 = version.into();
    let commit = fixture.commit_with(OS, &options).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    image.unwrap().build()
}

const NEW: u64 = 1_780_000_000;

#[test]
fn an_older_image_is_refused_unless_it_is_meant() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let name = scene.image_name("os");
    scene.publish(&made_at("1.10", NEW), "os");
    scene.ok(&["rebase", &name]);

    scene.publish(&made_at("1.9", NEW + 60), "os");
    let version = "is older than what boots next: its version is 1.9, that of the other one 1.10";
    for args in [
        &["upgrade"][..],
        &["upgrade", "--check"],
        &["rebase", &name],
        &["upgrade", "--plan", "--format", "json"],
    ] {
        let said = scene.fails(4, args);
        assert!(said.contains(version), "{args:?}: {said}");
        assert!(said.contains("--allow-downgrade"), "{said}");
    }
    scene.publish(&made_at("1.10", NEW - 60), "os");
    let said = scene.fails(4, &["upgrade"]);
    assert!(
        said.contains(
            "it was made at 2026-05-28 20:25:40 UTC, the other one at 2026-05-28 20:26:40 UTC"
        ),
        "{said}"
    );
    // Another tag of the repository is no way around it, a repository of its own is.
    scene.publish(&made_at("1.9", NEW - 60), "old");
    scene.fails(4, &["rebase", &scene.image_name("old")]);
    scene.ok(&["upgrade", "--download-only"]);
    scene.fails(4, &["upgrade"]);
    scene.ok(&["upgrade", "--allow-downgrade"]);
    scene.ok(&["upgrade"]);
    let other = scene.dir.path().join("other");
    made_at("0.1", 0).write_layout(&other, "os").unwrap();
    scene.ok(&["rebase", &format!("oci:{}:os", other.display())]);
}

#[test]
fn going_back_is_no_downgrade() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    for version in ["1", "2"] {
        scene.publish(&os(version, ""), "os");
        scene.ok(&["rebase", &scene.image_name("os")]);
    }
    scene.ok(&["rollback"]);
    // What boots next is the older one now: the newer one is an update again.
    scene.ok(&["upgrade"]);
}

#[test]
fn only_the_digest_that_is_asked_for_is_deployed() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let name = scene.image_name("os");
    let (one, two) = (os("1", ""), os("2", ""));
    let digest = |image: &Image| image.digest().to_string();
    scene.publish(&one, "os");
    scene.ok(&["rebase", &name, "--require-digest", &digest(&one)]);
    scene.publish(&two, "os");
    for args in [
        &["upgrade", "--require-digest", &digest(&one)][..],
        &["upgrade", "--check", "--require-digest", &digest(&one)],
        &["image", "pull", &name, "--require-digest", &digest(&one)],
    ] {
        let said = scene.fails(4, args);
        let why = format!(
            "is the image {} now, but only {} may be used",
            digest(&two),
            digest(&one)
        );
        assert!(said.contains(&why), "{args:?}: {said}");
    }
    scene.fails(2, &["upgrade", "--require-digest", "sha256:1"]);
    scene.ok(&["upgrade", "--require-digest", &digest(&two)]);
    let status = scene.status();
    let deployed = &status["status"]["otherDeployments"][0]["image"]["imageDigest"];
    assert_eq!(*deployed, digest(&two));
}

#[test]
fn what_runs_counts_and_not_what_is_staged() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let machine = Machine::new(&booted::os("2"));
    for version in ["4", "3"] {
        machine.publish(&booted::os(version));
        machine.bowline(&["upgrade"]);
    }
    assert_eq!(machine.versions(), versions(["3", "2", ""]));
    machine.publish(&booted::os("1"));
    let output = machine.run(&["/mnt/bowline", "upgrade"]);
    assert_eq!(output.status.code(), Some(4));
    let said = samples::stderr(&output);
    let why = "is older than what runs: its version is 1, that of the other one 2";
    assert!(said.contains(why), "{said}");
}

/// Another manifest of what is stored is the same image, unless its digest is asked for.
#[test]
fn a_digest_is_that_of_one_manifest() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let image = os("1", "");
    scene.publish(&image, "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    let layout = scene.dir.path().join("layout");
    let blob = |digest: Digest| layout.join("blobs/sha256").join(digest.hex());
    let manifest = fs::read(blob(image.digest())).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["annotations"]["again"] = "and again".into();
    let manifest = manifest.to_string();
    let again = Digest::of(manifest.as_bytes());
    fs::write(blob(again), &manifest).unwrap();
    let index = fs::read(layout.join("index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    index["manifests"][0]["digest"] = again.to_string().into();
    index["manifests"][0]["size"] = manifest.len().into();
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let deployed =
        || scene.status()["status"]["otherDeployments"][0]["image"]["imageDigest"].clone();
    scene.ok(&["upgrade"]);
    assert_eq!(deployed(), image.digest().to_string());
    scene.ok(&["upgrade", "--require-digest", &again.to_string()]);
    assert_eq!(deployed(), again.to_string());
}
