//! What the commands do and print where everything is fine, and how signals end them.

use std::process::{Child, Command, Stdio};

use bowline::testing::oci::ImageBuilder;
use bowline::testing::registry::{Fault, TestRegistry};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::scene::{Scene, bootable, plain, stderr};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_pulled_image_is_listed_inspected_and_removed() {
    let scene = Scene::new();
    let image = bootable();
    let name = scene.offer(&image, "1");
    let pulled = scene.ok(&["pull", &name]);
    let list = json(&scene.ok(&["list", "--format", "json"]));
    let commit = list[0]["commit"].as_str().unwrap();
    assert_eq!(
        pulled,
        format!(
            "Image   {name}\nDigest  {}\nCommit  {commit}\n",
            image.digest()
        )
    );
    assert_eq!(list[0]["image"], name);
    assert_eq!(list[0]["digest"], image.digest().to_string());
    assert_eq!(scene.ok(&["list", "-q"]), format!("{name}\n"));

    let details = json(&scene.ok(&["inspect", &name, "--format", "json"]));
    let kinds: Vec<_> = details["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["kind"])
        .collect();
    assert_eq!(kinds, ["base", "chunk", "chunk"]);
    assert_eq!(details["bootable"], true);
    let raw = json(&scene.ok(&["inspect", &name, "--raw", "manifest"]));
    assert_eq!(raw, json(std::str::from_utf8(&image.manifest).unwrap()));
    let raw = json(&scene.ok(&["inspect", &name, "--raw", "config"]));
    assert_eq!(raw, json(std::str::from_utf8(&image.config).unwrap()));
    assert_eq!(scene.ok(&["history", &name]).lines().count(), 4);
    scene.assert_fsck();

    let removed = scene.ok(&["remove", &name]);
    assert!(
        removed.starts_with("Removed 1 image, 3 layers and "),
        "{removed}"
    );
    assert_eq!(scene.ok(&["list", "-q"]), "");
    scene.assert_fsck();
}

#[test]
fn pulling_again_changes_nothing_and_says_the_same() {
    let scene = Scene::new();
    let name = scene.offer(&plain("1"), "1");
    let first = scene.ok(&["pull", &name]);
    assert_eq!(scene.ok(&["pull", &name]), first);
}

#[test]
fn a_relative_path_means_the_same_from_everywhere() {
    let scene = Scene::new();
    let name = scene.offer(&plain("1"), "1");
    let relative = |args: &[&str]| {
        let mut command = scene.command(args);
        command.current_dir(scene.dir.path()).output().unwrap()
    };
    let pulled = relative(&["pull", "oci:layout:1"]);
    assert_eq!(pulled.status.code(), Some(0), "{}", stderr(&pulled));
    assert_eq!(scene.ok(&["list", "-q"]), format!("{name}\n"));
    let removed = relative(&["remove", "oci:layout:1"]);
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
}

#[test]
fn layers_that_another_image_needs_stay() {
    let scene = Scene::new();
    let base = ImageBuilder::default();
    let base = base.derived("file /usr/share/a 0 0 644 a").unwrap();
    let more = base.clone().derived("file /usr/share/b 0 0 644 b").unwrap();
    let (one, two) = (
        scene.offer(&base.build(), "1"),
        scene.offer(&more.build(), "2"),
    );
    scene.ok(&["pull", &one]);
    scene.ok(&["pull", &two]);
    let removed = scene.ok(&["remove", &one]);
    assert!(
        removed.starts_with("Removed 1 image, 0 layers and "),
        "{removed}"
    );
    let pruned = scene.ok(&["prune"]);
    assert_eq!(
        pruned,
        "Removed 0 images, 0 layers and 0 objects; 0 B freed\n"
    );
    let pruned = scene.ok(&["prune", "--undeployed"]);
    assert!(
        pruned.starts_with("Removed 1 image, 2 layers and "),
        "{pruned}"
    );
    scene.assert_fsck();
}

#[test]
fn what_is_not_stored_is_named_and_nothing_is_removed() {
    let scene = Scene::new();
    let name = scene.offer(&plain("1"), "1");
    scene.ok(&["pull", &name]);
    for command in ["inspect", "history"] {
        let output = scene.run(&[command, "quay.io/a/b"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
    }
    let output = scene.run(&["remove", &name, "quay.io/a/b"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "error: docker://quay.io/a/b is not stored here\nhint: `bowline image list` shows what \
         is stored\n"
    );
    assert_eq!(scene.ok(&["list", "-q"]), format!("{name}\n"));
}

#[test]
fn a_place_without_a_repository_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_bowline"))
        .args(["image", "list", "--repo", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "error: /nowhere is not an ostree repository\nhint: name a repository with --repo, or a \
         sysroot with --sysroot\n"
    );
}

#[test]
fn progress_goes_to_stderr_as_lines_and_to_a_descriptor_as_json() {
    let scene = Scene::new();
    let name = scene.offer(&bootable(), "1");
    let path = scene.dir.path().join("progress");
    let file = path.display();
    let script = format!("exec \"$0\" \"$@\" --progress-fd 3 3>{file}");
    let mut command = scene.command(&["pull", &name]);
    let output = Command::new("bash")
        .args(["-c", &script])
        .arg(command.get_program())
        .args(command.get_args())
        .env("CONTAINERS_POLICY_JSON", scene.policy())
        .output()
        .unwrap();
    let lines = stderr(&output);
    assert!(
        lines.starts_with("Resolving image\nFetching 3 layers, "),
        "{lines}"
    );
    assert!(lines.contains("\nMerging layers\n"), "{lines}");
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Value> = text.lines().map(json).collect();
    assert_eq!(events[0], json(r#"{"type":"Start","version":"0.1.0"}"#));
    let last = events
        .iter()
        .rfind(|event| event["type"] == "ProgressBytes")
        .unwrap();
    assert_eq!(last["bytes"], last["bytesTotal"], "{last}");
    assert_eq!(
        (&last["steps"], &last["stepsTotal"]),
        (&3.into(), &3.into())
    );
    assert_eq!(last["id"], name);

    // Quiet: the same pull says nothing on stderr.
    assert_eq!(stderr(&command.arg("-q").output().unwrap()), "");
}

/// Starts a pull whose first layer never comes, and waits until it is asked for.
fn hanging_pull(scene: &Scene, registry: &TestRegistry) -> Child {
    let image = plain("1");
    scene.offer(&image, "1");
    registry.add_layout("a/b", &scene.layout()).unwrap();
    let layer = image.blobs.keys().next().unwrap().to_string();
    registry.fault(&layer, Fault::Hang);
    let name = format!("{}/a/b:1", registry.host());
    let mut command = scene.command(&["pull", &name]);
    let child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while !registry
        .requests()
        .iter()
        .any(|seen| seen.path.contains(&layer))
    {
        std::thread::yield_now();
    }
    child
}

#[test]
fn signals_end_a_pull_cleanly() {
    for (signal, code, word) in [
        (Signal::INT, 130, "interrupted"),
        (Signal::TERM, 143, "terminated"),
    ] {
        let (scene, registry) = (Scene::new(), TestRegistry::start());
        let child = hanging_pull(&scene, &registry);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let text = stderr(&output);
        let (_, error) = text.split_once("error: ").unwrap();
        let name = format!("docker://{}/a/b:1", registry.host());
        assert_eq!(
            error,
            format!(
                "Pulling {name}\n  caused by: {word}\nhint: run the same command again; \
                 finished layers are kept\n"
            )
        );
        scene.assert_fsck();
        assert_eq!(scene.ok(&["list", "-q"]), "");
        registry.clear_faults();
        scene.ok(&["pull", &format!("{}/a/b:1", registry.host())]);
        scene.assert_fsck();
    }
}
