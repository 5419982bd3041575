//! Archives of every generation of the format are read, and give the same commit.

use std::io::Read;

use crate::scene::Scene;

const COMMIT: &str = "de5b027fd876cb95bcb852ec808cb058481c17c368f7d65d82ed6b819767386a";

fn archive(name: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join(format!("tests/build/generations/{name}.tar.gz"));
    let mut tar = Vec::new();
    let file = std::fs::File::open(file).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut tar)
        .unwrap();
    tar
}

#[test]
fn every_generation_is_read() {
    let mut exported = Vec::new();
    for name in ["v0", "v1", "bootc"] {
        let scene = Scene::new();
        let file = scene.write("commit.tar", &archive(name));
        let repo = scene.repo("repo");
        let printed = scene.ok(&["tar", "import", "--repo", &repo, &file, "--write-ref", "os"]);
        assert_eq!(printed.trim(), COMMIT, "{name}");
        let meta = format!("objects/{}/{}.commitmeta", &COMMIT[..2], &COMMIT[2..]);
        assert!(scene.path("repo").join(meta).exists(), "{name}");
        exported.push(scene.bytes(&["tar", "export", "--repo", &repo, "os"]));
    }
    // What is written is what ostree-ext wrote.
    for archived in exported {
        assert!(archived == archive("v1"));
    }
}

#[test]
fn an_archive_from_stdin_that_is_cut_or_no_archive_is_refused() {
    let whole = archive("v1");
    for (bytes, code) in [
        (&whole[..whole.len() / 2], 3),
        (&b"no archive"[..], 3),
        (&b""[..], 3),
    ] {
        let scene = Scene::new();
        let repo = scene.repo("repo");
        let output = scene.piped(&["tar", "import", "--repo", &repo], bytes);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}");
        assert!(
            words.starts_with("error: Importing the commit in stdin\n"),
            "{words}"
        );
    }
}
