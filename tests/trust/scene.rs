//! A registry, keys, a policy and a repository, all below one temporary directory, and the program run
//! on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline::image::Digest;
use bowline::testing::samples::{stderr, stdout};
use bowline::testing::{Fixture, Image, samples};
use serde_json::{Value, json};

use crate::daemon::{Daemon, missing, run};

/// What tests of one registry need.
pub struct Scene {
    pub dir: tempfile::TempDir,
    pub repo: Fixture,
    pub daemon: Daemon,
}

impl Scene {
    /// Nothing where one of the programs is missing.
    pub fn new(programs: &[&str]) -> Option<Self> {
        if missing(&[&["docker-registry", "skopeo"], programs].concat()) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(dir.path(), json!({}), json!({}));
        let scene = Self {
            dir,
            repo: Fixture::new().unwrap(),
            daemon,
        };
        let lookaside = scene.path("lookaside").display().to_string();
        scene.write(
            "config/containers/registries.d/all.yaml",
            &format!("default-docker:\n  lookaside: file://{lookaside}\n"),
        );
        Some(scene)
    }

    /// Starts the registry anew with more settings; it has another port then.
    pub fn restart(&mut self, settings: Value) {
        self.daemon = Daemon::start(self.dir.path(), json!({}), settings);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        samples::write(self.dir.path(), name, text).unwrap();
        self.path(name)
    }

    /// `HOST/ns/os:TAG`.
    pub fn name(&self, tag: &str) -> String {
        format!("{}/ns/os:{tag}", self.daemon.host)
    }

    /// The name of an image whose signature is asked for.
    pub fn signed(&self, tag: &str) -> String {
        format!("ostree-image-signed:docker://{}", self.name(tag))
    }

    /// Pushes an image as `ns/os:TAG`, with options of skopeo's.
    pub fn push(&self, image: &Image, tag: &str, options: &[&str]) {
        let layout = self.path(&format!("layout-{tag}"));
        image.write_layout(&layout, tag).unwrap();
        let from = format!("oci:{}:{tag}", layout.display());
        let to = format!("docker://{}", self.name(tag));
        let mut arguments = vec!["--insecure-policy"];
        arguments.extend([
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            "-q",
        ]);
        arguments.extend(options);
        arguments.extend([&*from, &*to]);
        run("skopeo", &arguments);
    }

    /// Makes these the requirements for every image.
    pub fn policy(&self, requirements: &Value) {
        let policy = json!({"default": requirements});
        self.write("policy.json", &policy.to_string());
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command
            .args(args)
            .env_clear()
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("CONTAINERS_POLICY_JSON", self.path("policy.json"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn in_repo<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let repo = self.repo.path().to_str().unwrap();
        [&["image", "--repo", repo], args].concat()
    }

    /// Runs a command on the repository that must succeed; its stdout goes out.
    pub fn image(&self, args: &[&str]) -> String {
        stdout(&mut self.command(&self.in_repo(args))).unwrap()
    }

    /// Pulls an image that must be refused, for a reason with these words. Nothing of it is kept.
    pub fn refused(&self, image: &str, words: &str) {
        let before = self.image(&["list"]);
        let output = self.run(&self.in_repo(&["pull", image]));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{image}: {text}");
        let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(words), "{words:?} is not in: {told}");
        assert!(told.contains("hint: "), "{told}");
        assert_eq!(self.image(&["list"]), before);
    }

    /// What `image inspect` tells about an image.
    pub fn inspect(&self, image: &str) -> Value {
        let text = self.image(&["inspect", image, "--format", "json"]);
        serde_json::from_str(&text).unwrap()
    }
}

/// A bootable image of a version.
pub fn os(version: &str) -> Image {
    samples::os_image(version, "").unwrap()
}

/// An image as a directory of the transport `dir:`; its name and the digest of its manifest go out.
pub fn dir_image(scene: &Scene, image: &Image) -> (String, Digest) {
    let (layout, dir) = (scene.path("layout"), scene.path("image"));
    image.write_layout(&layout, "1").unwrap();
    let from = format!("oci:{}:1", layout.display());
    let to = format!("dir:{}", dir.display());
    run("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]);
    let manifest = fs::read(dir.join("manifest.json")).unwrap();
    (to, Digest::of(&manifest))
}

/// What a signature of this kind says about an image.
pub fn claim(kind: &str, reference: &str, digest: &str, optional: Value) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": kind,
        },
        "optional": optional,
    })
    .to_string()
}

/// The same of cosign's, for `quay.io/a:1`.
pub fn cosign_claim(digest: &Digest) -> String {
    let kind = "cosign container image signature";
    claim(kind, "quay.io/a:1", &digest.to_string(), Value::Null)
}

/// A signature file with a sigstore signature.
pub fn sigstore_file(payload: &str, annotations: &Value) -> String {
    let stored = json!({
        "mimeType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "payload": BASE64_STANDARD.encode(payload),
        "annotations": annotations,
    });
    format!("\0sigstore-json\n{stored}")
}

/// Keys of GPG in a directory of their own.
pub struct Gpg {
    pub home: PathBuf,
}

impl Gpg {
    pub fn new(dir: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let home = dir.to_owned();
        fs::create_dir_all(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        Self { home }
    }

    pub fn run(&self, args: &[&str]) -> String {
        let base = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"];
        let mut command = Command::new("gpg");
        command.args(base).args(["--passphrase", ""]).args(args);
        command.env("GNUPGHOME", &self.home);
        stdout(&mut command).unwrap()
    }

    /// Makes a key for signing; its fingerprint goes out. `more` are options in front.
    pub fn key(&self, user: &str, expires: &str, more: &[&str]) -> String {
        let make = ["--quick-generate-key", user, "ed25519", "sign", expires];
        self.run(&[more, &make].concat());
        let list = self.run(&["--with-colons", "--list-keys", user]);
        let line = list.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// Writes the public key of a user to a file.
    pub fn export(&self, user: &str, file: &Path) {
        let file = file.to_str().unwrap();
        self.run(&["--output", file, "--export", user]);
    }

    /// Signs what simple signing signs, for an image of this name and digest. `more` are options in
    /// front.
    pub fn sign(&self, key: &str, reference: &str, digest: &str, more: &[&str]) -> Vec<u8> {
        let claim = claim("atomic container signature", reference, digest, json!({}));
        let (from, to) = (self.home.join("claim"), self.home.join("signed"));
        fs::write(&from, claim).unwrap();
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        let sign = ["--local-user", key, "--output", to, "--sign", from];
        self.run(&[more, &sign].concat());
        fs::read(to).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent ends by itself once its directory is gone, if it does not hear this.
        let mut command = Command::new("gpgconf");
        command.args(["--kill", "all"]).env("GNUPGHOME", &self.home);
        let _ = command.output();
    }
}

impl Scene {
    /// Lays signatures of a manifest into the lookaside.
    pub fn lay(&self, digest: &str, signatures: &[Vec<u8>]) {
        let hex = digest.trim_start_matches("sha256:");
        let dir = self.path(&format!("lookaside/ns/os@sha256={hex}"));
        fs::create_dir_all(&dir).unwrap();
        for (number, signature) in signatures.iter().enumerate() {
            fs::write(dir.join(format!("signature-{}", number + 1)), signature).unwrap();
        }
    }
}
