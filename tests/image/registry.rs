//! `bowline image pull` from a registry, from outside: what it asks for, with which credentials,
//! and that a line that breaks costs nothing but time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline::testing::registry::{Access, Fault, TestRegistry};

use crate::scene::{Scene, bootable, stderr};

/// A registry with a bootable image, and its name.
fn serve(scene: &Scene) -> (TestRegistry, String) {
    let registry = TestRegistry::start();
    scene.offer(&bootable(), "1");
    registry.add_layout("ns/os", &scene.layout()).unwrap();
    let name = format!("{}/ns/os:1", registry.host());
    (registry, name)
}

fn paths(registry: &TestRegistry) -> Vec<String> {
    registry.requests().into_iter().map(|r| r.path).collect()
}

#[test]
fn each_blob_is_fetched_once_and_nothing_when_nothing_changed() {
    let scene = Scene::new();
    let (registry, name) = serve(&scene);
    scene.ok(&["pull", &name]);
    let mut all = paths(&registry);
    let requests = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), requests, "something was asked for twice");
    // A manifest, a config, three layers.
    assert_eq!(requests, 5, "{all:?}");
    registry.clear_requests();
    scene.ok(&["pull", &name]);
    assert_eq!(paths(&registry), ["/v2/ns/os/manifests/1"]);
}

#[test]
fn a_line_that_breaks_costs_no_byte_twice() {
    let scene = Scene::new();
    let (registry, name) = serve(&scene);
    registry.fault_times("/blobs/", Fault::CutAfter(100), 3);
    scene.ok(&["pull", &name, "--retry", "3"]);
    let sent: u64 = registry.requests().iter().map(|r| r.bytes).sum();
    let calm = Scene::new();
    let (other, name) = serve(&calm);
    calm.ok(&["pull", &name]);
    let needed: u64 = other.requests().iter().map(|r| r.bytes).sum();
    assert_eq!(sent, needed);
    scene.assert_fsck();
}

#[test]
fn credentials_come_from_the_authfile_and_v_says_so() {
    let scene = Scene::new();
    let (registry, name) = serve(&scene);
    registry.require(Access::Basic {
        user: "dummy".into(),
        password: "dummy-password".into(),
    });
    let output = scene.run(&["pull", &name]);
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    let login = format!("log in (podman login {})", registry.host());
    assert!(text.contains(&login), "{text}");

    let authfile = scene.dir.path().join("auth.json");
    let auth = STANDARD.encode("dummy:dummy-password");
    let text = serde_json::json!({"auths": {registry.host(): {"auth": auth}}});
    std::fs::write(&authfile, text.to_string()).unwrap();
    let authfile = authfile.to_str().unwrap();
    let output = scene.run(&["-v", "pull", &name, "--authfile", authfile]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(authfile), "{text}");
    let secret = |text: &str| text.contains("dummy-password") || text.contains(&auth);
    assert!(!secret(&text), "{text}");

    let output = scene.run(&["-vvv", "pull", &name, "--authfile", authfile]);
    let text = stderr(&output);
    assert!(text.contains("DEBUG") && !secret(&text), "{text}");
}

#[test]
fn a_plan_says_what_a_pull_fetches() {
    let scene = Scene::new();
    let (registry, name) = serve(&scene);
    let layers = |plan: &str| -> Vec<serde_json::Value> {
        let plan: serde_json::Value = serde_json::from_str(plan).unwrap();
        plan["layers"].as_array().unwrap().clone()
    };
    let planned = layers(&scene.ok(&["pull", &name, "--plan", "--format", "json"]));
    // A manifest and a config.
    assert_eq!(paths(&registry).len(), 2);
    let said = scene.ok(&["pull", &name, "--plan"]);
    assert_eq!(said.matches("fetched whole, ").count(), 3, "{said}");
    registry.clear_requests();
    scene.ok(&["pull", &name]);
    for layer in &planned {
        let digest = layer["digest"].as_str().unwrap();
        let requests = registry.requests().into_iter();
        let sent = requests
            .filter(|r| r.path.ends_with(digest))
            .map(|r| r.bytes);
        assert_eq!(layer["bytesToFetch"], sent.sum::<u64>());
    }
    let after = layers(&scene.ok(&["pull", &name, "--plan", "--format", "json"]));
    assert!(after.iter().all(|l| l["action"] == "present"), "{after:?}");
    assert_eq!(after.len(), planned.len());
}
