//! What a pull writes, counted by strace: of layers that come at the same time, each object once.

use std::path::Path;
use std::process::Command;

use bowline::testing::oci::ImageBuilder;
use tempfile::TempDir;

use crate::kill::can_trace;

const FILES: usize = 30;
const SIZE: usize = 60_000;
const BIG: usize = 1 << 20;

/// A layer with much that the other one has, too.
fn layer(own: &str) -> String {
    let common: String = (0..FILES)
        .map(|n| format!("data /usr/lib/f{n} 0 0 644 {SIZE} {n}\n"))
        .collect();
    format!("{common}data /usr/lib/big 0 0 644 {BIG} 99\nfile /usr/bin/{own} 0 0 755 {own}\n")
}

/// Bytes written to objects of known names, bytes written to files that had none yet, and how many of
/// these got one.
fn written(traces: &Path) -> (usize, usize, usize) {
    let (mut named, mut unnamed, mut kept) = (0, 0, 0);
    for trace in std::fs::read_dir(traces).unwrap() {
        let trace = std::fs::read(trace.unwrap().path()).unwrap();
        for line in String::from_utf8_lossy(&trace).lines() {
            let staged = line.contains("/tmp/bowline-");
            if staged && line.starts_with("write(") {
                let bytes: usize = line.rsplit(" = ").next().unwrap().parse().unwrap();
                match line.contains("/big>") {
                    true => unnamed += bytes,
                    false if line.contains(".file>") => named += bytes,
                    false => {}
                }
            }
            kept += usize::from(staged && line.contains("\"big\"") && line.starts_with("rename"));
        }
    }
    (named, unnamed, kept)
}

/// A new repository, and where an image of these layers comes from.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let init = Command::new("ostree")
            .args(["init", "--mode=bare", "--repo"])
            .arg(dir.path().join("repo"))
            .status();
        assert!(init.expect("this test needs the ostree program").success());
        Self { dir }
    }

    /// Pulls an image of these layers; gives what was written, as [`written`] does.
    fn pull(&self, name: &str, layers: &[&str]) -> (usize, usize, usize) {
        let (layout, traces) = (self.dir.path().join(name), self.dir.path().join("traces"));
        let mut image = ImageBuilder::default();
        for layer in layers {
            image = image.derived(layer).unwrap();
        }
        image.build().write_layout(&layout, "os").unwrap();
        let _ = std::fs::remove_dir_all(&traces);
        std::fs::create_dir(&traces).unwrap();
        let pulled = Command::new("strace")
            .args(["-ff", "-qq", "-y", "-s", "64"])
            .args(["-e", "trace=write,rename,renameat,renameat2", "-o"])
            .arg(traces.join("t"))
            .arg(env!("CARGO_BIN_EXE_bowline"))
            .args(["-q", "image", "pull", "--repo"])
            .arg(self.dir.path().join("repo"))
            .arg(format!("oci:{}:os", layout.display()))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&pulled.stderr);
        assert!(pulled.status.success(), "{error}");
        written(&traces)
    }
}

#[test]
fn what_two_layers_have_is_written_once() {
    if !can_trace() {
        return;
    }
    let (named, unnamed, kept) = Scene::new().pull("image", &[&layer("one"), &layer("two")]);
    assert_eq!(named, FILES * SIZE + "one".len() + "two".len());
    // Nobody knows that a big file is there before its end.
    assert!([BIG, 2 * BIG].contains(&unnamed), "{unnamed}");
    assert_eq!(kept, 1);
}

#[test]
fn what_an_image_here_has_is_not_written_again() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    let etc = format!("data /etc/big 0 0 644 {BIG} 98\n");
    scene.pull("first", &[&layer("one"), &etc]);
    // The layers are new, their files are not.
    let etc = etc + "file /etc/new 0 0 644 new\n";
    let written = scene.pull("second", &[&layer("two"), &etc]);
    assert_eq!(written, ("two".len() + "new".len(), 0, 0));
    // The same content with another mode is another object.
    let mode = format!("data /usr/lib/big 0 0 600 {BIG} 99\n");
    assert_eq!(scene.pull("third", &[&mode]).2, 1);
    let differs = format!("data /usr/lib/big 0 0 600 {BIG} 97\n");
    assert_eq!(scene.pull("fourth", &[&differs]), (0, BIG, 1));
    let fsck = Command::new("ostree")
        .args(["fsck", "-q", "--repo"])
        .arg(scene.dir.path().join("repo"))
        .status();
    assert!(fsck.unwrap().success());
}
