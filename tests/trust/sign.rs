//! Sigstore signatures that we make: `cosign` and `skopeo` take them, and so do we; none of us takes one that
//! is for something else. Keys of cosign's sign for us, and ours for cosign.

use std::fs;
use std::process::{Command, Output};

use bowline::testing::samples::{stderr, stdout};
use serde_json::{Value, json};

use crate::scene::{Scene, os};

/// What is not to be in any message.
const PASSPHRASE: &str = "a long passphrase";

impl Scene {
    /// Runs the program with a passphrase in its environment.
    pub fn with_passphrase(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.env("COSIGN_PASSWORD", PASSPHRASE).output().unwrap()
    }

    /// Runs it, which must succeed; its stdout goes out.
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.with_passphrase(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, which must fail with this code and these words, and tell no secret.
    pub fn fails(&self, args: &[&str], code: i32, words: &str) {
        let output = self.with_passphrase(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(words), "{words:?} is not in: {told}");
        assert!(!told.contains(PASSPHRASE), "{told}");
    }

    /// Makes a pair of keys, `NAME.private` and `NAME.pub`; the path of the first goes out.
    pub fn keys(&self, name: &str) -> String {
        let prefix = self.path(name).display().to_string();
        self.done(&[
            "container",
            "generate-sigstore-key",
            "--output-prefix",
            &prefix,
        ]);
        format!("{prefix}.private")
    }

    pub fn sign(&self, image: &str, key: &str, more: &[&str]) -> String {
        let sign = [
            "container",
            "sign",
            image,
            "--sign-by-sigstore-private-key",
            key,
        ];
        self.done(&[&sign[..], more].concat())
    }

    /// Whether our own verification takes an image.
    pub fn verifies(&self, image: &str) -> bool {
        let output = self.run(&["container", "verify", image]);
        match output.status.code() {
            Some(0) => true,
            Some(4) => false,
            other => panic!("{other:?}: {}", stderr(&output)),
        }
    }

    /// Whether skopeo takes what it knows as `image` under requirements. True as well where it cannot tell,
    /// and says so: Debian 12 has taken sigstore out of its skopeo.
    #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
    pub fn skopeo_agrees(&self, image: &str, requirements: &Value, expected: bool) -> bool {
        let policy = self.write("skopeo.json", &json!({"default": requirements}).to_string());
        let lookaside = self.path("lookaside").display().to_string();
        let places = format!(
            "default-docker:\n  lookaside: file://{lookaside}\n  use-sigstore-attachments: true\n"
        );
        let places = self.write("skopeo.d/all.yaml", &places);
        let to = self.path("copied");
        let _ = fs::remove_dir_all(&to);
        let mut skopeo = Command::new("skopeo");
        skopeo.arg("--policy").arg(&policy);
        skopeo.arg("--registries.d").arg(places.parent().unwrap());
        skopeo.args([
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--remove-signatures",
            image,
        ]);
        let output = skopeo
            .arg(format!("dir:{}", to.display()))
            .output()
            .unwrap();
        let said = stderr(&output);
        if said.contains("sigstore disabled") {
            eprintln!("skipped: this skopeo knows no sigstore");
            return true;
        }
        if output.status.success() != expected {
            eprintln!("skopeo says: {said}");
        }
        output.status.success() == expected
    }

    /// Whether cosign takes the signature of an image by this public key.
    pub fn cosign_verifies(&self, public: &str, image: &str) -> bool {
        let mut cosign = Command::new("cosign");
        cosign.args(["verify", "--insecure-ignore-tlog", "--key", public]);
        cosign.args(["--allow-http-registry", "--allow-insecure-registry", image]);
        let output = cosign.env("HOME", self.dir.path()).output().unwrap();
        output.status.success()
    }
}

fn by(public: &str, identity: &str) -> Value {
    let identity = json!({"type": identity});
    json!([{"type": "sigstoreSigned", "keyPath": public, "signedIdentity": identity}])
}

fn public(private: &str) -> String {
    private.replace(".private", ".pub").replace(".key", ".pub")
}

#[test]
fn everybody_takes_our_signature_for_what_it_is_for() {
    let Some(scene) = Scene::new(&["cosign"]) else {
        return;
    };
    let (one, other) = (scene.keys("one"), scene.keys("other"));
    let image = os("1");
    scene.push(&image, "1", &[]);
    scene.push(&image, "2", &[]);
    let name = scene.name("1");
    let docker = |tag: &str| format!("docker://{}", scene.name(tag));
    let strict = by(&public(&one), "matchExact");
    scene.policy(&strict);
    assert!(!scene.verifies(&scene.signed("1")), "it is not signed yet");
    assert!(scene.skopeo_agrees(&docker("1"), &strict, false));
    assert!(!scene.cosign_verifies(&public(&one), &name));

    let (digest, hex) = (image.digest().to_string(), image.digest().hex());
    let host = &scene.daemon.host;
    let expected = format!("Signed  {digest}\n  in    docker://{host}/ns/os:sha256-{hex}.sig\n");
    assert_eq!(scene.sign(&name, &one, &[]), expected);
    assert!(scene.verifies(&scene.signed("1")));
    assert!(scene.skopeo_agrees(&docker("1"), &strict, true));
    assert!(scene.cosign_verifies(&public(&one), &name));
    scene.image(&["pull", &scene.signed("1")]);
    let told = &scene.inspect(&name)["verified"][0];
    assert_eq!(
        (&told["kind"], &told["identity"]),
        (&json!("sigstore"), &json!(name))
    );

    // Another tag of the same image is not what was signed.
    assert!(!scene.verifies(&scene.signed("2")));
    assert!(scene.skopeo_agrees(&docker("2"), &strict, false));
    // Nor is another image under the tag, nor the key of somebody else.
    let others = by(&public(&other), "matchExact");
    scene.policy(&others);
    assert!(!scene.verifies(&scene.signed("1")));
    assert!(scene.skopeo_agrees(&docker("1"), &others, false));
    assert!(!scene.cosign_verifies(&public(&other), &name));
    // A second signature leaves the first one there.
    scene.sign(&name, &other, &[]);
    assert!(scene.verifies(&scene.signed("1")));
    for (key, requirement) in [(&one, &strict), (&other, &others)] {
        assert!(scene.skopeo_agrees(&docker("1"), requirement, true));
        assert!(scene.cosign_verifies(&public(key), &name));
    }
    scene.push(&os("2"), "1", &[]);
    assert!(!scene.verifies(&scene.signed("1")));
    assert!(!scene.cosign_verifies(&public(&one), &name));
}

#[test]
fn keys_of_cosign_sign_for_us_and_ours_for_cosign() {
    let Some(scene) = Scene::new(&["cosign"]) else {
        return;
    };
    let prefix = scene.path("theirs").display().to_string();
    let mut make = Command::new("cosign");
    make.args(["generate-key-pair", "--output-key-prefix", &prefix]);
    stdout(make.env("COSIGN_PASSWORD", PASSPHRASE)).unwrap();
    let theirs = format!("{prefix}.key");
    let image = os("1");
    scene.push(&image, "1", &[]);
    // Who names a digest signs for the repository, as cosign does.
    let by_digest = format!("{}/ns/os@{}", scene.daemon.host, image.digest());
    let passphrase = scene.write("passphrase", &format!("{PASSPHRASE}\nsecond line\n"));
    let passphrase = ["--sign-passphrase-file", passphrase.to_str().unwrap()];
    scene.sign(&by_digest, &theirs, &passphrase);
    assert!(scene.cosign_verifies(&public(&theirs), &by_digest));
    scene.policy(&by(&public(&theirs), "matchExact"));
    assert!(!scene.verifies(&scene.signed("1")));
    let repository = by(&public(&theirs), "matchRepository");
    scene.policy(&repository);
    assert!(scene.verifies(&scene.signed("1")));
    let docker = format!("docker://{}", scene.name("1"));
    assert!(scene.skopeo_agrees(&docker, &repository, true));

    let ours = scene.keys("ours");
    scene.push(&os("2"), "2", &[]);
    let mut cosign = Command::new("cosign");
    cosign.args(["sign", "--key", &ours, "--tlog-upload=false", "--yes"]);
    cosign.args(["--allow-http-registry", "--allow-insecure-registry"]);
    cosign
        .arg(scene.name("2"))
        .env("COSIGN_PASSWORD", PASSPHRASE);
    stdout(&mut cosign).unwrap();
    scene.policy(&by(&public(&ours), "matchRepository"));
    assert!(scene.verifies(&scene.signed("2")));
    assert!(!scene.verifies(&scene.signed("1")));
    // Beside a signature of cosign's.
    scene.sign(&scene.name("2"), &theirs, &passphrase);
    for key in [&ours, &theirs] {
        assert!(scene.cosign_verifies(&public(key), &scene.name("2")));
        scene.policy(&by(&public(key), "matchRepository"));
        assert!(scene.verifies(&scene.signed("2")));
    }
}

#[test]
fn an_index_is_signed_with_everything_in_it() {
    let Some(scene) = Scene::new(&["cosign"]) else {
        return;
    };
    let (image, key) = (os("1"), scene.keys("key"));
    let layout = scene.path("layout");
    image.write_layout(&layout, "1").unwrap();
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = index["manifests"][0].as_object_mut().unwrap();
    entry.remove("annotations");
    entry.insert(
        "platform".into(),
        json!({"os": "linux", "architecture": bowline::image::host_arch()}),
    );
    index["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    let bytes = index.to_string().into_bytes();
    let digest = bowline::image::Digest::of(&bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
    let outer = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest.to_string(),
            "size": bytes.len(),
            "annotations": {"org.opencontainers.image.ref.name": "1"},
        }],
    });
    fs::write(&path, outer.to_string()).unwrap();
    scene.policy(&json!([{"type": "insecureAcceptAnything"}]));
    let from = format!("oci:{}:1", layout.display());
    let to = format!("docker://{}", scene.name("1"));
    scene.done(&["image", "copy", "--all", &from, &to]);

    let told = scene.sign(&scene.name("1"), &key, &[]);
    let signed: Vec<_> = told
        .lines()
        .filter_map(|l| l.strip_prefix("Signed  "))
        .collect();
    assert_eq!(signed, [digest.to_string(), image.digest().to_string()]);
    let requirement = by(&public(&key), "matchExact");
    scene.policy(&requirement);
    assert!(scene.verifies(&scene.signed("1")));
    assert!(scene.skopeo_agrees(&to, &requirement, true));
    for name in [
        scene.name("1"),
        format!("{}/ns/os@{}", scene.daemon.host, image.digest()),
    ] {
        assert!(scene.cosign_verifies(&public(&key), &name), "{name}");
    }
}

#[test]
fn what_cannot_sign_says_why() {
    let Some(scene) = Scene::new(&["openssl"]) else {
        return;
    };
    scene.push(&os("1"), "1", &[]);
    let (name, good) = (scene.name("1"), scene.keys("good"));
    let write = |file: &str, text: &str| scene.write(file, text).display().to_string();
    let (wrong, large) = (
        write("wrong", "wrong\n"),
        write("large", &"x".repeat(70_000)),
    );
    let text = write("text", "nonsense");
    let p384 = scene.path("p384").display().to_string();
    let curve = [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
    ];
    stdout(Command::new("openssl").args(curve).args(["-out", &p384])).unwrap();
    let (missing, directory) = ("/no/such/file", scene.path("").display().to_string());
    let pass = "--sign-passphrase-file";
    for (key, more, words) in [
        (
            &*good,
            &[pass, &*wrong][..],
            "the passphrase is wrong (or the file is damaged)",
        ),
        (&good, &[pass, missing], "No such file or directory"),
        (&good, &["--sign-identity", "quay.io/A"], "quay.io/A"),
        (&large, &[], "it is too large for a key or a passphrase"),
        (
            &text,
            &[],
            "it is not a private key of cosign or in PKCS#8 form",
        ),
        (
            &public(&good),
            &[],
            "it is not a private key of cosign or in PKCS#8 form",
        ),
        (&p384, &[], "it is not a key for ECDSA on P-256"),
        (missing, &[], "No such file or directory"),
        (&directory, &[], "Is a directory"),
    ] {
        let sign = [
            "container",
            "sign",
            &name,
            "--sign-by-sigstore-private-key",
            key,
        ];
        scene.fails(&[&sign[..], more].concat(), 2, words);
    }
    let sign = |image: &str, code, words: &str| {
        let sign = [
            "container",
            "sign",
            image,
            "--sign-by-sigstore-private-key",
            &good,
        ];
        scene.fails(&sign, code, words);
    };
    sign(&scene.name("none"), 3, "does not exist");
    sign("oci:/x:1", 7, "hint: copy the image to a registry");
    sign(
        "dir:/x",
        2,
        "hint: say what it will be called with --sign-identity",
    );
    sign("os:1", 2, "os:1");
    scene.fails(
        &["container", "sign", &name],
        2,
        "--sign-by-sigstore-private-key",
    );
    // No key is written over, nor half a pair made.
    let prefix = good.trim_end_matches(".private");
    let make = |prefix: &str| {
        [
            "container",
            "generate-sigstore-key",
            "--output-prefix",
            prefix,
        ]
        .map(str::to_owned)
    };
    let make = |prefix: &str, code, words: &str| {
        let make = make(prefix);
        scene.fails(&make.each_ref().map(String::as_str), code, words);
    };
    let before = fs::read(&good).unwrap();
    make(prefix, 2, "is there already");
    write("half.pub", "");
    let half = scene.path("half").display().to_string();
    make(&half, 2, "half.pub is there already");
    assert!(!scene.path("half.private").exists());
    assert_eq!(fs::read(&good).unwrap(), before);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(&good).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn registries_that_take_nothing_are_named() {
    let Some(mut scene) = Scene::new(&["htpasswd"]) else {
        return;
    };
    let key = scene.keys("key");
    scene.push(&os("1"), "1", &[]);
    let sign = |scene: &Scene, words: &str| {
        let name = scene.name("1");
        let sign = [
            "container",
            "sign",
            &name,
            "--sign-by-sigstore-private-key",
            &key,
        ];
        scene.fails(&sign, 3, words);
    };
    let storage = json!({
        "filesystem": {"rootdirectory": scene.path("storage")},
        "maintenance": {"readonly": {"enabled": true}},
    });
    scene.restart(json!({"storage": storage}));
    sign(&scene, "Signing docker://");
    let users = scene.path("users").display().to_string();
    crate::daemon::run("htpasswd", &["-cbB", &users, "somebody", "dummy-password"]);
    scene.restart(json!({"auth": {"htpasswd": {"realm": "test", "path": users}}}));
    sign(&scene, "hint: log in with `podman login`");
    use base64::Engine as _;
    let auth = base64::prelude::BASE64_STANDARD.encode("somebody:dummy-password");
    let auth = json!({"auths": {&scene.daemon.host: {"auth": auth}}});
    let auth = scene
        .write("auth.json", &auth.to_string())
        .display()
        .to_string();
    scene.sign(&scene.name("1"), &key, &["--authfile", &auth]);
}
