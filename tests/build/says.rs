//! What images say, and what is refused.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline::testing::Fixture;
use bowline::testing::fixture::OS;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::scene::{Scene, encapsulate, run};

#[test]
fn the_options_are_what_the_image_says() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    let config = scene.write(
        "config.json",
        br#"{"User":"1","Env":["A=b"],"Labels":{"c":"d"}}"#,
    );
    let more = "--label a=b=c --label empty= --copymeta version --copymeta-opt none --cmd /bin/sh --cmd -l \
                --arch aarch64 --compression zstd --compression-level 9 --config";
    let more: Vec<&str> = more.split_whitespace().chain([config.as_str()]).collect();
    let printed = encapsulate(&scene, &fixture, &commit, &more);
    let (manifest, config) = scene.parts("layout");
    let index = scene.json("layout/index.json");
    assert_eq!(printed.trim(), index["manifests"][0]["digest"]);
    let labels = &config["config"]["Labels"];
    for (key, value) in [
        ("a", "b=c"),
        ("empty", ""),
        ("c", "d"),
        ("version", "1"),
        ("ostree.commit", &commit),
        ("ostree.bootable", "true"),
        ("containers.bootc", "1"),
        ("ostree.linux", "6.1.0"),
        ("org.opencontainers.image.version", "1"),
    ] {
        assert_eq!(labels[key], value, "{key}");
    }
    assert_eq!(labels["none"], Value::Null);
    assert_eq!(config["config"]["Cmd"], json!(["/bin/sh", "-l"]));
    assert_eq!(
        (&config["config"]["User"], &config["config"]["Env"]),
        (&json!("1"), &json!(["A=b"]))
    );
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+zstd"
    );
    assert_eq!(config["history"][0]["created_by"], "fixture");
}

#[test]
fn the_time_is_the_commits_or_what_the_environment_says() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    let mut digests = Vec::new();
    for (epoch, created) in [
        (None, "2026-01-01T00:00:00Z"),
        (Some("86400"), "1970-01-02T00:00:00Z"),
        (None, "2026-01-01T00:00:00Z"),
    ] {
        let (repo, image) = (fixture.path().to_str().unwrap(), scene.image("layout"));
        let mut command =
            scene.command(&["container", "encapsulate", "--repo", repo, &commit, &image]);
        command.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch)));
        let output = command.output().unwrap();
        assert!(output.status.success());
        let (_, config) = scene.parts("layout");
        assert_eq!(
            (&config["created"], &config["history"][0]["created"]),
            (&json!(created), &json!(created))
        );
        digests.push(output.stdout);
    }
    assert_eq!(digests[0], digests[2]);
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    let broken = scene.write("broken.json", b"[]");
    let repo = fixture.path().to_str().unwrap();
    let image = scene.image("layout");
    let cases: [(&str, &[&str], i32, &str); 11] = [
        (&commit, &["--label", "a"], 2, "\"a\" is no label"),
        (&commit, &["--compression-level", "13"], 2, "no level 13"),
        (
            &commit,
            &["--compression", "none", "--compression-level", "1"],
            2,
            "no level 1",
        ),
        (&commit, &["--config", &broken], 2, "no JSON object"),
        (&commit, &["--contentmeta", &broken], 2, "not valid JSON"),
        (&commit, &["--copymeta", "none"], 2, "has no none"),
        (&commit, &["--arch", "martian"], 2, "no architecture"),
        (&commit, &["--arch", ""], 2, "no architecture"),
        (
            &commit,
            &["--copymeta", "ostree.bootable"],
            1,
            "is not a text",
        ),
        (&commit, &["--format-version", "3"], 2, "format-version"),
        ("no/such/ref", &[], 2, "no such ref or commit"),
    ];
    for (rev, more, code, words) in cases {
        let args = ["container", "encapsulate", "--repo", repo, rev, &image];
        let output = scene.run(&[&args[..], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(words), "{more:?}: {said}");
    }
    let output = scene.run(&[
        "container",
        "encapsulate",
        "--repo",
        &scene.text("none"),
        "os",
        &image,
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!scene.path("layout/index.json").exists());
}

#[test]
fn no_commit_is_signed_before_everything_was_read() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let secret = [&[7; 32][..], pair.public_key().as_ref()].concat();
    let key = scene.write("key", BASE64_STANDARD.encode(secret).as_bytes());
    let (broken, none) = (scene.write("broken.json", b"{"), scene.text("none"));
    let repo = fixture.path().to_str().unwrap();
    let (image, nowhere) = (scene.image("layout"), format!("oci:{broken}:tag"));
    let args = ["container", "encapsulate", "--repo", repo, &commit];
    let signed = ["--sign-commit-ed25519", &key];
    let detached = fixture.path().join(format!(
        "objects/{}/{}.commitmeta",
        &commit[..2],
        &commit[2..]
    ));
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &[&image, "--config", &none],
            2,
            "none cannot be read: No such file",
        ),
        (&[&image, "--config", &broken], 2, "no JSON object"),
        (
            &[&image, "--contentmeta", &none],
            2,
            "none cannot be read: No such file",
        ),
        (&[&image, "--contentmeta", &broken], 2, "not valid JSON"),
        (&[&image, "--copymeta", "none"], 2, "has no none"),
        (&[&image, "--compression-level", "13"], 2, "no level 13"),
        (
            &[&image, "--previous-build", &nowhere],
            1,
            "Looking at the previous build",
        ),
        (&[&image, "--flatpak"], 2, "is no flatpak's"),
        (&[&nowhere], 1, "broken.json"),
    ];
    for (more, code, words) in cases {
        let output = scene.run(&[&args[..], &signed, more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(words), "{more:?}: {said}");
        assert!(!detached.exists(), "{more:?}");
    }
    assert!(!scene.path("layout").exists());
    scene.ok(&[&args[..], &signed, &[&image]].concat());
    assert!(detached.exists());
}

#[test]
fn names_that_no_ref_can_have_are_refused_before_the_work() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    encapsulate(&scene, &fixture, &commit, &[]);
    let (repo, image) = (scene.repo("repo"), scene.image("layout"));
    for name in ["../x", "", "remote:x", "a b"] {
        for command in [
            &["container", "unencapsulate", image.as_str()][..],
            &["tar", "import", "/dev/null"],
        ] {
            let more = ["--repo", &repo, "--write-ref", name];
            let output = scene.run(&[command, &more].concat());
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name}: {said}");
            assert!(said.contains("is no name for a ref"), "{said}");
        }
    }
    let objects = scene.path("repo/objects").read_dir().unwrap();
    assert_eq!(objects.count(), 0);
}

#[test]
fn an_image_with_more_than_a_commit_or_without_one_is_refused() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    let plan = bowline::testing::Encapsulation::default();
    let image = plan.image(fixture.repo(), &commit).unwrap();
    let derived = image.clone().derived("file /usr/new 0 0 644 x").unwrap();
    let mut plain = image;
    plain.labels.remove("ostree.final-diffid");
    let repo = scene.repo("repo");
    for (image, words) in [
        (derived, "has 1 layers on top of"),
        (plain, "has no ostree commit in it"),
    ] {
        image
            .build()
            .write_layout(&scene.path("layout"), "tag")
            .unwrap();
        let output = scene.run(&[
            "container",
            "unencapsulate",
            "-q",
            "--repo",
            &repo,
            &scene.image("layout"),
        ]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(
            said.contains(words) && said.contains("bowline image pull"),
            "{said}"
        );
    }
    assert_eq!(run("ostree", &["refs", "--repo", &repo]), "");
}

#[test]
fn an_archive_is_nothing_for_a_closed_pipe() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OS).unwrap();
    let script = format!(
        "{} tar export --repo {} {commit} | head -c 100 >/dev/null; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_bowline"),
        fixture.path().display(),
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    drop(scene);
}
