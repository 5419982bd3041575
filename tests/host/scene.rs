//! What the tests of this directory share: a scratch sysroot with images to follow, and running
//! the program on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use bowline::testing::samples::stderr;
use bowline::testing::{Image, ScratchSysroot, samples};
use serde_json::Value;

/// libostree freezes the file system of `/boot` for a moment when it writes boot entries; until
/// it thaws, nobody can remount it. Tests share one file system.
static TURN: RwLock<()> = RwLock::new(());

/// Lets a test begin that writes deployments; nothing where there is no root.
pub fn turn() -> Option<RwLockReadGuard<'static, ()>> {
    let turn = || TURN.read().unwrap_or_else(PoisonError::into_inner);
    is_root().then(turn)
}

/// The same for a test that remounts: it runs alone.
pub fn alone() -> Option<RwLockWriteGuard<'static, ()>> {
    let turn = || TURN.write().unwrap_or_else(PoisonError::into_inner);
    is_root().then(turn)
}

#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A sysroot, and a layout directory whose tag `os` is followed.
pub struct Scene {
    pub sysroot: ScratchSysroot,
    pub dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            sysroot: ScratchSysroot::new().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.sysroot.path()
    }

    pub fn image_name(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.dir.path().join("layout").display())
    }

    pub fn publish(&self, image: &Image, tag: &str) {
        let layout = self.dir.path().join("layout");
        image.write_layout(&layout, tag).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let policy = self.dir.path().join("policy.json");
        fs::write(&policy, samples::ANY_IMAGE).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.arg("--sysroot").arg(self.path()).args(args);
        command.env_clear().env("CONTAINERS_POLICY_JSON", policy);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; its stdout goes out.
    pub fn ok(&self, args: &[&str]) -> String {
        samples::stdout(&mut self.command(args)).unwrap()
    }

    /// Runs a command that must fail with a code; its stderr goes out. Nothing may have changed.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let before = self.state();
        let output = self.run(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
        assert_eq!(self.state(), before, "{args:?} changed the sysroot");
        self.fsck();
        stderr(&output)
    }

    /// What boots, what is deployed, and all refs.
    pub fn state(&self) -> (Vec<String>, String, Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(self.path().join("boot/loader/entries"))
            .map(|dir| {
                dir.map(|e| fs::read_to_string(e.unwrap().path()).unwrap())
                    .collect()
            })
            .unwrap_or_default();
        entries.sort();
        let sysroot = format!("--sysroot={}", self.path().display());
        let status = ostree(&["admin", "status", &sysroot]);
        let mut refs = Vec::new();
        list_refs(&self.repo().join("refs"), &mut refs);
        refs.sort();
        (entries, status, refs)
    }

    pub fn repo(&self) -> PathBuf {
        self.path().join("ostree/repo")
    }

    pub fn fsck(&self) {
        ostree(&[
            "fsck",
            "--quiet",
            &format!("--repo={}", self.repo().display()),
        ]);
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    pub fn images(&self) -> String {
        self.ok(&["image", "list", "--format", "json"])
    }

    /// The tree of the deployment that boots next.
    pub fn next(&self) -> PathBuf {
        let status = self.status();
        let ostree = &status["status"]["otherDeployments"][0]["ostree"];
        let stateroot = ostree["stateroot"].as_str().unwrap();
        let name = format!(
            "{}.{}",
            ostree["checksum"].as_str().unwrap(),
            ostree["deploySerial"]
        );
        self.path()
            .join("ostree/deploy")
            .join(stateroot)
            .join("deploy")
            .join(name)
    }
}

/// Refs with what they point to.
fn list_refs(dir: &Path, refs: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_refs(&path, refs);
        } else {
            let commit = fs::read_to_string(&path).unwrap();
            refs.push(format!("{} {}", path.display(), commit.trim()));
        }
    }
}

pub fn ostree(args: &[&str]) -> String {
    samples::stdout(Command::new("ostree").args(args)).unwrap()
}

/// The fixture OS as an image; `more` are further fixture lines.
pub fn os(version: &str, more: &str) -> Image {
    samples::os_image(version, more).unwrap()
}
