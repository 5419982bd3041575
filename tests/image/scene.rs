//! A repository, a layout with images and a policy, all in temporary directories, and the program
//! run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{CommitOptions, Fixture, OS};
use bowline::testing::oci::{Image, ImageBuilder};

/// A repository to pull into and a layout to pull from.
pub struct Scene {
    pub repo: Fixture,
    pub dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            repo: Fixture::new().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn layout(&self) -> PathBuf {
        self.dir.path().join("layout")
    }

    /// Offers an image under a tag; its name for the command line goes out.
    pub fn offer(&self, image: &Image, tag: &str) -> String {
        image.write_layout(&self.layout(), tag).unwrap();
        format!("oci:{}:{tag}", self.layout().display())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .args(["image", "--repo"])
            .arg(self.repo.path())
            .args(args)
            .env_clear()
            .env("CONTAINERS_POLICY_JSON", self.policy());
        command
    }

    pub fn policy(&self) -> PathBuf {
        let path = self.dir.path().join("policy.json");
        std::fs::write(&path, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        path
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            stderr(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn assert_fsck(&self) {
        fsck(self.repo.path());
    }
}

pub fn fsck(repo: &Path) {
    let output = Command::new("ostree")
        .args(["fsck", "--quiet", "--repo"])
        .arg(repo)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An ordinary image without an ostree commit.
pub fn plain(words: &str) -> Image {
    let lines = format!("file /usr/bin/hello 0 0 755 {words}\\n");
    ImageBuilder::default().derived(&lines).unwrap().build()
}

/// A bootable image in three ostree layers.
pub fn bootable() -> Image {
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit_with(OS, &CommitOptions::default()).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    image.unwrap().build()
}
