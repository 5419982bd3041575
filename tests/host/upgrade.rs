//! The main job from outside: `rebase`, `upgrade`, `rollback` and `status`.

use std::fs;

use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use serde_json::{Value, json};

use crate::scene::{Scene, os, stderr, turn};

#[test]
fn rebase_upgrade_roll_back() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let name = scene.image_name("os");
    let (one, two) = (os("1", ""), os("2", "file /usr/bin/new 0 0 755 new"));
    scene.publish(&one, "os");
    let said = scene.ok(&["rebase", &name]);
    assert!(said.contains("it boots next"), "{said}");
    fs::write(scene.next().join("etc/motd"), "mine\n").unwrap();

    let said = scene.ok(&["upgrade"]);
    assert!(
        said.starts_with(&format!("No change: {name} (unverified)")),
        "{said}"
    );
    let output = scene.run(&["upgrade", "--unchanged-exit-77"]);
    assert_eq!(output.status.code(), Some(77));
    let output = scene.run(&["upgrade", "--check", "--unchanged-exit-77"]);
    assert_eq!(output.status.code(), Some(77));

    scene.publish(&two, "os");
    let before = scene.state();
    let said = scene.ok(&["upgrade", "--check"]);
    assert!(
        said.starts_with(&format!("Update available: {name} (unverified)\n")),
        "{said}"
    );
    assert!(said.contains(&two.digest().to_string()), "{said}");
    assert_eq!(scene.state(), before, "a check changed something");
    let cached = &scene.status()["status"]["otherDeployments"][0]["cachedUpdate"];
    assert_eq!(cached["imageDigest"], two.digest().to_string());
    assert_eq!(cached["version"], "2");

    scene.ok(&["upgrade"]);
    scene.fsck();
    assert_eq!(
        fs::read_to_string(scene.next().join("etc/motd")).unwrap(),
        "mine\n"
    );
    assert!(scene.next().join("usr/bin/new").exists());
    let status = scene.status();
    let digest = |status: &Value, at: &str| status.pointer(at).unwrap().clone();
    let (next, rollback) = (
        "/status/otherDeployments/0/image/imageDigest",
        "/status/rollback/image/imageDigest",
    );
    assert_eq!(digest(&status, next), two.digest().to_string());
    assert_eq!(digest(&status, rollback), one.digest().to_string());
    assert_eq!(
        digest(&status, "/status/rollback/cachedUpdate"),
        Value::Null
    );

    let said = scene.ok(&["rollback"]);
    assert!(said.starts_with("Boots next  default/"), "{said}");
    assert_eq!(digest(&scene.status(), next), one.digest().to_string());
    scene.ok(&["rollback"]);
    assert_eq!(scene.status(), status, "two rollbacks changed something");
    scene.fsck();
}

#[test]
fn the_status_has_the_fields_of_the_schema() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    let empty = scene.status();
    assert_eq!(
        empty,
        json!({
            "apiVersion": "org.containers.bootc/v1",
            "kind": "BootcHost",
            "metadata": {"name": "host"},
            "spec": {"image": null, "bootOrder": "default"},
            "status": {
                "staged": null,
                "booted": null,
                "rollback": null,
                "otherDeployments": [],
                "rollbackQueued": false,
                "type": null,
            },
        })
    );
    assert_eq!(scene.ok(&["status"]), "Nothing is deployed\n");

    scene.ok(&["rebase", &scene.image_name("os")]);
    let image = json!({
        "image": scene.image_name("os").strip_prefix("oci:").unwrap(),
        "transport": "oci",
        "signature": "insecure",
    });
    let status = scene.status();
    let entry = &status["status"]["otherDeployments"][0];
    let manifest: Value = serde_json::from_slice(&os("1", "").manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let fetched: u64 = layers.map(|l| l["size"].as_u64().unwrap()).sum();
    assert_eq!(status["spec"]["image"], image);
    assert_eq!(
        *entry,
        json!({
            "image": {
                "image": image,
                "version": "1",
                "timestamp": "2026-01-01T00:00:00Z",
                "imageDigest": os("1", "").digest().to_string(),
                "architecture": bowline::image::host_arch(),
            },
            "cachedUpdate": null,
            "incompatible": false,
            "pinned": false,
            "store": "ostreeContainer",
            "ostree": {
                "stateroot": "default",
                "checksum": entry["ostree"]["checksum"],
                "deploySerial": 0,
            },
            "verified": [],
            "transfer": {"fetched": fetched, "reused": 0},
        })
    );
    let yaml: Value = serde_yaml_ng::from_str(&scene.ok(&["status", "--format", "yaml"])).unwrap();
    assert_eq!(yaml, status);
    let checksum = entry["ostree"]["checksum"].as_str().unwrap();
    assert_eq!(
        scene.ok(&["status"]),
        format!(
            "  deployed (boots next)\n    Image       {} (unverified)\n    Digest      {}\n    \
             Version     1 (2026-01-01T00:00:00Z)\n    Commit      {checksum}.0\n    \
             Stateroot   default\n    Verified    no: it follows an unverified reference\n    \
             Fetched     {}, 0 B reused\n",
            scene.image_name("os"),
            os("1", "").digest(),
            bowline::sys::amount::bytes(fetched),
        )
    );
}

#[test]
fn images_go_with_the_deployments_that_followed_them() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    for (tag, version) in [("a", "1"), ("b", "2"), ("c", "3"), ("mine", "4")] {
        scene.publish(
            &os(version, &format!("file /usr/bin/{tag} 0 0 755 {tag}")),
            tag,
        );
    }
    scene.ok(&["image", "pull", &scene.image_name("mine")]);
    let has = |tag: &str| {
        scene
            .images()
            .contains(&format!("{}\"", scene.image_name(tag)))
    };
    scene.ok(&["rebase", &scene.image_name("a")]);
    scene.ok(&["rebase", &scene.image_name("b")]);
    assert!(has("a") && has("b"), "{}", scene.images());
    scene.ok(&["rebase", &scene.image_name("c")]);
    assert!(!has("a"), "{}", scene.images());
    assert!(has("b") && has("c") && has("mine"), "{}", scene.images());
    scene.fsck();
    let older = scene.image_name("a");
    scene.ok(&["rebase", "--retain", &older, "--allow-downgrade"]);
    assert!(
        has("a") && has("b") && has("c") && has("mine"),
        "{}",
        scene.images()
    );
    scene.fsck();
}

#[test]
fn a_download_is_deployed_by_the_next_upgrade() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    let two = os("2", "file /usr/bin/new 0 0 755 new");
    scene.publish(&two, "os");
    let entries = scene.state().0;
    let said = scene.ok(&["upgrade", "--download-only"]);
    assert!(said.contains("It is not deployed"), "{said}");
    assert_eq!(scene.state().0, entries);
    // Every layer is here: the upgrade needs the manifest and nothing else.
    let blobs = scene.dir.path().join("layout/blobs/sha256");
    for digest in two.blobs.keys() {
        fs::remove_file(blobs.join(digest.hex())).unwrap();
    }
    let said = scene.ok(&["upgrade"]);
    assert!(said.contains("Fetched     nothing"), "{said}");
    assert!(scene.next().join("usr/bin/new").exists());
    scene.fsck();
}

#[test]
fn what_cannot_be_deployed_is_refused_before_anything_changes() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let no_image = "hint: follow an image first: `bowline rebase IMAGE`\n";
    let said = scene.fails(2, &["upgrade"]);
    assert_eq!(said, format!("error: nothing is deployed\n{no_image}"));
    scene.fails(2, &["rollback"]);

    scene.publish(&os("1", ""), "os");
    let said = scene.fails(2, &["rebase", "--apply", &scene.image_name("os")]);
    assert!(said.contains("did not boot from"), "{said}");
    scene.ok(&["rebase", &scene.image_name("os")]);
    let said = scene.fails(7, &["rollback"]);
    assert!(
        said.contains("no other deployment to roll back to in stateroot default"),
        "{said}"
    );
    scene.fails(2, &["upgrade", "--apply"]);
    scene.fails(2, &["rollback", "--apply"]);

    // An image that says it boots and does not.
    let lines: Vec<&str> = OS.lines().filter(|l| !l.contains("vmlinuz")).collect();
    let lines = lines.join("\n");
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(&lines).unwrap();
    let image = Encapsulation::default()
        .image(fixture.repo(), &commit)
        .unwrap();
    scene.publish(&image.build(), "dead");
    let said = scene.fails(7, &["rebase", &scene.image_name("dead")]);
    assert!(said.contains("the image does not boot"), "{said}");
    // One that does not say so, and one for another machine.
    let mut unlabelled = image.clone();
    unlabelled
        .labels
        .retain(|key, _| key != "ostree.bootable" && key != "containers.bootc");
    scene.publish(&unlabelled.build(), "plain");
    scene.fails(7, &["rebase", &scene.image_name("plain")]);
    let mut foreign = image;
    foreign.architecture = "s390x".into();
    scene.publish(&foreign.build(), "foreign");
    let said = scene.fails(7, &["rebase", &scene.image_name("foreign")]);
    assert!(said.contains("linux/s390x"), "{said}");
    scene.fails(3, &["rebase", &scene.image_name("missing")]);
    scene.fails(
        2,
        &["rebase", "--stateroot", "../x", &scene.image_name("os")],
    );
}

#[test]
fn a_refused_signature_changes_nothing() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    let name = scene.image_name("os");
    let policy = scene.dir.path().join("reject.json");
    fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    let before = scene.state();
    let output = scene
        .command(&["rebase", &name])
        .env("CONTAINERS_POLICY_JSON", policy)
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(scene.state(), before);
    scene.fails(4, &["rebase", &format!("ostree-image-signed:{name}")]);
}

#[test]
fn only_an_empty_directory_becomes_a_sysroot() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    let name = scene.image_name("os");
    fs::remove_dir_all(scene.path().join("ostree")).unwrap();
    let precious = scene.path().join("precious");
    fs::write(&precious, "").unwrap();
    let refused = |args: &[&str], words: &str| {
        let output = scene.run(args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    };
    refused(&["rebase", &name], "is not a sysroot");
    refused(&["status"], "is not a sysroot");
    assert!(!scene.path().join("ostree").exists());
    fs::remove_file(precious).unwrap();

    for args in [
        &["status"][..],
        &["upgrade"],
        &["rebase", "--check", &name],
        &["rollback"],
    ] {
        refused(args, "is empty: nothing is deployed there yet");
    }
    refused(&["rebase", "--apply", &name], "did not boot from");
    assert!(!scene.path().join("ostree").exists());
    let said = scene.ok(&["rebase", &name]);
    assert!(
        said.starts_with("Made a new sysroot in the empty directory "),
        "{said}"
    );
    scene.fsck();
    assert!(scene.next().join("usr/bin/hello").exists());
}

#[test]
fn a_second_bowline_is_told_to_wait() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    let held = bowline::sysroot::Sysroot::open_locked(scene.path()).unwrap();
    for args in [
        &["rebase", &scene.image_name("os")][..],
        &["upgrade"],
        &["rollback"],
    ] {
        let said = scene.fails(5, args);
        assert!(said.contains("ostree/lock"), "{said}");
    }
    scene.ok(&["status"]);
    drop(held);
    scene.ok(&["rebase", &scene.image_name("os")]);
}

#[test]
fn a_plan_tells_what_is_done_about_each_layer() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let name = scene.image_name("os");
    scene.publish(&os("1", ""), "os");
    scene.ok(&["rebase", &name]);
    let said = scene.ok(&["upgrade", "--plan"]);
    assert!(said.starts_with("No change: "), "{said}");
    scene.publish(&os("2", "file /usr/bin/new 0 0 755 new"), "os");
    let before = scene.state();
    let checked = scene.ok(&["upgrade", "--check"]);
    let said = scene.ok(&["upgrade", "--plan"]);
    let table = said.strip_prefix(&checked).unwrap();
    let mut lines = table.lines().skip(1);
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["LAYER", "DIGEST", "KIND", "SIZE", "WHAT", "IS", "DONE"]
    );

    let answer = scene.ok(&["upgrade", "--plan", "--format", "json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let layers = answer["layers"].as_array().unwrap();
    let sum = |key: &str| layers.iter().map(|l| l[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("bytesToFetch"), answer["fetch"]["bytesToFetch"]);
    assert_eq!(sum("bytesReused") + sum("bytesKept"), 0);
    let mut fetched = 0;
    for (number, layer) in layers.iter().enumerate() {
        let line = lines.next().unwrap();
        assert_eq!(layer["number"], number + 1);
        assert_eq!(layer["kind"], if number == 0 { "base" } else { "chunk" });
        let fetch = layer["action"] == "fetch";
        assert!(fetch || layer["action"] == "present", "{layer}");
        assert_eq!(
            layer["bytesToFetch"],
            if fetch {
                layer["size"].clone()
            } else {
                json!(0)
            }
        );
        assert_eq!(line.contains("fetched whole, "), fetch, "{line}");
        assert_eq!(line.ends_with("  here"), !fetch, "{line}");
        fetched += usize::from(fetch);
    }
    assert_eq!(fetched, answer["fetch"]["layersToFetch"]);
    let sums = format!("{} layers, {fetched} of them to fetch: ", layers.len());
    assert!(lines.next().unwrap().starts_with(&sums), "{table}");
    assert_eq!((scene.state(), lines.next()), (before, None));

    let checked = scene.ok(&["upgrade", "--check", "--format", "json"]);
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["layers"], Value::Null);
    let status = scene.status();
    let cached = &status["status"]["otherDeployments"][0]["cachedUpdate"];
    assert_eq!(cached["version"], "2");
    // What is here already, and not deployed.
    scene.ok(&["upgrade", "--download-only"]);
    let said = scene.ok(&["rebase", "--plan", &name]);
    assert_eq!(said.matches("  here\n").count(), layers.len(), "{said}");
    for other in ["--apply", "--download-only", "--unattended"] {
        let output = scene.run(&["upgrade", "--plan", other]);
        assert_eq!(output.status.code(), Some(2), "{other}");
    }
}
