//! Layers of one pull that have the same objects, published in every order.

#![allow(clippy::print_stderr, reason = "a test that cannot run says why")]

use std::path::Path;

use ostree::gio;
use tempfile::TempDir;

use super::*;
use crate::repo::Repo;
use crate::repo::digests::Digests;
use crate::repo::layer_stage::Chunks;
use crate::repo::object::{FileMeta, S_IFLNK, S_IFREG};
use crate::repo::tar_stream::TarError;
use crate::repo::{commit, gvariant};

/// Content of a file, in one slice.
struct Content<'a>(Option<&'a [u8]>);

impl Chunks for Content<'_> {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        Ok(self.0.take())
    }
}

struct Scene {
    repo: Repo,
    staging: Staging,
    dir: TempDir,
}

/// An empty repository in each mode that can be tested here.
fn scenes() -> Vec<Scene> {
    let mut modes = vec![ostree::RepoMode::BareUser, ostree::RepoMode::Archive];
    match rustix::process::geteuid().is_root() {
        true => modes.push(ostree::RepoMode::Bare),
        false => eprintln!("skipped for bare repositories: they need root"),
    }
    modes.into_iter().map(scene).collect()
}

fn scene(mode: ostree::RepoMode) -> Scene {
    let dir = TempDir::new().unwrap();
    let repo = ostree::Repo::new_for_path(dir.path());
    repo.create(mode, gio::Cancellable::NONE).unwrap();
    let repo = Repo::wrap(repo).unwrap();
    let staging = repo.staging().unwrap();
    Scene { repo, staging, dir }
}

/// Stages a file; its name alone says what is in it.
fn file(stage: &mut LayerStage, name: &str, size: usize) -> Digest {
    let content = name.repeat(size / name.len() + 1);
    let meta = FileMeta {
        mode: S_IFREG | 0o644,
        ..FileMeta::default()
    };
    let content = &content.as_bytes()[..size];
    stage
        .file(&meta, size as u64, None, &mut Content(Some(content)))
        .unwrap()
}

fn link(stage: &mut LayerStage, target: &str) -> Digest {
    let meta = FileMeta {
        mode: S_IFLNK | 0o777,
        target: target.into(),
        ..FileMeta::default()
    };
    stage.file(&meta, 0, None, &mut Content(None)).unwrap()
}

/// Stages a small file, a big one, a link and directory metadata that all layers have, and a file
/// of its own; gives the file objects and the layer's commit.
fn layer(scene: &Scene, own: &str) -> (LayerStage, Vec<Digest>, Digest) {
    let mut stage = scene.staging.layer().unwrap();
    let mut files = vec![
        file(&mut stage, "small", 100),
        file(&mut stage, "big", 1 << 20),
        link(&mut stage, "target"),
    ];
    files.push(file(&mut stage, own, 70));
    let dirmeta = gvariant::metadata(0, 0, 0o040_755, &Vec::new());
    stage.metadata(ObjectKind::DirMeta, &dirmeta).unwrap();
    let mut sorted = Digests::default();
    for file in &files {
        sorted.push(*file, || stage.unnamed()).unwrap();
    }
    let commit = commit::write_chunk(&mut stage, sorted).unwrap();
    (stage, files, commit)
}

fn publish(scene: &Scene, stage: LayerStage, name: &str, commit: Digest) {
    let refs = [(name.to_owned(), commit.hex())];
    scene.staging.publish(vec![stage], &refs).unwrap();
    check(scene, commit);
}

/// A commit is here, with all that it refers to, and libostree agrees with the names.
fn check(scene: &Scene, commit: Digest) {
    let repo = scene.repo.ostree();
    let objects = repo.traverse_commit(&commit.hex(), -1, gio::Cancellable::NONE);
    let objects = objects.unwrap();
    assert!(objects.len() > 6, "{objects:?}");
    for object in objects {
        let (name, kind) = (object.checksum().to_owned(), object.object_type());
        repo.fsck_object(kind, &name, gio::Cancellable::NONE)
            .unwrap();
    }
}

/// Files in the directories of all layers.
fn staged_files(scene: &Scene) -> usize {
    let files = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    let tmp = scene.dir.path().join("tmp").join(&scene.staging.name);
    let dirs = std::fs::read_dir(tmp).unwrap().map(|e| e.unwrap().path());
    dirs.filter(|dir| !dir.ends_with("refs"))
        .map(|dir| files(&dir))
        .sum()
}

#[test]
fn what_one_layer_has_staged_no_other_one_writes() {
    for scene in scenes() {
        let (one, files, first) = layer(&scene, "one");
        let before = staged_files(&scene);
        let (two, others, second) = layer(&scene, "two");
        assert_eq!(files[..3], others[..3]);
        assert_ne!(files[3], others[3]);
        // A file, a directory tree and a commit of its own.
        assert_eq!(staged_files(&scene), before + 3);
        assert!(two.bytes() < 1000 && one.bytes() > 1 << 20);
        publish(&scene, two, "two", second);
        assert!(!scene.repo.has(files[3], ObjectKind::File).unwrap());
        publish(&scene, one, "one", first);
        check(&scene, second);
        assert_eq!(staged_files(&scene), 0);
    }
}

#[test]
fn objects_of_a_layer_that_failed_go_with_the_layer_that_needs_them() {
    for scene in scenes() {
        let (one, files, failed) = layer(&scene, "one");
        let (two, _, commit) = layer(&scene, "two");
        drop(one);
        let (three, _, third) = layer(&scene, "three");
        publish(&scene, two, "two", commit);
        publish(&scene, three, "three", third);
        assert!(!scene.repo.has(files[3], ObjectKind::File).unwrap());
        assert!(!scene.repo.has(failed, ObjectKind::Commit).unwrap());
        let (tmp, staging) = (scene.dir.path().join("tmp"), scene.staging.name.clone());
        drop(scene.staging);
        assert!(!tmp.join(staging).exists());
    }
}

#[test]
fn what_a_layer_published_is_not_written_again() {
    for scene in scenes() {
        let (one, _, first) = layer(&scene, "one");
        let (two, _, second) = layer(&scene, "two");
        publish(&scene, one, "one", first);
        publish(&scene, two, "two", second);
        let (three, _, third) = layer(&scene, "three");
        assert!(three.bytes() < 1000);
        assert_eq!(staged_files(&scene), 3);
        publish(&scene, three, "three", third);
    }
}

#[test]
fn both_at_once_and_the_same_layer_twice() {
    for scene in scenes() {
        let (one, _, first) = layer(&scene, "one");
        let (again, _, second) = layer(&scene, "one");
        assert_eq!((first, again.bytes()), (second, 0));
        let refs = ["a", "b"].map(|name| (name.to_owned(), first.hex()));
        scene.staging.publish(vec![again, one], &refs).unwrap();
        check(&scene, first);
    }
}

#[test]
fn what_its_first_layer_does_not_need_another_one_may() {
    for scene in scenes() {
        let (mut one, files, _) = layer(&scene, "one");
        let (mut two, others, _) = layer(&scene, "two");
        let files_of = |files: &[Digest]| files.iter().map(|f| (*f, ObjectKind::File)).collect();
        one.forget(&files_of(&files[..3]));
        two.forget(&files_of(&others[3..]));
        scene.staging.publish(vec![one], &[]).unwrap();
        for (file, published) in files.iter().zip([false, false, false, true]) {
            let here = scene.repo.has(*file, ObjectKind::File).unwrap();
            assert_eq!(here, published, "{file}");
        }
        scene.staging.publish(vec![two], &[]).unwrap();
        for (file, published) in others.iter().zip([true, true, true, false]) {
            let here = scene.repo.has(*file, ObjectKind::File).unwrap();
            assert_eq!(here, published, "{file}");
        }
    }
}

#[test]
fn layers_at_the_same_time_write_each_object_once() {
    let scene = scene(ostree::RepoMode::BareUser);
    let objects = 300;
    let layers = std::thread::scope(|scope| {
        let stages = [(); 3].map(|()| scene.staging.layer().unwrap());
        let threads = stages.map(|mut stage| {
            scope.spawn(move || {
                for number in 0..objects {
                    file(&mut stage, &format!("file {number}"), 2000);
                }
                stage
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(staged_files(&scene), objects);
    let bytes: u64 = layers.iter().map(LayerStage::bytes).sum();
    assert_eq!(bytes, objects as u64 * 2000);
    let [one, _failed, three] = layers;
    scene.staging.publish(vec![three], &[]).unwrap();
    assert_eq!(staged_files(&scene), 0);
    scene.staging.publish(vec![one], &[]).unwrap();
}
