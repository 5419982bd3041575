//! A host changes hands: the peer deploys what Bowline pulled, Bowline upgrades what the peer
//! deployed, and both write the same origin. Needs root, `ostree`, `skopeo`, `buildah`, `setfattr`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Form, World, bowline, fsck, peer, refs};

fn peer_deploy(sysroot: &str, image: &str) {
    let image = format!("ostree-unverified-image:{image}");
    let args = ["container", "image", "deploy", "--sysroot", sysroot];
    peer(&[&args[..], &["--stateroot", "default", "--imgref", &image]].concat());
}

fn repo(sysroot: &str) -> String {
    format!("{sysroot}/ostree/repo")
}

/// The origin files of a sysroot, sorted by their deployment, without the empty line that
/// older GLibs write between two groups.
fn origins(sysroot: &str) -> Vec<(PathBuf, String)> {
    let dir = Path::new(sysroot).join("ostree/deploy/default/deploy");
    let files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "origin"));
    let mut all: Vec<_> = files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text.replace("\n\n[", "\n["))
        })
        .collect();
    all.sort();
    all
}

/// What only Bowline's origins have, in a group of its own: who vouched for the image, here nobody.
const OWN: &str = "[bowline]\nverified=[]\n";

#[test]
fn both_write_the_same_origin() {
    let world = World::new();
    let image = world.encapsulate(&world.commit, Form::Chunked, "image");
    let (ours, theirs) = (world.new_sysroot("ours"), world.new_sysroot("theirs"));
    bowline(&[
        "rebase",
        "--sysroot",
        &ours,
        &format!("ostree-unverified-image:{image}"),
    ]);
    peer_deploy(&theirs, &image);
    let texts = |sysroot| {
        origins(sysroot)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
    };
    let theirs = texts(&theirs);
    assert_eq!(theirs.len(), 1);
    assert_eq!(texts(&ours), [format!("{}{OWN}", theirs[0])]);
    fsck(&repo(&ours));
}

#[test]
fn the_peer_deploys_what_bowline_pulled() {
    let world = World::new();
    let image = world.encapsulate(&world.commit, Form::Chunked, "image");
    let sysroot = world.new_sysroot("sysroot");
    bowline(&["image", "--repo", &repo(&sysroot), "pull", &image]);
    let before = refs(&repo(&sysroot));
    peer_deploy(&sysroot, &image);
    assert_eq!(origins(&sysroot).len(), 1);
    let kept = |refs: Vec<(String, String)>| {
        let all = refs
            .into_iter()
            .filter(|(n, _)| n.starts_with("ostree/container/"));
        all.collect::<Vec<_>>()
    };
    assert_eq!(
        kept(refs(&repo(&sysroot))),
        kept(before),
        "the peer pulled again"
    );
}

#[test]
fn bowline_upgrades_what_the_peer_deployed() {
    let world = World::new();
    let image = world.encapsulate(&world.commit, Form::Chunked, "image");
    let sysroot = world.new_sysroot("sysroot");
    peer_deploy(&sysroot, &image);
    let etc = origins(&sysroot)[0].0.with_extension("").join("etc/local");
    fs::write(etc, "the administrator's\n").unwrap();

    let next = world.next_version("2");
    fs::remove_dir_all(world.path("image")).unwrap();
    world.encapsulate(&next, Form::Chunked, "image");
    bowline(&["upgrade", "--sysroot", &sysroot]);

    let origins = origins(&sysroot);
    assert_eq!(origins.len(), 2);
    let mut written: Vec<_> = origins.iter().map(|(_, text)| text.as_str()).collect();
    written.sort_unstable();
    assert_eq!(written[1], format!("{}{OWN}", written[0]));
    let motd = |(path, _): &(PathBuf, String)| {
        let etc = path.with_extension("").join("etc");
        let read = |name| fs::read_to_string(etc.join(name)).unwrap();
        (read("motd"), read("local"))
    };
    let mut texts: Vec<_> = origins.iter().map(motd).collect();
    texts.sort();
    let local = || "the administrator's\n".to_string();
    let expected = ["version 1\n", "version 2\n"].map(|m| (m.to_string(), local()));
    assert_eq!(texts, expected);
    fsck(&repo(&sysroot));
    let list = peer(&["container", "image", "list", "--repo", &repo(&sysroot)]);
    assert_eq!(list, format!("{image}\n"));
}
