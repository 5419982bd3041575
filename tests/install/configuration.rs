//! `install print-configuration`: of a directory, of an image, and what is wrong with either.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::scene::Scene;

const TOML: &str = "file /usr/lib/bootc/install/10.toml 0 0 644 [install]\\n\
                    root-fs-type = \"xfs\"\\nkargs = [\"console=ttyS0\"]\\n\n\
                    file /usr/etc/bootc/install/20.toml 0 0 644 [install]\\nstateroot = \"os\"\\n\n\
                    file /usr/lib/bowline/install/x.yaml 0 0 644 root-size: 10G\\n";

fn print(scene: &Scene, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["install", "print-configuration", "--scratch"]);
    command.arg(scene.path("scratch")).args(args).env_clear();
    command.env("CONTAINERS_POLICY_JSON", scene.path("policy.json"));
    command.output().unwrap()
}

fn printed(scene: &Scene, args: &[&str]) -> Value {
    let output = print(scene, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_image_says_how_it_wants_to_be_installed() {
    let Some(scene) = Scene::new(TOML) else {
        return;
    };
    let image = scene.image("os");
    let all = printed(&scene, &["--image", &image, "--all"]);
    assert_eq!(
        all,
        json!({
            "block": ["direct"],
            "boot-mount-spec": null,
            "bootloader": null,
            "bootupd": null,
            "discoverable-partitions": null,
            "enforce-container-sigpolicy": null,
            "filesystem": {"root": {"type": "xfs"}},
            "kargs": ["console=ttyS0"],
            "match-architectures": null,
            "ostree": null,
            "root-fs-type": "xfs",
            "root-mount-spec": null,
            "root-size": "10G",
            "stateroot": "os",
        })
    );
    let short = printed(&scene, &["--image", &image]);
    assert_eq!(short.get("kargs"), None);
    let left = fs::read_dir(scene.path("scratch")).unwrap().count();
    assert_eq!(left, 0, "what was fetched is left");
}

#[test]
fn a_mounted_tree_is_read_as_it_is() {
    let Some(scene) = Scene::new("") else {
        return;
    };
    let root = scene.path("root");
    let dir = root.join("usr/lib/bootc/install");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("1.toml"), "install.block = ['tpm2-luks']\n").unwrap();
    let found = printed(&scene, &["--root", root.to_str().unwrap()]);
    assert_eq!(found["block"], json!(["tpm2-luks"]));

    fs::write(dir.join("2.toml"), "[install]\nkarg = []\n").unwrap();
    let output = print(&scene, &["--root", root.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    let start = format!("error: {}/2.toml:2: unknown field `karg`", dir.display());
    assert!(said.starts_with(&start), "{said}");
    for args in [&["--root", "/nowhere"][..], &["--arch", "bogus"]] {
        let output = print(&scene, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("\nhint: "), "{said}");
    }
}
