//! A scratch directory with repositories, and the program run on them without the user's environment.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use bowline::testing::{Fixture, samples};
use serde_json::Value;

pub struct Scene {
    dir: tempfile::TempDir,
    policy: PathBuf,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.json");
        std::fs::write(&policy, samples::ANY_IMAGE).unwrap();
        Self { dir, policy }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    pub fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    /// An empty repository that needs no root; its path goes out.
    pub fn repo(&self, name: &str) -> String {
        let path = self.text(name);
        run("ostree", &["init", "--mode=archive", "--repo", &path]);
        path
    }

    /// The name of an image in a layout of this scene.
    pub fn image(&self, name: &str) -> String {
        format!("oci:{}:tag", self.text(name))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .args(args)
            .env_clear()
            .env("CONTAINERS_POLICY_JSON", &self.policy);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub fn bytes(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {words}");
        output.stdout
    }

    /// The same with text.
    pub fn ok(&self, args: &[&str]) -> String {
        String::from_utf8(self.bytes(args)).unwrap()
    }

    /// Takes the commit out of an image, into a new repository, whose path goes out.
    pub fn taken(&self, image: &str, name: &str, write_ref: &str) -> String {
        let repo = self.repo(name);
        let options = ["-q", "--repo", &repo, "--write-ref", write_ref];
        self.ok(&[&["container", "unencapsulate", image], &options[..]].concat());
        repo
    }

    /// Runs a command that must succeed on the second day of 1970.
    pub fn ok_at_epoch(&self, args: &[&str]) -> String {
        let output = self
            .command(args)
            .env("SOURCE_DATE_EPOCH", "86400")
            .output();
        let output = output.unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with bytes on stdin.
    pub fn piped(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
        // It may not want all of it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Manifest and config of the only image in a layout.
    pub fn parts(&self, layout: &str) -> (Value, Value) {
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            self.json(&format!("{layout}/blobs/{}", digest.replace(':', "/")))
        };
        let index = self.json(&format!("{layout}/index.json"));
        let manifest = blob(&index["manifests"][0]);
        let config = blob(&manifest["config"]);
        (manifest, config)
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Encapsulates the commit of a fixture into a layout of the scene.
pub fn encapsulate(scene: &Scene, fixture: &Fixture, commit: &str, more: &[&str]) -> String {
    let (repo, image) = (fixture.path().to_str().unwrap(), scene.image("layout"));
    let args = ["container", "encapsulate", "--repo", repo, commit, &image];
    scene.ok(&[&args[..], more].concat())
}

/// Runs another program that must succeed; its standard output goes out.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program is there; says so where not.
#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {program}");
    }
    found
}
