//! Signatures made with the image: `container encapsulate` signs what it pushes, and the commit in it, and
//! whoever pulls can ask for both.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline::testing::samples::{stderr, stdout};
use bowline::testing::{Fixture, OS};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use crate::remote::add_remote;
use crate::scene::{Gpg, Scene};

/// A repository with one commit, which nobody has signed.
struct Source {
    fixture: Fixture,
    commit: String,
}

impl Source {
    fn new() -> Self {
        let fixture = Fixture::new().unwrap();
        let commit = fixture.commit(OS).unwrap();
        Self { fixture, commit }
    }

    fn encapsulate<'a>(&'a self, image: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let repo = self.fixture.path().to_str().unwrap();
        let base = [
            "-v",
            "container",
            "encapsulate",
            "--repo",
            repo,
            &self.commit,
            image,
        ];
        [&base[..], more].concat()
    }

    fn ostree(&self, args: &[&str]) -> String {
        let repo = format!("--repo={}", self.fixture.path().display());
        stdout(Command::new("ostree").args(args).arg(&repo)).unwrap()
    }
}

#[test]
fn what_is_pushed_is_signed() {
    let Some(scene) = Scene::new(&["gpg"]) else {
        return;
    };
    let (source, key) = (Source::new(), scene.keys("key"));
    let gpg = Gpg::new(&scene.path("gnupg"));
    gpg.key("os@example.org", "never", &[]);
    gpg.export("os@example.org", &scene.path("key.gpg"));
    let (home, to) = (
        gpg.home.display().to_string(),
        format!("registry:{}", scene.name("1")),
    );
    let by_key = ["--sign-by-sigstore-private-key", &key];
    let by_gpg = ["--sign-by", "os@example.org", "--gpg-homedir", &home];
    let output = scene.with_passphrase(&source.encapsulate(&to, &[&by_key[..], &by_gpg].concat()));
    let (digest, said) = (
        String::from_utf8(output.stdout.clone()).unwrap(),
        stderr(&output),
    );
    assert_eq!(output.status.code(), Some(0), "{said}");
    let digest = digest.trim_end();
    assert_eq!(
        said.matches(&format!("signed {digest} in ")).count(),
        2,
        "{said}"
    );
    scene.policy(&json!([
        {"type": "sigstoreSigned", "keyPath": scene.path("key.pub")},
        {"type": "signedBy", "keyType": "GPGKeys", "keyPath": scene.path("key.gpg")},
    ]));
    scene.image(&["pull", &scene.signed("1")]);

    // Where there is no place for a signature nothing is written, nor where the key is none.
    let layout = scene.path("made");
    let oci = format!("oci:{}:1", layout.display());
    scene.fails(
        &source.encapsulate(&oci, &by_key),
        7,
        "images of transport oci have no place",
    );
    let dir = format!("dir:{}", layout.display());
    scene.fails(&source.encapsulate(&dir, &by_gpg), 2, "--sign-identity");
    let no_key = ["--sign-by-sigstore-private-key", "/no/such/key"];
    let other = format!("registry:{}", scene.name("2"));
    scene.fails(
        &source.encapsulate(&other, &no_key),
        2,
        "/no/such/key cannot be used",
    );
    scene.fails(
        &source.encapsulate(&other, &["--sign-identity", "quay.io/a"]),
        2,
        "there is no key",
    );
    assert!(!layout.exists());
    scene.fails(
        &["container", "verify", &scene.name("2")],
        3,
        "does not exist",
    );
    scene.done(&source.encapsulate(
        &dir,
        &[&by_gpg[..], &["--sign-identity", "quay.io/a:1"]].concat(),
    ));
    assert!(layout.join("signature-1").exists());
}

#[test]
fn the_commit_is_signed_in_the_repository_and_in_the_image() {
    let Some(scene) = Scene::new(&["gpg", "ostree"]) else {
        return;
    };
    scene.policy(&json!([{"type": "insecureAcceptAnything"}]));
    let source = Source::new();
    let gpg = Gpg::new(&scene.path("gnupg"));
    let key = gpg.key("os@example.org", "never", &[]);
    let exported = scene.path("key.gpg");
    gpg.export("os@example.org", &exported);
    let home = gpg.home.display().to_string();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let secret = BASE64_STANDARD.encode([&[7; 32][..], public].concat());
    let secret = scene
        .write("secret.key", &format!("{secret}\n"))
        .display()
        .to_string();
    let to = format!("registry:{}", scene.name("1"));
    let by_gpg = ["--sign-commit-gpg", &key, "--gpg-homedir", &home];
    scene.done(&source.encapsulate(&to, &by_gpg));
    // Each signature of GPG is a new one, by the same key.
    scene.done(&source.encapsulate(&to, &by_gpg));
    let by_ed25519 = ["--sign-commit-ed25519", &secret];
    let digest = scene.done(&source.encapsulate(&to, &by_ed25519));
    // A second time nothing is added: it is the same image.
    let again = scene.done(&source.encapsulate(&to, &by_ed25519));
    assert_eq!(again, digest);
    // Who signs the commit only may write the image to any place.
    let layout = format!("oci:{}:1", scene.path("layout").display());
    assert_eq!(
        scene.done(&source.encapsulate(&layout, &by_ed25519)),
        digest
    );

    let import = format!("--gpg-import={}", exported.display());
    let verified_by = format!(
        "--set=verification-ed25519-key={}",
        BASE64_STANDARD.encode(public)
    );
    add_remote(source.fixture.path(), &[&import]);
    let shown = source.ostree(&["show", "--gpg-verify-remote=os", &source.commit]);
    assert!(
        shown.contains("Found 2 signatures") && shown.contains("Good signature"),
        "{shown}"
    );
    let options = ["--set=sign-verify=true", &verified_by, &import];
    add_remote(scene.repo.path(), &options);
    scene.image(&[
        "pull",
        &format!("ostree-remote-image:os:docker://{}", scene.name("1")),
    ]);
    let found = scene.inspect(&scene.name("1"));
    let kinds: Vec<_> = found["verified"]
        .as_array()
        .unwrap()
        .iter()
        .map(|by| &by["kind"])
        .collect();
    assert_eq!(kinds, ["ostree-gpg", "ostree-sign"]);

    let bad = scene.write("bad.key", "AAAA\n").display().to_string();
    let other = format!("registry:{}", scene.name("2"));
    let words = "bad.key cannot be used: it has no secret key for ed25519";
    scene.fails(
        &source.encapsulate(&other, &["--sign-commit-ed25519", &bad]),
        2,
        words,
    );
    let nobody = [
        "--sign-commit-gpg",
        "nobody@example.org",
        "--gpg-homedir",
        &home,
    ];
    let words = "GnuPG does not sign with the key \"nobody@example.org\"";
    scene.fails(&source.encapsulate(&other, &nobody), 2, words);
    scene.fails(
        &["container", "verify", &scene.name("2")],
        3,
        "does not exist",
    );
}
