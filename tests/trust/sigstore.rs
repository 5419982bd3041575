//! Sigstore attachments as `skopeo` and `cosign` write them.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline::testing::Image;
use serde_json::{Value, json};

use crate::daemon::run;
use crate::scene::{Scene, cosign_claim, dir_image, os, sigstore_file};

/// A key pair as cosign and skopeo have it, made by cosign or taken from a fixture; the path of the
/// private key goes out.
pub fn key_pair(scene: &Scene, name: &str) -> String {
    let prefix = scene.path(name).display().to_string();
    let mut command = Command::new("cosign");
    let make = ["generate-key-pair", "--output-key-prefix", &prefix];
    command.args(make).env("COSIGN_PASSWORD", "");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    format!("{prefix}.key")
}

fn requirement(scene: &Scene, key: &str, identity: &str) -> Value {
    json!([{
        "type": "sigstoreSigned",
        "keyPath": scene.path(&format!("{key}.pub")),
        "signedIdentity": {"type": identity},
    }])
}

/// An image in the registry, and the path of a key.
fn pushed() -> Option<(Scene, String, Image)> {
    let scene = Scene::new(&["cosign"])?;
    let key = key_pair(&scene, "key");
    let image = os("1");
    scene.push(&image, "1", &[]);
    Some((scene, key, image))
}

/// Signs an image, without a transparency log; `more` are further options.
pub fn cosign(key: &str, image: &str, more: &[&str]) {
    let base = ["sign", "--key", key, "--tlog-upload=false", "--yes"];
    let insecure = ["--allow-insecure-registry", "--allow-http-registry"];
    let mut command = Command::new("cosign");
    command.args(base).args(insecure).args(more).arg(image);
    // Without the latter it knows of no referrers.
    let password = [("COSIGN_PASSWORD", ""), ("COSIGN_EXPERIMENTAL", "1")];
    let output = command.envs(password).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
}

#[test]
fn what_skopeo_signs_is_accepted_and_what_is_not_signed_is_refused() {
    let Some(scene) = Scene::new(&["cosign"]) else {
        return;
    };
    let key = key_pair(&scene, "key");
    let passphrase = scene.write("passphrase", "");
    let attach = "default-docker:\n  use-sigstore-attachments: true\n";
    let config = scene.write("skopeo.d/all.yaml", attach);
    let config = config.parent().unwrap().display().to_string();
    let registries = format!("--registries.d={config}");
    let image = os("1");
    let layout = scene.path("layout-1");
    image.write_layout(&layout, "1").unwrap();
    let (from, to) = (format!("oci:{}:1", layout.display()), scene.name("1"));
    let mut command = Command::new("skopeo");
    command.args([
        "--insecure-policy",
        &registries,
        "copy",
        "--preserve-digests",
        "-q",
    ]);
    command.arg("--dest-tls-verify=false");
    command.arg(format!("--sign-by-sigstore-private-key={key}"));
    command.arg(format!("--sign-passphrase-file={}", passphrase.display()));
    let output = command
        .args([from, format!("docker://{to}")])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    // Debian 12 has taken this out of its skopeo.
    if words.contains("sigstore disabled") {
        scene.push(&image, "1", &[]);
        cosign(&key, &to, &["--sign-container-identity", &to]);
    } else {
        assert!(output.status.success(), "{words}");
    }
    scene.policy(&requirement(&scene, "key", "matchExact"));
    scene.image(&["pull", &scene.signed("1")]);
    let digest = image.digest().to_string();
    let by = &scene.inspect(&scene.name("1"))["verified"][0];
    assert_eq!(by["kind"], "sigstore");
    assert_eq!(by["identity"], scene.name("1"));
    assert_eq!(by["digest"], digest);
    let public = scene.path("key.pub").display().to_string();
    assert!(by["key"].as_str().unwrap().starts_with(&public), "{by}");

    // The next version is pushed by somebody without the key.
    scene.push(&os("2"), "1", &[]);
    scene.refused(
        &scene.signed("1"),
        "says \"sigstoreSigned\" for the default, and no signature was found",
    );
    // And with another key.
    let other = key_pair(&scene, "other");
    cosign(&other, &scene.name("1"), &[]);
    scene.policy(&requirement(&scene, "key", "matchRepository"));
    scene.refused(
        &scene.signed("1"),
        "the signature is by none of the keys, or was changed",
    );
    scene.policy(&requirement(&scene, "other", "matchRepository"));
    scene.image(&["pull", &scene.signed("1")]);
}

#[test]
fn cosign_signs_repositories_and_what_it_is_told_to() {
    let Some((scene, key, image)) = pushed() else {
        return;
    };
    let by_digest = format!("{}/ns/os@{}", scene.daemon.host, image.digest());
    cosign(&key, &by_digest, &[]);
    scene.policy(&requirement(&scene, "key", "matchExact"));
    scene.refused(&scene.signed("1"), "but must be for the image's exact name");
    scene.policy(&requirement(&scene, "key", "matchRepository"));
    scene.image(&["pull", &scene.signed("1")]);
    scene.image(&["pull", &format!("ostree-image-signed:docker://{by_digest}")]);

    cosign(
        &key,
        &by_digest,
        &["--sign-container-identity", &scene.name("1")],
    );
    scene.policy(&requirement(&scene, "key", "matchExact"));
    scene.image(&["pull", &scene.signed("1")]);
    // Two signatures, one of which is for the tag: that is enough, and is what is told.
    let told = scene.run(&["container", "verify", &scene.signed("1")]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("\n  yes  sigstoreSigned\n"), "{told}");
    assert!(
        told.contains("but must be for the image's exact name\n"),
        "{told}"
    );
    assert!(
        told.contains(&format!("for {}\nAccepted  ", scene.name("1"))),
        "{told}"
    );
    // Attachments that are not to be looked for are not.
    let off = "default-docker:\n  use-sigstore-attachments: false\n";
    scene.write("config/containers/registries.d/all.yaml", off);
    scene.refused(&scene.signed("1"), "no signature was found");
}

#[test]
fn signatures_may_be_referrers_by_tag() {
    let Some((scene, key, image)) = pushed() else {
        return;
    };
    let by_digest = format!("{}/ns/os@{}", scene.daemon.host, image.digest());
    cosign(&key, &by_digest, &["--registry-referrers-mode=oci-1-1"]);
    let hex = image.digest().hex();
    let storage = scene.path("storage/docker/registry/v2/repositories/ns/os/_manifests/tags");
    let tags: Vec<_> = fs::read_dir(storage)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        !tags.contains(&format!("sha256-{hex}.sig").into()),
        "{tags:?}"
    );
    scene.policy(&requirement(&scene, "key", "matchRepository"));
    scene.image(&["pull", &scene.signed("1")]);
}

/// As somebody does who carries image and signature to a host without a network.
#[test]
fn layouts_have_signatures_beside_the_image() {
    let Some((scene, key, image)) = pushed() else {
        return;
    };
    let name = format!("{}/ns/os", scene.daemon.host);
    cosign(&key, &format!("{name}@{}", image.digest()), &[]);
    let tag = format!("sha256-{}.sig", image.digest().hex());
    let copy = |tag: &str, to: &str| {
        let (from, to) = (format!("docker://{name}:{tag}"), format!("oci:{to}:{tag}"));
        let options = ["--insecure-policy", "copy", "--preserve-digests", "-q"];
        let places = ["--src-tls-verify=false", &*from, &*to];
        run("skopeo", &[&options[..], &places].concat());
    };
    let carried = scene.path("carried").display().to_string();
    copy("1", &carried);
    let mut rule = requirement(&scene, "key", "exactRepository");
    rule[0]["signedIdentity"]["dockerRepository"] = name.clone().into();
    scene.policy(&rule);
    let signed = format!("ostree-image-signed:oci:{carried}:1");
    scene.refused(&signed, "no signature was found");
    copy(&tag, &carried);
    scene.image(&["pull", &signed]);
    let by = &scene.inspect(&format!("oci:{carried}:1"))["verified"][0];
    assert_eq!(by["identity"], name);
    // Archives are the same in one file.
    let archive = scene.path("carried.tar").display().to_string();
    run("tar", &["-C", &carried, "-cf", &archive, "."]);
    scene.image(&[
        "pull",
        &format!("ostree-image-signed:oci-archive:{archive}:1"),
    ]);
    // An image without a name has none that a signature could be for.
    scene.policy(&requirement(&scene, "key", "matchRepository"));
    scene.refused(&signed, "but must be for the image's repository");
}

/// Keys of other kinds than cosign makes, over signatures in a directory.
#[test]
fn keys_of_several_kinds_verify() {
    let Some(scene) = Scene::new(&["openssl"]) else {
        return;
    };
    let (image, digest) = dir_image(&scene, &os("1"));
    let claim = cosign_claim(&digest);
    let payload = scene.write("payload", &claim);
    let payload = payload.display().to_string();
    let path = |name: &str| scene.path(name).display().to_string();
    let (key, public, signature) = (path("k"), path("k.pub"), path("signature"));
    for (kind, options, hash) in [
        (
            "ec",
            &["-pkeyopt", "ec_paramgen_curve:P-256"][..],
            &["-digest", "sha256"][..],
        ),
        (
            "ec",
            &["-pkeyopt", "ec_paramgen_curve:P-384"],
            &["-digest", "sha256"],
        ),
        (
            "ec",
            &["-pkeyopt", "ec_paramgen_curve:P-521"],
            &["-digest", "sha256"],
        ),
        (
            "rsa",
            &["-pkeyopt", "rsa_keygen_bits:2048"],
            &["-digest", "sha256"],
        ),
        ("ed25519", &[], &[]),
    ] {
        let make = ["genpkey", "-algorithm", kind, "-out", &key];
        run("openssl", &[&make[..], options].concat());
        run(
            "openssl",
            &["pkey", "-in", &key, "-pubout", "-out", &public],
        );
        let sign = [
            "pkeyutl", "-sign", "-inkey", &key, "-rawin", "-in", &payload,
        ];
        run(
            "openssl",
            &[&sign[..], hash, &["-out", &signature]].concat(),
        );
        let signed = BASE64_STANDARD.encode(fs::read(&signature).unwrap());
        let annotations = json!({"dev.cosignproject.cosign/signature": signed});
        let file = sigstore_file(&claim, &annotations);
        fs::write(scene.path("image/signature-1"), file).unwrap();
        let identity = json!({"type": "exactReference", "dockerReference": "quay.io/a:1"});
        let mut rule = json!({"type": "sigstoreSigned", "signedIdentity": identity});
        rule["keyPath"] = public.clone().into();
        scene.policy(&json!([rule]));
        scene.image(&["pull", &format!("ostree-image-signed:{image}")]);
        rule["signedIdentity"]["dockerReference"] = "quay.io/a:2".into();
        scene.policy(&json!([rule]));
        scene.refused(&image, "but must be for exactly quay.io/a:2");
    }
}
