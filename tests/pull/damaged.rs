//! Repositories that something else has changed: objects, commits or refs that went away, a prune
//! at the wrong moment, a disk that must not fill up. Pulling again makes the image whole.

use bowline::image::{Digest, ImageReference};
use bowline::pull::Unsuitable;
use bowline::repo::{Damaged, ImageRecord, Repo, refs};
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use rustix::fs::{FlockOperation, flock};

use crate::support::{POLICY, Place};

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

/// The checksums of what stands at a path of a commit: a file's own, or those of a directory's entries
/// and of its metadata.
fn checksums(place: &Place, commit: &str, path: &str) -> Vec<String> {
    let line = place.ostree(&["ls", "-d", "-C", commit, path]);
    let words = line.split_whitespace().skip(4).map(str::to_owned);
    words.take_while(|word| !word.starts_with('/')).collect()
}

/// Replaces bytes of an object, in place.
fn change(place: &Place, (checksum, extension): (&str, &str), from: &[u8], to: &[u8]) {
    let (dir, rest) = checksum.split_at(2);
    let object = place
        .repo_path()
        .join(format!("objects/{dir}/{rest}.{extension}"));
    let mut bytes = std::fs::read(&object).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from);
    let at = at.unwrap_or_else(|| panic!("{from:?} is not in {}", object.display()));
    bytes[at..at + to.len()].copy_from_slice(to);
    std::fs::write(&object, bytes).unwrap();
}

/// New objects are named by what is read of old ones; that must be what the old names say, or the new
/// ones would vouch for it.
#[test]
fn what_was_changed_does_not_become_part_of_another_tree() {
    let (place, _, record) = pulled();
    let base = place
        .repo
        .resolve_ref(&refs::of_blob(&record.manifest.layers[0].digest));
    let base = base.unwrap().unwrap();
    let of = |path: &str| checksums(&place, &base, path);
    let sum = |hex: &str| *Digest::from_hex(hex).unwrap().as_bytes();
    let (hello, bin, root) = (of("/usr/bin/hello"), of("/usr/bin"), of("/"));
    let (big, usr) = (sum(&of("/usr/lib/big")[0]), sum(&of("/usr")[0]));
    let modes = (0o40755u32.to_be_bytes(), 0o40777u32.to_be_bytes());
    let content = place.ostree(&["cat", &base, "/usr/bin/hello"]).into_bytes();
    let mut other = content.clone();
    other[0] ^= 1;
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    let labelled = Encapsulation::chunked()
        .image(fixture.repo(), &commit)
        .unwrap();
    let labelled = labelled
        .derived("file /usr/bin/own 0 0 755 own\\n")
        .unwrap();
    let labelled = place.add(&labelled.derived(POLICY).unwrap().build(), "labelled");
    for (object, from, to) in [
        ((&*hello[0], "file"), &content[..], &other[..]),
        ((&*bin[0], "dirtree"), &sum(&hello[0])[..], &big[..]),
        ((&*bin[1], "dirmeta"), &modes.0[..], &modes.1[..]),
        ((&*base, "commit"), &sum(&root[0])[..], &usr[..]),
    ] {
        change(&place, object, from, to);
        let error = place.pull(&labelled).unwrap_err();
        let damaged = error.chain().find_map(Damaged::of);
        let damaged = damaged.unwrap_or_else(|| panic!("{object:?}: {error:#}"));
        let (dir, rest) = object.0.split_at(2);
        let name = damaged.object.replace('/', "");
        assert!(
            name.starts_with(&format!("{dir}{rest}")),
            "{object:?}: {error:#}"
        );
        change(&place, object, to, from);
    }
    place.pull(&labelled).unwrap();
    place.check();
}
