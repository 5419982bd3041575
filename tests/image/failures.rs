//! Images, registries and policies that are not as they should be: exit code, what the user reads,
//! and that the repository is as it was.

use bowline::image::{Compression, Digest};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::registry::{Fault, TestRegistry};
use bowline::testing::tar;

use crate::scene::{Scene, plain, stderr};

/// What a failed command leaves: its exit code and what stands behind `error: `.
fn failure(scene: &Scene, args: &[&str]) -> (i32, String) {
    let output = scene.run(args);
    let text = stderr(&output);
    assert!(output.stdout.is_empty(), "{text}");
    let (_, error) = text
        .split_once("error: ")
        .unwrap_or_else(|| panic!("no error: {text}"));
    (output.status.code().unwrap(), error.to_owned())
}

/// Pulls an image that must be refused, beside one that was there before and must stay.
fn refused(image: &Image, args: &[&str]) -> (i32, String) {
    let scene = Scene::new();
    let there = scene.offer(&plain("before"), "before");
    scene.ok(&["pull", &there]);
    let name = scene.offer(image, "1");
    let seen = failure(&scene, &[&["pull", &name], args].concat());
    scene.assert_fsck();
    assert_eq!(scene.ok(&["list", "-q"]), format!("{there}\n"));
    seen
}

fn one_layer(layer: Layer) -> Image {
    ImageBuilder::default().layer(layer).build()
}

fn layer(lines: &str, compression: Compression) -> Layer {
    Layer::new(&tar::layer(lines).unwrap(), compression).unwrap()
}

fn garbage(compression: Compression) -> Image {
    let mut layer = layer("dir /usr 0 0 755", compression);
    layer.blob = b"neither gzip nor zstd".repeat(50);
    layer.digest = Digest::of(&layer.blob);
    layer.size = layer.blob.len() as i64;
    one_layer(layer)
}

fn with_blob(change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = one_layer(layer("data /usr/x 0 0 644 90000 3", Compression::Gzip));
    change(image.blobs.values_mut().next().unwrap());
    image
}

#[test]
fn layers_that_are_not_what_they_promise_exit_with_3() {
    let mut wrong_diff_id = layer("file /usr/x 0 0 644 x", Compression::Gzip);
    wrong_diff_id.diff_id = Digest::of(b"another");
    for (what, image) in [
        ("changed", with_blob(|blob| *blob.last_mut().unwrap() ^= 1)),
        ("too short", with_blob(|blob| blob.truncate(100))),
        ("too long", with_blob(|blob| blob.push(0))),
        ("no gzip", garbage(Compression::Gzip)),
        ("no zstd", garbage(Compression::Zstd)),
        ("no tar", garbage(Compression::None)),
        ("diff_id", one_layer(wrong_diff_id)),
        (
            "outside",
            one_layer(layer("file /usr/../../x 0 0 644 x", Compression::Gzip)),
        ),
        (
            "hard link",
            one_layer(layer("hardlink /usr/x /../etc/shadow", Compression::Gzip)),
        ),
    ] {
        let digest = image.blobs.keys().next().unwrap().to_string();
        let (code, error) = refused(&image, &[]);
        assert_eq!(code, 3, "{what}: {error}");
        for part in ["Pulling oci:", "layer 1 of 1", &digest, "\nhint: "] {
            assert!(error.contains(part), "{what} lacks {part:?}: {error}");
        }
    }
}

#[test]
fn an_image_for_another_machine_exits_with_7() {
    let builder = ImageBuilder {
        architecture: "riscv64".into(),
        ..ImageBuilder::default()
    };
    let image = builder.derived("dir /usr 0 0 755").unwrap().build();
    let (code, error) = refused(&image, &["--arch", "amd64"]);
    assert_eq!(code, 7, "{error}");
    assert!(
        error.contains("riscv64") && error.contains("amd64"),
        "{error}"
    );
    assert!(
        error.contains("\nhint: choose an image for this machine"),
        "{error}"
    );
}

#[test]
fn a_layer_of_an_unknown_type_exits_with_3() {
    let mut layer = layer("dir /usr 0 0 755", Compression::Gzip);
    layer.media_type = Some("application/vnd.example.squashfs".into());
    let (code, error) = refused(&one_layer(layer), &[]);
    assert_eq!(code, 3, "{error}");
    assert!(
        error.contains("application/vnd.example.squashfs"),
        "{error}"
    );
}

#[test]
fn answers_of_a_registry_exit_with_3() {
    for (fault, says, hint) in [
        (
            Fault::Status(401, String::new()),
            "is denied",
            "podman login",
        ),
        (
            Fault::Status(403, String::new()),
            "is denied",
            "podman login",
        ),
        (
            Fault::Status(404, String::new()),
            "does not exist",
            "the name and the tag",
        ),
        (Fault::Status(429, String::new()), "429", "this may pass"),
        (Fault::Status(500, String::new()), "500", "this may pass"),
        (Fault::Close, "/v2/a/b/manifests/1", "this may pass"),
        (Fault::Garbage, "/v2/a/b/manifests/1", "this may pass"),
        (Fault::Hang, "/v2/a/b/manifests/1", "this may pass"),
        (Fault::Endless(vec![b' '; 4096]), "larger than", ""),
    ] {
        let (scene, registry) = (Scene::new(), TestRegistry::start());
        scene.offer(&plain("1"), "1");
        registry.add_layout("a/b", &scene.layout()).unwrap();
        registry.fault("/manifests/", fault.clone());
        let name = format!("{}/a/b:1", registry.host());
        let patience = ["--retry", "0", "--timeout", "1"];
        let (code, error) = failure(&scene, &[&["pull", &name][..], &patience].concat());
        assert_eq!(code, 3, "{fault:?}: {error}");
        assert!(
            error.starts_with(&format!("Pulling docker://{name}\n")),
            "{error}"
        );
        assert!(error.contains(says), "{fault:?} lacks {says:?}: {error}");
        assert!(error.contains(hint), "{fault:?} lacks {hint:?}: {error}");
    }
}

#[test]
fn a_registry_that_goes_silent_in_a_layer_exits_with_3_and_the_pull_can_go_on() {
    let (scene, registry) = (Scene::new(), TestRegistry::start());
    let image = with_blob(|_| ());
    scene.offer(&image, "1");
    registry.add_layout("a/b", &scene.layout()).unwrap();
    let layer = image.blobs.keys().next().unwrap().to_string();
    registry.fault(&layer, Fault::StallAfter(1000));
    let name = format!("{}/a/b:1", registry.host());
    let (code, error) = failure(&scene, &["pull", &name, "--retry", "0", "--timeout", "1"]);
    assert_eq!(code, 3, "{error}");
    assert!(
        error.contains("layer 1 of 1") && error.contains("this may pass"),
        "{error}"
    );
    registry.clear_faults();
    scene.ok(&["pull", &name]);
    scene.assert_fsck();
}

#[test]
fn what_the_policy_refuses_exits_with_4_and_no_layer_is_fetched() {
    let reject = r#"{"default":[{"type":"reject"}]}"#;
    let signed = r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}"#;
    let anything = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    for (prefix, policy) in [
        ("", reject),
        ("", signed),
        ("", "{}"),
        ("ostree-image-signed:", anything),
        ("ostree-remote-image:origin:", anything),
    ] {
        let scene = Scene::new();
        let registry = TestRegistry::start();
        scene.offer(&plain("1"), "1");
        registry.add_layout("a/b", &scene.layout()).unwrap();
        let name = format!("{prefix}docker://{}/a/b:1", registry.host());
        let mut command = scene.command(&["pull", &name]);
        let file = scene.dir.path().join("strict.json");
        std::fs::write(&file, policy).unwrap();
        let output = command
            .env("CONTAINERS_POLICY_JSON", file)
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{prefix} {policy}: {text}");
        assert!(
            text.contains("is refused: ") && text.contains("\nhint: "),
            "{text}"
        );
        // Manifest and config only, and a look for signatures.
        let requests = registry.requests();
        let blobs = requests
            .iter()
            .filter(|r| format!("{r:?}").contains("/blobs/"));
        assert!(blobs.count() <= 1, "{requests:?}");
        assert_eq!(scene.ok(&["list", "-q"]), "");
    }
}

#[test]
fn a_wrong_reference_exits_with_2() {
    let scene = Scene::new();
    for name in [
        "debian",
        "oci:",
        "docker:x",
        "quay.io/A/b",
        "quay.io/a/b@sha256:0",
    ] {
        let (code, error) = failure(&scene, &["pull", name]);
        assert_eq!(code, 2, "{name}: {error}");
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_credentials_file_that_is_not_there_exits_with_2() {
    let (scene, registry) = (Scene::new(), TestRegistry::start());
    let name = format!("{}/a/b:1", registry.host());
    let (code, error) = failure(&scene, &["pull", &name, "--authfile", "/nowhere/auth.json"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("/nowhere/auth.json"), "{error}");
}
