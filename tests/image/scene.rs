//! A repository, a layout with images and a policy, all in temporary directories, and the program
//! run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use bowline::testing::samples::stderr;
use bowline::testing::{Fixture, Image, ImageBuilder, samples};

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
        std::fs::write(&path, samples::ANY_IMAGE).unwrap();
        path
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        samples::stdout(&mut self.command(args)).unwrap()
    }

    pub fn assert_fsck(&self) {
        fsck(self.repo.path());
    }
}

pub fn fsck(repo: &Path) {
    let mut command = Command::new("ostree");
    command.args(["fsck", "--quiet", "--repo"]).arg(repo);
    samples::stdout(&mut command).unwrap();
}

/// An ordinary image without an ostree commit.
pub fn plain(words: &str) -> Image {
    let lines = format!("file /usr/bin/hello 0 0 755 {words}\\n");
    ImageBuilder::default().derived(&lines).unwrap().build()
}

/// A bootable image in three ostree layers.
pub fn bootable() -> Image {
    samples::os_image("1", "").unwrap()
}
