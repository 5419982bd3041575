//! Wherever an image is written to, it is the same one, and the commit comes back out of it.

use std::os::unix::fs::FileTypeExt as _;

use bowline::testing::Fixture;
use bowline::testing::fixture::OS;

use crate::scene::{Scene, has, run};

/// A commit in several layers.
fn commit(fixture: &Fixture) -> String {
    let big = |n: u32| format!("data /usr/lib/d{n}/big 0 0 644 {} {n}\n", 300_000 + n);
    let lines: String = (1..9).map(big).collect();
    fixture.commit(&format!("{OS}\n{lines}")).unwrap()
}

fn encapsulate(scene: &Scene, fixture: &Fixture, commit: &str, to: &str) -> String {
    let repo = fixture.path().to_str().unwrap();
    let args = ["container", "encapsulate", "--repo", repo, commit, to];
    scene.ok(&args).trim().to_owned()
}

#[test]
fn each_destination_gets_the_same_image_and_gives_the_commit_back() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = commit(&fixture);
    let digest = encapsulate(&scene, &fixture, &commit, &scene.image("layout"));
    let (manifest, _) = scene.parts("layout");
    assert!(manifest["layers"].as_array().unwrap().len() > 1);
    for to in [
        format!("oci-archive:{}:a/b:1", scene.text("oci.tar")),
        format!("docker-archive:{}:localhost/os:1", scene.text("docker.tar")),
        format!("docker-archive:{}", scene.text("nameless.tar")),
        format!("dir:{}", scene.text("dir")),
    ] {
        assert_eq!(encapsulate(&scene, &fixture, &commit, &to), digest, "{to}");
        let repo = scene.repo(&to.replace('/', "_"));
        let args = ["container", "unencapsulate", "-q", "--repo", &repo, &to];
        assert_eq!(scene.ok(&args).trim(), commit, "{to}");
        run("ostree", &["fsck", "-q", "--repo", &repo]);
        if has("skopeo") {
            run("skopeo", &["inspect", "--config", &to]);
        }
    }
    // One that docker reads is an OCI archive, too.
    let also = format!("oci-archive:{}", scene.text("docker.tar"));
    let args = ["container", "inspect", "--format", "json", &also];
    assert!(scene.ok(&args).contains(&digest));
}

#[test]
fn archives_are_the_same_each_time() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = commit(&fixture);
    for kind in ["oci-archive", "docker-archive"] {
        let mut made = Vec::new();
        for name in ["a.tar", "b.tar", "a.tar"] {
            let to = format!("{kind}:{}:localhost/os:1", scene.text(name));
            encapsulate(&scene, &fixture, &commit, &to);
            made.push(std::fs::read(scene.path(name)).unwrap());
        }
        assert!(made[0] == made[1] && made[0] == made[2], "{kind}");
    }
}

#[test]
fn what_is_no_place_for_an_image_stays_as_it_is() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let (commit, repo) = (commit(&fixture), fixture.path().to_str().unwrap());
    let file = scene.write("file", b"mine");
    let in_use = scene.text("");
    run("mkfifo", &[&scene.text("pipe")]);
    for (to, words) in [
        (
            format!("oci-archive:{}", scene.text("pipe")),
            "is not a file",
        ),
        ("docker-archive:/dev/null".into(), "is not a file"),
        (format!("oci-archive:{in_use}"), "is not a file"),
        (format!("dir:{in_use}"), "neither empty nor an image"),
        (format!("oci:{in_use}:x"), "neither empty nor an OCI layout"),
        (format!("docker-archive:{file}:UPPER:1"), "needs a name"),
        (
            format!("docker-archive:{file}:a@sha256:{}", "0".repeat(64)),
            "name a tag",
        ),
        ("docker-daemon:os:1".into(), "does not write images"),
    ] {
        let output = scene.run(&["container", "encapsulate", "--repo", repo, &commit, &to]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(2 | 7)), "{to}: {said}");
        assert!(said.contains(words), "{to}: {said}");
    }
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
    let kind = |path: &str| std::fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind("/dev/null").is_char_device() && kind(&scene.text("pipe")).is_fifo());
}
