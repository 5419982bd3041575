//! `ostree-remote-image:`: the commit inside an image is signed by `ostree`, and verified through a
//! remote of the repository on every way that an image comes in.

use std::path::Path;
use std::process::Command;

use bowline::testing::samples::{stderr, stdout};
use bowline::testing::{CommitOptions, Encapsulation, Fixture, Image, OS};
use serde_json::json;

use crate::scene::{Gpg, Scene};

/// A commit of a version that was signed, and what image it becomes.
pub struct Signed {
    fixture: Fixture,
    pub commit: String,
}

impl Signed {
    pub fn new(version: &str) -> Self {
        let fixture = Fixture::new().unwrap();
        let mut options = CommitOptions::default();
        options.metadata[0].1 = version.into();
        let commit = fixture.commit_with(OS, &options).unwrap();
        Self { fixture, commit }
    }

    pub fn by_gpg(&self, gpg: &Gpg, key: &str) {
        let repo = format!("--repo={}", self.fixture.path().display());
        let home = format!("--gpg-homedir={}", gpg.home.display());
        let mut command = Command::new("ostree");
        command.args(["gpg-sign", &repo, &home, &self.commit, key]);
        stdout(&mut command).unwrap();
    }

    pub fn repo(&self) -> &Path {
        self.fixture.path()
    }

    /// What is noted about the commit.
    pub fn noted(&self) -> Option<ostree::glib::Variant> {
        let none = ostree::gio::Cancellable::NONE;
        let repo = self.fixture.repo();
        repo.read_commit_detached_metadata(&self.commit, none)
            .unwrap()
    }

    /// What a signature of the commit is made of.
    pub fn bytes(&self) -> Vec<u8> {
        let (commit, _) = self.fixture.repo().load_commit(&self.commit).unwrap();
        commit.data().to_vec()
    }

    /// Notes an ed25519 signature as `ostree sign` does, which Debian's cannot.
    pub fn by_ed25519(&self, signature: Vec<u8>) {
        use ostree::glib::prelude::*;
        let noted = ostree::glib::VariantDict::new(None);
        noted.insert_value("ostree.sign.ed25519", &vec![signature].to_variant());
        let (repo, noted) = (self.fixture.repo(), noted.end());
        let none = ostree::gio::Cancellable::NONE;
        repo.write_commit_detached_metadata(&self.commit, Some(&noted), none)
            .unwrap();
    }

    pub fn image(&self, chunked: bool, derived: &str) -> Image {
        let how = match chunked {
            true => Encapsulation::chunked(),
            false => Encapsulation::default(),
        };
        let image = how.image(self.fixture.repo(), &self.commit).unwrap();
        match derived {
            "" => image.build(),
            lines => image.derived(lines).unwrap().build(),
        }
    }
}

pub fn add_remote(repo: &Path, options: &[&str]) {
    let repo = format!("--repo={}", repo.display());
    let mut command = Command::new("ostree");
    command.args(["remote", "add", &repo, "os", "https://os.example"]);
    stdout(command.args(options)).unwrap();
}

pub fn scene() -> Option<(Scene, Gpg, String)> {
    let scene = Scene::new(&["gpg", "ostree"])?;
    scene.policy(&json!([{"type": "insecureAcceptAnything"}]));
    let gpg = Gpg::new(&scene.path("gnupg"));
    let key = gpg.key("os@example.org", "never", &[]);
    gpg.export("os@example.org", &scene.path("os.gpg"));
    Some((scene, gpg, key))
}

pub fn remote(scene: &Scene, tag: &str) -> String {
    format!("ostree-remote-image:os:docker://{}", scene.name(tag))
}

#[test]
fn commits_are_verified_in_one_layer() {
    verified_every_time(false);
}

#[test]
fn commits_are_verified_in_chunks() {
    verified_every_time(true);
}

fn verified_every_time(chunked: bool) {
    let Some((scene, gpg, key)) = scene() else {
        return;
    };
    let (signed, unsigned) = (Signed::new("1"), Signed::new("2"));
    signed.by_gpg(&gpg, &key);
    scene.push(&signed.image(chunked, ""), "1", &[]);
    scene.push(&unsigned.image(chunked, ""), "bad", &[]);
    scene.refused(&remote(&scene, "1"), "Remote \"os\" not found");
    let file = scene.path("os.gpg").display().to_string();
    add_remote(scene.repo.path(), &[&format!("--gpg-import={file}")]);
    scene.refused(&remote(&scene, "bad"), "it has no signature");
    assert_eq!(objects(scene.repo.path()), 0);
    scene.image(&["pull", &remote(&scene, "1")]);
    let by = &scene.inspect(&scene.name("1"))["verified"][0];
    assert_eq!(by["kind"], "ostree-gpg", "{by}");
    assert_eq!(by["key"], key);
    let identity = format!("commit {} (remote os)", signed.commit);
    assert_eq!(by["identity"], identity);
    // What is here already is verified again, by the keys of now.
    gpg.key("other@x", "never", &[]);
    let other = scene.path("other.gpg");
    gpg.export("other@x", &other);
    change_remote(&scene, &[&format!("--gpg-import={}", other.display())]);
    scene.refused(&remote(&scene, "1"), "is not signed as remote \"os\" asks");
    change_remote(&scene, &["--no-gpg-verify"]);
    scene.refused(&remote(&scene, "1"), "the remote asks for no signature");
}

pub fn change_remote(scene: &Scene, options: &[&str]) {
    let repo = format!("--repo={}", scene.repo.path().display());
    let mut delete = Command::new("ostree");
    stdout(delete.args(["remote", "delete", &repo, "os"])).unwrap();
    add_remote(scene.repo.path(), options);
}

/// How many objects a repository has.
pub fn objects(repo: &Path) -> usize {
    let dirs = std::fs::read_dir(repo.join("objects")).unwrap();
    let count = |dir: std::fs::DirEntry| std::fs::read_dir(dir.path()).unwrap().count();
    dirs.flatten().map(count).sum()
}

#[test]
fn ed25519_signatures_are_verified() {
    let Some((scene, _, _)) = scene() else { return };
    let pair = |seed: u8| {
        use ring::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        use base64::Engine as _;
        let public = base64::prelude::BASE64_STANDARD.encode(pair.public_key());
        (pair, public)
    };
    let ((one, one_public), (_, two_public)) = (pair(1), pair(2));
    let signed = Signed::new("1");
    signed.by_ed25519(one.sign(&signed.bytes()).as_ref().to_vec());
    scene.push(&signed.image(true, ""), "1", &[]);
    let setting = |key: &str| format!("--set=verification-ed25519-key={key}");
    let options = ["--no-gpg-verify", "--set=sign-verify=true"];
    add_remote(
        scene.repo.path(),
        &[&options[..], &[&setting(&two_public)]].concat(),
    );
    scene.refused(
        &remote(&scene, "1"),
        "none of its ed25519 signatures is by a key of the remote",
    );
    change_remote(&scene, &[&options[..], &[&setting(&one_public)]].concat());
    scene.image(&["pull", &remote(&scene, "1")]);
    let by = &scene.inspect(&scene.name("1"))["verified"][0];
    let expected = json!({
        "kind": "ostree-sign",
        "key": format!("ed25519 {one_public}"),
        "identity": format!("commit {} (remote os)", signed.commit),
    });
    assert_eq!(*by, expected);
}

#[test]
fn layers_on_top_need_somebody_who_vouches_for_them() {
    let Some((scene, gpg, key)) = scene() else {
        return;
    };
    let signed = Signed::new("1");
    signed.by_gpg(&gpg, &key);
    let image = signed.image(true, "file /usr/bin/evil 0 0 755 evil\\n");
    scene.push(&image, "1", &[]);
    let file = scene.path("os.gpg").display().to_string();
    add_remote(scene.repo.path(), &[&format!("--gpg-import={file}")]);
    let words = "vouches for the ostree commit inside, and nothing for the 1 layers on top of it";
    scene.refused(&remote(&scene, "1"), words);
    assert_eq!(objects(scene.repo.path()), 0);

    // In words that nobody sets by accident.
    let settings = scene.path("root/etc/bowline");
    std::fs::create_dir_all(&settings).unwrap();
    let repo = scene.repo.path().to_str().unwrap().to_owned();
    let root = scene.path("root").display().to_string();
    let (image_name, file) = (remote(&scene, "1"), settings.join("trust.yaml"));
    let pull = [
        "--sysroot",
        &root,
        "image",
        "--repo",
        &repo,
        "pull",
        &image_name,
    ];
    let set = |value: &str| {
        let text = format!("trust:\n  unsigned-layers-on-signed-base: {value}\n");
        std::fs::write(&file, text).unwrap();
        scene.run(&pull)
    };
    for value in ["true", "yes", "accept"] {
        let output = set(value);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{value}: {}",
            stderr(&output)
        );
    }
    assert_eq!(set("refuse").status.code(), Some(4));
    let output = set("run-code-that-nobody-signed");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    std::fs::remove_file(&file).unwrap();
    scene.refused(&remote(&scene, "1"), words);

    // Or a signature of the image itself, which the policy asks for.
    let rule = json!({
        "type": "signedBy", "keyType": "GPGKeys", "keyPath": scene.path("os.gpg"),
    });
    scene.policy(&json!([rule]));
    scene.refused(&remote(&scene, "1"), "no signature was found");
    let digest = image.digest().to_string();
    let signature = gpg.sign(&key, &scene.name("1"), &digest, &[]);
    scene.lay(&digest, &[signature]);
    scene.image(&["pull", &remote(&scene, "1")]);
    let by = &scene.inspect(&scene.name("1"))["verified"];
    let kinds: Vec<_> = by
        .as_array()
        .unwrap()
        .iter()
        .map(|by| &by["kind"])
        .collect();
    assert_eq!(kinds, ["gpg", "ostree-gpg"]);
}

#[test]
fn an_image_without_a_commit_is_refused() {
    let Some((scene, _, _)) = scene() else { return };
    let image = bowline::testing::ImageBuilder::default();
    let image = image
        .derived("file /usr/bin/x 0 0 755 x\\n")
        .unwrap()
        .build();
    scene.push(&image, "1", &[]);
    scene.refused(&remote(&scene, "1"), "it has no ostree commit inside");
}
