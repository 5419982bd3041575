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

#[test]
fn what_two_layers_have_is_written_once() {
    if !can_trace() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let (layout, repo) = (dir.path().join("image"), dir.path().join("repo"));
    let image = ImageBuilder::default().derived(&layer("one")).unwrap();
    let image = image.derived(&layer("two")).unwrap().build();
    image.write_layout(&layout, "os").unwrap();
    let init = Command::new("ostree")
        .args(["init", "--mode=bare", "--repo"])
        .arg(&repo)
        .status();
    assert!(init.expect("this test needs the ostree program").success());
    let traces = dir.path().join("traces");
    std::fs::create_dir(&traces).unwrap();
    let pulled = Command::new("strace")
        .args([
            "-ff",
            "-qq",
            "-y",
            "-s",
            "64",
            "-e",
            "trace=write,rename,renameat,renameat2",
            "-o",
        ])
        .arg(traces.join("t"))
        .arg(env!("CARGO_BIN_EXE_bowline"))
        .args(["-q", "image", "pull", "--repo"])
        .args([
            repo.as_os_str(),
            format!("oci:{}:os", layout.display()).as_ref(),
        ])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&pulled.stderr);
    assert!(pulled.status.success(), "{error}");
    let (named, unnamed, kept) = written(&traces);
    assert_eq!(named, FILES * SIZE + "one".len() + "two".len());
    // Nobody knows that a big file is there before its end.
    assert!([BIG, 2 * BIG].contains(&unnamed), "{unnamed}");
    assert_eq!(kept, 1);
}
