//! `container verify` of `ostree-remote-image:`: the verdict of a pull and the steps to it, without a pull.

use std::fs;
use std::path::Path;
use std::process::Output;

use bowline::image::Digest;
use bowline::testing::Image;
use bowline::testing::samples::stderr;
use serde_json::{Value, json};

use crate::daemon::{Daemon, run};
use crate::remote::{Signed, add_remote, change_remote, objects, remote, scene};
use crate::scene::{Gpg, Scene};

impl Scene {
    fn verify(&self, image: &str, more: &[&str]) -> Output {
        let repo = self.repo.path().to_str().unwrap();
        let verify = ["container", "verify", "--repo", repo, image];
        self.run(&[&verify[..], more].concat())
    }

    /// What is told about an image that must be accepted.
    fn accepts(&self, image: &str) -> String {
        let output = self.verify(image, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An image that `container verify` and a pull refuse for the same reason, with these words.
    fn refuses(&self, image: &str, words: &str) {
        let output = self.verify(image, &["--format", "json"]);
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["accepted"], false);
        let verdict = report["verdict"].as_str().unwrap();
        assert!(verdict.contains(words), "{words:?} is not in: {verdict}");
        let last = report["steps"].as_array().unwrap().last().unwrap();
        assert_eq!(
            (&last["holds"], &last["text"]),
            (&json!(false), &json!(verdict))
        );
        self.refused(image, words);
        assert_eq!(objects(self.repo.path()), 0);
    }

    fn import(&self) -> String {
        format!("--gpg-import={}", self.path("os.gpg").display())
    }
}

#[test]
fn each_step_is_told_and_nothing_is_stored() {
    let Some((scene, gpg, key)) = scene() else {
        return;
    };
    add_remote(scene.repo.path(), &[&scene.import()]);
    for (chunked, tag) in [(false, "1"), (true, "2")] {
        let signed = Signed::new("1");
        signed.by_gpg(&gpg, &key);
        let image = signed.image(chunked, "");
        scene.push(&image, tag, &[]);
        let told = scene.accepts(&remote(&scene, tag));
        let count = layers(&image).len();
        let by = format!("ostree-gpg {key}");
        for line in [
            "the ostree commit inside, by remote \"os\"\n  the remote asks for signatures: GPG\n",
            "  yes  no layers on top of the commit\n",
            &format!("  yes  layer 1 of {count} ("),
            &format!(
                ") begins with commit {}\n  yes  signed by {by}\n",
                signed.commit
            ),
            &format!("; {by} for commit {} (remote os)\n", signed.commit),
            "Accepted  ",
        ] {
            assert!(told.contains(line), "{line:?} is not in: {told}");
        }
        let layout = scene.path(&format!("layout-{tag}")).display().to_string();
        scene.accepts(&format!("ostree-remote-image:os:oci:{layout}:{tag}"));
    }
    assert_eq!(objects(scene.repo.path()), 0);
}

#[test]
fn what_a_pull_refuses_is_refused() {
    let Some((scene, gpg, key)) = scene() else {
        return;
    };
    let (signed, unsigned) = (Signed::new("1"), Signed::new("2"));
    signed.by_gpg(&gpg, &key);
    scene.push(&signed.image(true, ""), "1", &[]);
    scene.push(&unsigned.image(true, ""), "unsigned", &[]);
    let derived = signed.image(true, "file /usr/bin/evil 0 0 755 evil\\n");
    scene.push(&derived, "derived", &[]);
    let image = |tag: &str| remote(&scene, tag);
    let output = scene.verify(&image("1"), &[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("Remote \"os\" not found"), "{told}");
    assert_eq!(output.status.code(), Some(4));
    add_remote(scene.repo.path(), &[&scene.import()]);
    scene.refuses(&image("unsigned"), "it has no signature");
    scene.refuses(&image("derived"), "nothing for the 1 layers on top of it");

    gpg.key("other@x", "never", &[]);
    gpg.export("other@x", &scene.path("other.gpg"));
    let other = format!("--gpg-import={}", scene.path("other.gpg").display());
    change_remote(&scene, &[&other]);
    scene.refuses(&image("1"), "is not signed as remote \"os\" asks");
    change_remote(&scene, &["--no-gpg-verify"]);
    scene.refuses(&image("1"), "the remote asks for no signature");
    // The policy comes first.
    scene.policy(&json!([{"type": "reject"}]));
    let output = scene.verify(&image("1"), &[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("says \"reject\"") && !told.contains("the ostree commit"));
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn layers_on_top_are_told() {
    let Some((scene, gpg, key)) = scene() else {
        return;
    };
    let signed = Signed::new("1");
    signed.by_gpg(&gpg, &key);
    let image = signed.image(false, "file /usr/bin/more 0 0 755 more\\n");
    scene.push(&image, "1", &[]);
    add_remote(scene.repo.path(), &[&scene.import()]);
    scene.write(
        "root/etc/bowline/trust.yaml",
        "trust:\n  unsigned-layers-on-signed-base: run-code-that-nobody-signed\n",
    );
    let root = scene.path("root").display().to_string();
    let output = scene.verify(&remote(&scene, "1"), &["--sysroot", &root]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("  nobody signed the 1 layers on top of it"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(0));

    sign_image(&scene, &gpg, &key, &image);
    let told = scene.accepts(&remote(&scene, "1"));
    let covered = "  yes  the image's own signature covers the 1 layers on top\n";
    assert!(told.contains(covered), "{told}");
    let both = [
        format!("gpg {key} for "),
        format!("; ostree-gpg {key} for "),
    ];
    assert!(both.iter().all(|by| told.contains(by)), "{told}");
}

/// Signs the image `1`, and lets the policy ask for it.
fn sign_image(scene: &Scene, gpg: &Gpg, key: &str, image: &Image) {
    let keys = scene.path("os.gpg");
    scene.policy(&json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": keys}]));
    let digest = image.digest().to_string();
    scene.lay(&digest, &[gpg.sign(key, &scene.name("1"), &digest, &[])]);
}

#[test]
fn only_the_layer_that_the_manifest_promises_counts() {
    let Some((scene, gpg, key)) = scene() else {
        return;
    };
    let signed = Signed::new("1");
    signed.by_gpg(&gpg, &key);
    let image = signed.image(false, "");
    scene.push(&image, "1", &[]);
    add_remote(scene.repo.path(), &[&scene.import()]);
    // A mirror whose layer is another one behind the signed commit costs time only.
    let mirror_dir = scene.path("mirror");
    fs::create_dir(&mirror_dir).unwrap();
    let mirror = Daemon::start(&mirror_dir, json!({}), json!({}));
    let to = format!("docker://{}/ns/os:1", mirror.host);
    let from = format!("oci:{}:1", scene.path("layout-1").display());
    let copy = ["--insecure-policy", "copy", "-q", "--preserve-digests"];
    run(
        "skopeo",
        &[&copy[..], &["--dest-tls-verify=false", &from, &to]].concat(),
    );
    let layer = layers(&image)[0];
    spoil(&mirror_dir, &layer);
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        scene.daemon.host, mirror.host
    );
    scene.write("config/containers/registries.conf", &conf);
    scene.accepts(&remote(&scene, "1"));
    // Where nobody else has it there is no verdict.
    spoil(scene.dir.path(), &layer);
    let output = scene.verify(&remote(&scene, "1"), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("Fetching layer 1 of 1"), "{told}");
}

/// The blobs of an image's layers, in order.
fn layers(image: &Image) -> Vec<Digest> {
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let digests = layers.map(|layer| layer["digest"].as_str().unwrap().parse().unwrap());
    digests.collect()
}

/// Changes the last byte of a blob in a registry's storage.
fn spoil(dir: &Path, blob: &Digest) {
    let hex = blob.hex();
    let path = format!(
        "storage/docker/registry/v2/blobs/sha256/{}/{hex}/data",
        &hex[..2]
    );
    let path = dir.join(path);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_place_that_is_no_repository_is_told_at_once() {
    let Some((scene, _, _)) = scene() else { return };
    let image = "ostree-remote-image:os:docker://127.0.0.1:1/ns/os:1";
    let root = scene.path("root").display().to_string();
    let output = scene.run(&["--sysroot", &root, "container", "verify", image]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("is not an ostree repository"));
}
