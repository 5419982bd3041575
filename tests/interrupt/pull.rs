//! A pull of a new version on top of an old one, killed everywhere.

use std::path::Path;
use std::process::Command;

use bowline::image::{Compression, ImageReference};
use bowline::repo::{Repo, refs};
use bowline::testing::{Encapsulation, Fixture, OS};
use tempfile::TempDir;

use crate::kill::{can_trace, kill_everywhere, killed_at, succeed};

/// The calls by which a pull changes the file system, and those that come between.
const CALLS: [&str; 7] = [
    "openat", "write", "fchmod", "renameat", "mkdirat", "unlinkat", "syncfs",
];

fn ostree(repo: &Path, args: &[&str]) -> String {
    let repo = format!("--repo={}", repo.display());
    let output = Command::new("ostree").arg(repo).args(args).output();
    let output = output.expect("this test needs the ostree program");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ostree {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Arguments of the pull of an image.
fn pull<'a>(repo: &'a Path, imgref: &'a str) -> [&'a str; 6] {
    let repo = repo.to_str().unwrap();
    ["-q", "image", "pull", "--repo", repo, imgref]
}

struct Scene {
    dir: TempDir,
    imgref: ImageReference,
    old: String,
    new: String,
}

/// A repository with version 1 of an image whose tag means version 2 by now.
fn scene() -> Scene {
    let dir = TempDir::new().unwrap();
    let fixture = Fixture::new().unwrap();
    let image = |lines: &str, top: &str| {
        let commit = fixture.commit(lines).unwrap();
        let how = Encapsulation {
            compression: Compression::Zstd,
            ..Encapsulation::chunked()
        };
        let image = how.image(fixture.repo(), &commit).unwrap();
        image.derived(top).unwrap().build()
    };
    let (layout, repo) = (dir.path().join("image"), dir.path().join("repo"));
    ostree(&repo, &["init", "--mode=bare"]);
    let imgref: ImageReference = format!("oci:{}:os", layout.display()).parse().unwrap();
    image(OS, "file /etc/top 0 0 644 one")
        .write_layout(&layout, "os")
        .unwrap();
    succeed(&pull(&repo, &imgref.to_string()));
    let image_ref = refs::of_image(&imgref).unwrap();
    let old = ostree(&repo, &["ls", "-R", "-C", &image_ref]);
    let changed = format!("{OS}\ndata /usr/lib/more 0 0 644 400000 5\nfile /usr/bin/b 0 0 755 b\n");
    image(&changed, "file /etc/top 0 0 644 two\nwhiteout /usr/bin/hi")
        .write_layout(&layout, "os")
        .unwrap();
    let done = dir.path().join("done");
    copy(&repo, &done);
    succeed(&pull(&done, &imgref.to_string()));
    let new = ostree(&done, &["ls", "-R", "-C", &image_ref]);
    assert_ne!(old, new);
    Scene {
        dir,
        imgref,
        old,
        new,
    }
}

#[test]
fn a_killed_pull_leaves_the_old_image_or_the_new_one() {
    if !can_trace() {
        return;
    }
    let scene = scene();
    let harmless = |call: &str, when| killed_pull_is_harmless(&scene, call, when);
    let kills = kill_everywhere(&CALLS, harmless);
    assert!(
        kills > 20,
        "only {kills} kills: has the pull changed so much?"
    );
}

/// Kills one pull and checks what it leaves; false when the pull ended before the kill.
fn killed_pull_is_harmless(scene: &Scene, call: &str, when: usize) -> bool {
    let repo = scene.dir.path().join(format!("{call}-{when}"));
    copy(&scene.dir.path().join("repo"), &repo);
    let imgref = scene.imgref.to_string();
    let args = pull(&repo, &imgref);
    let killed = killed_at(call, when, &args);
    let image_ref = refs::of_image(&scene.imgref).unwrap();
    ostree(&repo, &["fsck", "--quiet"]);
    let found = ostree(&repo, &["ls", "-R", "-C", &image_ref]);
    assert!(
        found == scene.old || found == scene.new,
        "{call} {when}: {found}"
    );
    succeed(&args);
    assert_eq!(
        ostree(&repo, &["ls", "-R", "-C", &image_ref]),
        scene.new,
        "{call} {when}"
    );
    ostree(&repo, &["fsck", "--quiet"]);
    let complete = Repo::open(&repo).unwrap().images().unwrap();
    assert_eq!(complete, std::slice::from_ref(&scene.imgref));
    succeed(&["-q", "image", "prune", "--repo", repo.to_str().unwrap()]);
    assert_eq!(
        ostree(&repo, &["ls", "-R", "-C", &image_ref]),
        scene.new,
        "{call} {when}"
    );
    let mut left = std::fs::read_dir(repo.join("tmp")).unwrap();
    let left = left.find(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("bowline-")
    });
    assert!(left.is_none(), "{call} {when}: {left:?}");
    std::fs::remove_dir_all(repo).unwrap();
    killed
}
