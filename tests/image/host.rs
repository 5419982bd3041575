//! Hosts that cannot take an image: a full disk, a read-only file system, no permission, a lock
//! that somebody holds; and what mounts mean to `container commit`. Needs root, `unshare`, `mount` and
//! `setpriv`; mounts stay inside a mount namespace of their own.

use std::process::{Command, Output};

use bowline::sysroot::Sysroot;
use bowline::testing::oci::ImageBuilder;
use bowline::testing::sysroot::ScratchSysroot;

use crate::scene::{Scene, stderr};

/// Whether the tests of this file can run; says why where they cannot.
#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
pub fn can_mount() -> bool {
    let unshare = Command::new("unshare").args(["--mount", "true"]).output();
    let can = rustix::process::geteuid().is_root() && unshare.is_ok_and(|o| o.status.success());
    if !can {
        eprintln!("skipped: needs root, and a mount namespace (which a plain chroot cannot have)");
    }
    can
}

/// Runs a script in a mount namespace of its own, with `$BOWLINE`, `$IMAGE` and `$DIR`.
pub fn in_namespace(scene: &Scene, image: &str, script: &str) -> Output {
    Command::new("unshare")
        .args(["--mount", "bash", "-euc", script])
        .env("BOWLINE", env!("CARGO_BIN_EXE_bowline"))
        .env("IMAGE", image)
        .env("DIR", scene.dir.path())
        .env("CONTAINERS_POLICY_JSON", scene.policy())
        .output()
        .unwrap()
}

/// Eight megabytes that no compression makes smaller.
fn large(scene: &Scene) -> String {
    let image = ImageBuilder::default();
    let image = image.derived("data /usr/large 0 0 644 8000000 1").unwrap();
    scene.offer(&image.build(), "1")
}

/// Eight megabytes that look small from outside.
fn inflating(scene: &Scene) -> String {
    let words = "a word ".repeat(8_000_000 / 7);
    let image = ImageBuilder::default().derived(&format!("file /usr/large 0 0 644 {words}"));
    scene.offer(&image.unwrap().build(), "1")
}

#[test]
fn a_full_disk_exits_with_6_and_leaves_a_sound_repository() {
    if !can_mount() {
        return;
    }
    let script = r#"
        mkdir $DIR/small
        mount -t tmpfs -o size=6m tmpfs $DIR/small
        ostree init --repo=$DIR/small/repo --mode=bare
        code=0
        $BOWLINE image pull --repo $DIR/small/repo $IMAGE || code=$?
        ostree fsck --quiet --repo=$DIR/small/repo >&2
        $BOWLINE image list -q --repo $DIR/small/repo
        mount -o remount,size=60m $DIR/small
        $BOWLINE -q image pull --repo $DIR/small/repo $IMAGE >$DIR/again
        exit $code
    "#;
    let known: fn(&Scene) -> String = large;
    for (offer, says) in [(known, "needs at least"), (inflating, "layer 1 of 1")] {
        let scene = Scene::new();
        let output = in_namespace(&scene, &offer(&scene), script);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(6), "{text}");
        assert!(text.contains(says), "{text}");
        assert!(text.contains("\nhint: free some space"), "{text}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        let again = std::fs::read_to_string(scene.dir.path().join("again")).unwrap();
        assert!(again.contains("\nCommit  "), "{again}");
    }
}

/// Runs a script on a large image, which ends with 1 and this hint.
fn is_refused(script: &str, hint: &str) {
    if !can_mount() {
        return;
    }
    let scene = Scene::new();
    let output = in_namespace(&scene, &large(&scene), script);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("\nhint: {hint}")), "{text}");
}

#[test]
fn a_read_only_repository_exits_with_1_and_says_so() {
    let script = r#"
        ostree init --repo=$DIR/repo --mode=archive
        mount --bind $DIR/repo $DIR/repo
        mount -o remount,bind,ro $DIR/repo
        exec $BOWLINE image pull --repo $DIR/repo $IMAGE
    "#;
    is_refused(script, "mount the file system read-write first");
}

#[test]
fn a_user_without_permission_exits_with_1_and_is_told() {
    // The program lies where other users may not look: it is copied.
    let script = r#"
        ostree init --repo=$DIR/repo --mode=archive
        chmod 755 $DIR
        cp $BOWLINE $DIR/bowline
        exec setpriv --reuid 65534 --regid 65534 --clear-groups \
            $DIR/bowline image pull --repo $DIR/repo $IMAGE
    "#;
    is_refused(script, "run this as root");
}

#[test]
fn a_locked_sysroot_exits_with_5_and_nothing_is_removed() {
    if !can_mount() {
        return;
    }
    let (sysroot, scene) = (ScratchSysroot::new().unwrap(), Scene::new());
    let _lock = Sysroot::open_locked(sysroot.path()).unwrap();
    let path = sysroot.path().to_str().unwrap();
    let repo = sysroot.path().join("ostree/repo");
    for place in [["--sysroot", path], ["--repo", repo.to_str().unwrap()]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.args(["image", "prune"]).args(place);
        let output = command.output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(5), "{text}");
        let lock = format!("another operation holds {path}/ostree/lock\nhint: wait");
        assert!(text.contains(&lock), "{text}");
    }
    // A repository of its own has nothing to do with that lock.
    scene.ok(&["prune"]);
}

#[test]
fn the_last_step_of_a_build_leaves_mounts_alone() {
    if !can_mount() {
        return;
    }
    // As buildah mounts a cache, a secret and a directory in memory.
    let script = r#"
        cd $DIR
        mkdir -p root/run/secrets root/tmp/build/below root/var/cache/apt root/var/tmp/x root/var/lib
        mount -t tmpfs tmpfs root/var/cache/apt
        mount -t tmpfs tmpfs root/tmp/build
        mkdir root/tmp/build/below
        echo secret >secret
        touch root/run/secrets/one
        mount --bind secret root/run/secrets/one
        touch root/var/cache/apt/kept root/tmp/build/below/kept
        touch root/run/gone root/run/secrets/gone root/tmp/gone root/var/cache/gone root/var/lib/kept
        $BOWLINE container commit --rootfs root
        umount root/var/cache/apt root/tmp/build root/run/secrets/one
        find root -mindepth 2 '(' ! -type d -o -empty ')' | sort
        cat secret
        mount -t tmpfs tmpfs root/var/cache
        touch root/var/cache/kept
        $BOWLINE container commit --rootfs root
        ls root/var/cache
    "#;
    let scene = Scene::new();
    let output = in_namespace(&scene, "", script);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "Removed 5 files and directories; left 3 mounts alone\n\
                    root/run/secrets/one\n\
                    root/tmp/build/below\n\
                    root/var/cache/apt\n\
                    root/var/lib/kept\n\
                    root/var/tmp\n\
                    secret\n";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.ends_with("left 1 mount alone\nkept\n"), "{said}");
}
