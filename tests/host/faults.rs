//! What must not go wrong when something else does: kills, full and read-only file systems,
//! missing permissions, foreign deployments, refs that others removed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::scene::{Scene, os, ostree, stderr, turn};

/// Runs the program in a mount namespace in which `mounts` (sh, `$1` is the sysroot) was done.
/// Whether there can be mounts of one's own; says so where not.
#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
fn can_mount() -> bool {
    let unshare = Command::new("unshare").args(["-m", "true"]).output();
    let can = unshare.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: needs a mount namespace, which a plain chroot cannot have");
    }
    can
}

fn with_mounts(scene: &Scene, mounts: &str, args: &[&str]) -> Output {
    let inner = scene.command(args);
    let script = format!("set -e; root=$1; shift; {mounts}; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command
        .arg(scene.path())
        .arg(inner.get_program())
        .args(inner.get_args());
    command.envs(
        inner
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    command.output().unwrap()
}

fn deployed() -> Scene {
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    scene.publish(&os("2", "file /usr/bin/new 0 0 755 new"), "os");
    scene
}

#[test]
fn a_kill_in_any_phase_leaves_the_old_system_or_the_new_one() {
    let Some(_turn) = turn() else {
        return;
    };
    for phase in [
        "Resolving",
        "Fetching",
        "Merging",
        "Writing",
        "Deploying",
        "Pruning",
    ] {
        let scene = deployed();
        let old = scene.next();
        let mut child = scene
            .command(&["upgrade"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        assert!(
            lines.any(|line| line.starts_with(phase)),
            "no phase {phase}"
        );
        child.kill().unwrap();
        child.wait().unwrap();

        scene.fsck();
        let next = scene.next();
        assert!(
            next.join("usr/bin/hello").exists(),
            "{phase}: nothing boots"
        );
        assert!(next == old || next.join("usr/bin/new").exists(), "{phase}");
        scene.ok(&["upgrade"]);
        assert!(scene.next().join("usr/bin/new").exists(), "{phase}");
        scene.fsck();
        let said = scene.ok(&["upgrade"]);
        assert!(said.starts_with("No change"), "{phase}: {said}");
        let trees = scene.path().join("ostree/deploy/default/deploy");
        let trees = fs::read_dir(trees)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().is_dir());
        assert_eq!(trees.count(), 2, "{phase}: leftover deployments");
    }
}

#[test]
fn a_read_only_sysroot_is_refused_and_shown() {
    let Some(_turn) = turn() else {
        return;
    };
    if !can_mount() {
        return;
    }
    let scene = deployed();
    let before = scene.state();
    let read_only = "mount --bind $root $root; mount -o remount,bind,ro $root";
    for args in [
        &["upgrade"][..],
        &["rollback"],
        &["rebase", &scene.image_name("os")],
    ] {
        let output = with_mounts(&scene, read_only, args);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let expected = format!(
            "error: Opening sysroot {0}\n  caused by: {0} is on a file system that is mounted \
             read-only\nhint: mount the file system read-write first\n",
            scene.path().display()
        );
        assert_eq!(stderr(&output), expected);
    }
    assert_eq!(scene.state(), before);
    let output = with_mounts(&scene, read_only, &["status", "--json"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        scene.ok(&["status", "--json"])
    );
    let output = with_mounts(&scene, read_only, &["upgrade", "--check"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Update available"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_full_boot_is_noticed_before_anything_is_written() {
    let Some(_turn) = turn() else {
        return;
    };
    if !can_mount() {
        return;
    }
    let scene = deployed();
    // Another kernel, so that /boot would have to take it.
    scene.publish(
        &os(
            "3",
            "data /usr/lib/modules/6.1.0/devicetree 0 0 644 500000 7",
        ),
        "os",
    );
    let entries = scene.state().0;
    let small = "mount -t tmpfs -o size=300k x /mnt; cp -a $root/boot/. /mnt; \
                 mount --bind /mnt $root/boot";
    let output = with_mounts(&scene, small, &["upgrade"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("/boot has "),
        "{}",
        stderr(&output)
    );
    assert_eq!(scene.state().0, entries);
    scene.fsck();
    scene.ok(&["upgrade"]);
}

#[test]
fn another_user_may_look_and_not_touch() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = deployed();
    // The program as built may lie where nobody else may look.
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = open.path().join("bowline");
    fs::copy(env!("CARGO_BIN_EXE_bowline"), &program).unwrap();
    let as_nobody = |args: &[&str]| {
        let inner = scene.command(args);
        let mut command = Command::new(&program);
        command.args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.uid(65534).gid(65534).output().unwrap()
    };
    let allow = |mode| {
        for dir in [scene.path(), scene.dir.path()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0o700);
    let output = as_nobody(&["status"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("hint: run this as root\n"),
        "{}",
        stderr(&output)
    );
    allow(0o755);
    let output = as_nobody(&["status", "--json"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        scene.ok(&["status", "--json"])
    );
    let before = scene.state();
    let output = as_nobody(&["upgrade"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let expected = format!(
        "error: Opening sysroot {0}\n  caused by: this user may not change {0}\n\
         hint: run this as root\n",
        scene.path().display()
    );
    assert_eq!(stderr(&output), expected);
    assert_eq!(scene.state(), before);
}

#[test]
fn the_status_survives_layers_that_others_pruned() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = deployed();
    let before = scene.status();
    let blobs = scene.repo().join("refs/heads/ostree/container/blob");
    fs::remove_dir_all(blobs).unwrap();
    assert_eq!(scene.status(), before);
    assert_eq!(
        before["status"]["otherDeployments"][0]["image"]["version"],
        "1"
    );
    scene.ok(&["upgrade"]);
    scene.fsck();
}

#[test]
fn a_deployment_without_an_image_is_shown_and_can_be_rebased() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1", ""), "os");
    let fixture = bowline::testing::Fixture::new().unwrap();
    let commit = fixture.commit(bowline::testing::OS).unwrap();
    let repo = format!("--repo={}", scene.repo().display());
    ostree(&["pull-local", &repo, path(fixture.path()), &commit]);
    ostree(&["refs", &repo, "--create=os/plain", &commit]);
    let sysroot = format!("--sysroot={}", scene.path().display());
    ostree(&[
        "admin",
        "deploy",
        &sysroot,
        "--os=default",
        "--karg=quiet",
        "os/plain",
    ]);

    let entry = &scene.status()["status"]["otherDeployments"][0];
    assert_eq!(entry["image"], serde_json::Value::Null);
    assert_eq!(entry["ostree"]["checksum"], commit);
    assert!(
        scene
            .ok(&["status"])
            .contains("not deployed from a container image")
    );
    let said = scene.fails(7, &["upgrade"]);
    assert_eq!(
        said,
        format!(
            "error: deployment default/{commit}.0 does not follow a container image\n\
             hint: follow an image first: `bowline rebase IMAGE`\n"
        )
    );
    scene.ok(&["rebase", &scene.image_name("os")]);
    let entries = scene.state().0;
    assert!(
        entries.iter().all(|e| e.contains("options quiet ostree=")),
        "{entries:?}"
    );
    scene.ok(&["rollback"]);
    scene.fails(7, &["upgrade"]);
    scene.fsck();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
