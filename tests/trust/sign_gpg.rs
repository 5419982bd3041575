//! GPG signatures that we make: `skopeo` takes them, and so do we, from the lookaside directory and beside an
//! image in a directory.

use serde_json::{Value, json};

use crate::scene::{Gpg, Scene, os};

const USER: &str = "os@example.org";

fn scene() -> Option<(Scene, Gpg)> {
    let scene = Scene::new(&["gpg"])?;
    let gpg = Gpg::new(&scene.path("gnupg"));
    gpg.key(USER, "never", &[]);
    gpg.export(USER, &scene.path("key.gpg"));
    Some((scene, gpg))
}

fn by(scene: &Scene, identity: &Value) -> Value {
    let key = scene.path("key.gpg");
    json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key, "signedIdentity": identity}])
}

fn sign(gpg: &Gpg, image: &str, more: &[&str]) -> Vec<String> {
    let home = gpg.home.display().to_string();
    let sign = [
        "container",
        "sign",
        image,
        "--sign-by",
        USER,
        "--gpg-homedir",
        &home,
    ];
    let words = [&sign[..], more].concat();
    words.into_iter().map(str::to_owned).collect()
}

fn signed(scene: &Scene, gpg: &Gpg, image: &str, more: &[&str]) -> String {
    let args = sign(gpg, image, more);
    scene.done(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn fails(scene: &Scene, args: &[String], words: &str) {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    scene.fails(&args, 2, words);
}

#[test]
fn everybody_takes_our_signature_for_what_it_is_for() {
    let Some((scene, gpg)) = scene() else { return };
    let image = os("1");
    scene.push(&image, "1", &[]);
    scene.push(&image, "2", &[]);
    let docker = |tag: &str| format!("docker://{}", scene.name(tag));
    let exact = by(&scene, &json!({"type": "matchExact"}));
    scene.policy(&exact);
    assert!(!scene.verifies(&scene.signed("1")));
    assert!(scene.skopeo_agrees(&docker("1"), &exact, false));

    let dir = format!("lookaside/ns/os@sha256={}", image.digest().hex());
    let dir = scene.path(&dir).display().to_string();
    for number in [1, 2] {
        let told = signed(&scene, &gpg, &scene.name("1"), &[]);
        let expected = format!(
            "Signed  {}\n  in    {dir}/signature-{number}\n",
            image.digest()
        );
        assert_eq!(told, expected);
    }
    assert!(scene.verifies(&scene.signed("1")));
    assert!(scene.skopeo_agrees(&docker("1"), &exact, true));
    scene.image(&["pull", &scene.signed("1")]);
    assert_eq!(
        scene.inspect(&scene.name("1"))["verified"][0]["kind"],
        "gpg"
    );
    assert!(!scene.verifies(&scene.signed("2")), "another tag");
    assert!(scene.skopeo_agrees(&docker("2"), &exact, false));

    let named = json!({"type": "exactReference", "dockerReference": "quay.io/a/b:1"});
    let named = by(&scene, &named);
    scene.policy(&named);
    assert!(!scene.verifies(&scene.signed("1")), "another name");
    assert!(scene.skopeo_agrees(&docker("1"), &named, false));
    signed(
        &scene,
        &gpg,
        &scene.name("1"),
        &["--sign-identity", "quay.io/a/b:1"],
    );
    assert!(scene.verifies(&scene.signed("1")));
    assert!(scene.skopeo_agrees(&docker("1"), &named, true));
}

#[test]
fn images_in_directories_are_signed_where_they_are() {
    let Some((scene, gpg)) = scene() else { return };
    let image = os("1");
    scene.push(&image, "1", &[]);
    let dir = format!("dir:{}", scene.path("image").display());
    scene.policy(&json!([{"type": "insecureAcceptAnything"}]));
    scene.done(&["image", "copy", &scene.name("1"), &dir]);
    let identity = json!({"type": "exactReference", "dockerReference": "quay.io/a/b:1"});
    let (gpg_rule, key) = (by(&scene, &identity), scene.keys("key"));
    let sigstore_rule = json!([{
        "type": "sigstoreSigned", "keyPath": scene.path("key.pub"), "signedIdentity": identity,
    }]);
    let as_name = ["--sign-identity", "quay.io/a/b:1"];
    for (rule, signs) in [(&gpg_rule, true), (&sigstore_rule, false)] {
        scene.policy(rule);
        let name = format!("ostree-image-signed:{dir}");
        assert!(!scene.verifies(&name));
        assert!(scene.skopeo_agrees(&dir, rule, false));
        match signs {
            true => drop(signed(&scene, &gpg, &dir, &as_name)),
            false => drop(scene.sign(&dir, &key, &as_name)),
        }
        assert!(scene.verifies(&name));
        assert!(scene.skopeo_agrees(&dir, rule, true));
    }
    let again = scene.sign(&dir, &key, &as_name);
    assert!(again.ends_with("/image/signature-3\n"), "{again}");
}

#[test]
fn passphrases_come_from_a_file() {
    let Some(scene) = Scene::new(&["gpg"]) else {
        return;
    };
    let gpg = Gpg::new(&scene.path("gnupg"));
    let make = [
        "--passphrase",
        "good",
        "--quick-generate-key",
        USER,
        "ed25519",
        "sign",
        "never",
    ];
    gpg.run(&make);
    gpg.export(USER, &scene.path("key.gpg"));
    scene.push(&os("1"), "1", &[]);
    let file = |name: &str| {
        scene
            .write(name, &format!("{name}\n"))
            .display()
            .to_string()
    };
    let (good, bad) = (file("good"), file("bad"));
    let with = |file: &str| sign(&gpg, &scene.name("1"), &["--sign-passphrase-file", file]);
    // The agent must have forgotten what it heard when the key was made.
    let forget = || {
        let mut forget = std::process::Command::new("gpgconf");
        let output = forget
            .args(["--kill", "gpg-agent"])
            .env("GNUPGHOME", &gpg.home)
            .output();
        assert!(output.unwrap().status.success());
    };
    forget();
    fails(
        &scene,
        &with(&bad),
        "GnuPG does not sign with the key \"os@example.org\"",
    );
    let good: Vec<_> = with(&good);
    scene.done(&good.iter().map(String::as_str).collect::<Vec<_>>());
    scene.policy(&by(&scene, &json!({"type": "matchExact"})));
    assert!(scene.verifies(&scene.signed("1")));
}

#[test]
fn without_a_key_or_a_place_nothing_is_signed() {
    let Some((scene, gpg)) = scene() else { return };
    scene.push(&os("1"), "1", &[]);
    let mut args = sign(&gpg, &scene.name("1"), &[]);
    args[4] = "nobody@example.org".into();
    fails(&scene, &args, "nobody@example.org");
    assert!(!scene.path("lookaside").exists());
    let place = "default-docker:\n  lookaside: https://sigs.example\n";
    scene.write("config/containers/registries.d/all.yaml", place);
    let args = sign(&gpg, &scene.name("1"), &[]);
    fails(
        &scene,
        &args,
        "let lookaside-staging in registries.d name a directory, file:///…",
    );
}
