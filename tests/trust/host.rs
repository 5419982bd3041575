//! A host that follows a signed image, and somebody who wants it to run another one: whatever is
//! refused leaves the host as it was. Needs root.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use bowline::testing::samples::{stderr, stdout};
use bowline::testing::{CommitOptions, Encapsulation, Fixture, Image, OS, ScratchSysroot};
use serde_json::{Value, json};

use crate::scene::{Gpg, Scene, os};

/// A host that follows a signed image, and the key.
pub struct Host {
    pub scene: Scene,
    pub gpg: Gpg,
    pub key: String,
    pub sysroot: ScratchSysroot,
    pub first: Image,
}

impl Host {
    #[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let scene = Scene::new(&["gpg", "ostree"])?;
        let gpg = Gpg::new(&scene.path("gnupg"));
        let key = gpg.key("os@example.org", "never", &[]);
        gpg.export("os@example.org", &scene.path("os.gpg"));
        let host = Self {
            scene,
            gpg,
            key,
            sysroot: ScratchSysroot::new().unwrap(),
            first: os("1"),
        };
        host.require_gpg();
        host.scene.push(&host.first, "1", &[]);
        host.sign(&host.first, &host.scene.name("1"));
        let output = host.run(&["rebase", &host.scene.signed("1")]);
        assert!(output.status.success(), "{}", stderr(&output));
        Some(host)
    }

    /// Makes the policy ask for a signature by the key.
    pub fn require_gpg(&self) {
        let file = self.scene.path("os.gpg");
        let rule = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": file});
        self.scene.policy(&json!([rule]));
    }

    pub fn sign(&self, image: &Image, name: &str) {
        let digest = image.digest().to_string();
        let signature = self.gpg.sign(&self.key, name, &digest, &[]);
        self.scene.lay(&digest, &[signature]);
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let sysroot = self.sysroot.path().to_str().unwrap();
        self.scene.run(&[&["--sysroot", sysroot], args].concat())
    }

    pub fn repo(&self) -> PathBuf {
        self.sysroot.path().join("ostree/repo")
    }

    /// Everything below `/boot` and beside the deployments with its content, and what the program
    /// tells of deployments and images.
    fn state(&self) -> (Vec<(PathBuf, Vec<u8>)>, String, String) {
        let mut files = Vec::new();
        let mut pending = vec![self.sysroot.path().join("boot")];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => pending.push(entry.path()),
                    false => files.push((entry.path(), fs::read(entry.path()).unwrap_or_default())),
                }
            }
        }
        let deployments = self.sysroot.path().join("ostree/deploy/default/deploy");
        for entry in fs::read_dir(deployments).unwrap().flatten() {
            files.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
        }
        files.sort();
        let text = |args: &[&str]| String::from_utf8(self.run(args).stdout).unwrap();
        (files, text(&["status", "--json"]), text(&["image", "list"]))
    }

    /// What `status` tells of the deployment that boots next.
    pub fn next(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        let mut status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["status"]["otherDeployments"][0].take()
    }

    /// Upgrades, or follows another image; that must be refused for a reason with these words.
    pub fn refuses(&self, args: &[&str], words: &str) {
        self.fails(4, args, words);
    }

    /// Runs a command that must end with this code and these words, and change nothing.
    pub fn fails(&self, code: i32, args: &[&str], words: &str) {
        let before = self.state();
        let output = self.run(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(words), "{words:?} is not in: {told}");
        assert_eq!(self.state(), before, "{args:?}");
    }

    pub fn upgrades(&self) {
        let output = self.run(&["upgrade"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    /// Offers the second version under the followed tag.
    pub fn second(&self) -> Image {
        let second = os("2");
        self.scene.push(&second, "1", &[]);
        second
    }
}

/// The image of a version with one more layer on top of its ostree commit.
pub fn layered(version: &str, lines: &str) -> Image {
    let fixture = Fixture::new().unwrap();
    let mut options = CommitOptions::default();
    options.metadata[0].1 = version.into();
    let commit = fixture.commit_with(&format!("{OS}\n"), &options).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    image.unwrap().derived(lines).unwrap().build()
}

/// Runs `ostree` on a repository; what it prints goes out.
pub fn ostree(repo: &std::path::Path, args: &[&str]) -> String {
    let mut command = Command::new("ostree");
    command.arg(format!("--repo={}", repo.display())).args(args);
    stdout(&mut command).unwrap()
}
