//! `upgrade --unattended` from outside: the settings decide, and skipping has an exit code.

use std::fs;

use bowline::sysroot::Sysroot;

use crate::scene::{Scene, os, turn};

const ALLOWED: &str = "update: {metered: allow, battery: allow}\n";

#[test]
fn an_unattended_upgrade_does_what_the_settings_say() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    let settings = scene.path().join("etc/bowline");
    fs::create_dir_all(&settings).unwrap();
    let settings = settings.join("50-test.yaml");
    fs::write(&settings, ALLOWED).unwrap();
    scene.publish(&os("1", ""), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    scene.publish(&os("2", "file /usr/bin/new 0 0 755 new"), "os");

    fs::write(&settings, "update: {meterd: allow}\n").unwrap();
    let said = scene.fails(2, &["upgrade", "--unattended"]);
    assert!(said.contains("etc/bowline/50-test.yaml:1: "), "{said}");

    // The machine did not boot from the sysroot: a reboot would not lead there.
    fs::write(
        &settings,
        "update: {metered: allow, battery: allow, apply: true}\n",
    )
    .unwrap();
    scene.fails(2, &["upgrade", "--unattended"]);

    fs::write(&settings, ALLOWED).unwrap();
    let held = Sysroot::open_locked(scene.path()).unwrap();
    let before = scene.state();
    let output = scene.run(&["upgrade", "--unattended"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        "Not updated: another operation is at work on this system\n"
    );
    assert_eq!(scene.state(), before);
    drop(held);

    scene.ok(&["upgrade", "--unattended"]);
    assert!(scene.next().join("usr/bin/new").exists());
}

#[test]
fn what_the_settings_decide_is_not_asked_for_on_the_command_line() {
    let scene = Scene::new();
    for other in [
        "--apply",
        "--check",
        "--download-only",
        "--unchanged-exit-77",
    ] {
        let output = scene.run(&["upgrade", "--unattended", other]);
        assert_eq!(output.status.code(), Some(2), "{other}");
    }
}
