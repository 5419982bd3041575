//! Ed25519 signatures of commits, against OpenSSL: no libostree of Debian's makes or takes them. OpenSSL
//! takes what we sign and we take what it signs, with keys made as the documentation says.

use std::fs;
use std::process::Command;

use bowline::testing::samples::stdout;
use ostree::glib::VariantDict;

use crate::remote::{Signed, add_remote, remote, scene};
use crate::scene::Scene;

/// How docs/src/signing.md makes a key.
const MAKE: &str = "set -e
    openssl genpkey -algorithm ed25519 -outform DER -out key.der
    { tail -c 32 key.der; openssl pkey -inform DER -in key.der -pubout -outform DER | tail -c 32; } | base64 -w0 >secret.key
    openssl pkey -inform DER -in key.der -pubout -outform DER | tail -c 32 | base64 -w0";

impl Scene {
    /// Makes `key.der` and `secret.key`; the public key as remotes have it goes out.
    fn ed25519_key(&self) -> String {
        let mut shell = Command::new("sh");
        stdout(shell.args(["-c", MAKE]).current_dir(self.dir.path())).unwrap()
    }

    /// Runs `openssl pkeyutl` with that key; whether it succeeds goes out.
    fn pkeyutl(&self, args: &[&str]) -> bool {
        let mut command = Command::new("openssl");
        command
            .args(["pkeyutl", "-rawin", "-keyform", "DER", "-inkey", "key.der"])
            .args(args)
            .current_dir(self.dir.path());
        command.output().unwrap().status.success()
    }
}

#[test]
fn the_documentation_has_the_commands_of_this_test() {
    let docs = include_str!("../../docs/src/signing.md");
    for line in MAKE.lines().skip(1) {
        assert!(docs.contains(line.trim()), "{line}");
    }
}

#[test]
fn openssl_takes_what_we_sign() {
    let Some((scene, _, _)) = scene().filter(|_| !crate::daemon::missing(&["openssl"])) else {
        return;
    };
    scene.ed25519_key();
    let signed = Signed::new("1");
    let repo = signed.repo().display().to_string();
    let secret = scene.path("secret.key").display().to_string();
    let to = format!("oci:{}:1", scene.path("layout").display());
    let encapsulate = [
        "container",
        "encapsulate",
        "--repo",
        &repo,
        &signed.commit,
        &to,
    ];
    scene.done(&[&encapsulate[..], &["--sign-commit-ed25519", &secret]].concat());
    let noted = VariantDict::new(signed.noted().as_ref());
    let signatures = noted.lookup::<Vec<Vec<u8>>>("ostree.sign.ed25519").unwrap();
    let [signature] = &signatures.unwrap()[..] else {
        panic!("there is not one signature");
    };
    fs::write(scene.path("signature"), signature).unwrap();
    let verifies = |bytes: &[u8]| {
        fs::write(scene.path("commit"), bytes).unwrap();
        scene.pkeyutl(&["-verify", "-in", "commit", "-sigfile", "signature"])
    };
    let mut bytes = signed.bytes();
    assert!(verifies(&bytes));
    bytes[0] ^= 1;
    assert!(!verifies(&bytes));
}

#[test]
fn we_take_what_openssl_signs() {
    let Some((scene, _, _)) = scene().filter(|_| !crate::daemon::missing(&["openssl"])) else {
        return;
    };
    let public = scene.ed25519_key();
    let signed = Signed::new("1");
    fs::write(scene.path("commit"), signed.bytes()).unwrap();
    assert!(scene.pkeyutl(&["-sign", "-in", "commit", "-out", "signature"]));
    signed.by_ed25519(fs::read(scene.path("signature")).unwrap());
    scene.push(&signed.image(true, ""), "1", &[]);
    let key = format!("--set=verification-ed25519-key={public}");
    let options = ["--no-gpg-verify", "--set=sign-verify=true", &key];
    add_remote(scene.repo.path(), &options);
    scene.image(&["pull", &remote(&scene, "1")]);
    let by = &scene.inspect(&scene.name("1"))["verified"][0];
    assert_eq!(by["key"], format!("ed25519 {public}"));
}
