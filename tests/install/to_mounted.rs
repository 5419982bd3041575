//! `install to-filesystem` and `to-existing-root`, to a file system that is mounted. Boot loaders
//! need a disk with partitions, which the virtual machines have; here is everything else.

use std::fs;
use std::path::Path;

use crate::scene::{MIB, Mounted, Scene, run, stderr};

fn place(root: &Mounted) -> &str {
    root.0.to_str().unwrap()
}

#[test]
fn a_blank_file_system_gets_a_system_that_finds_itself() {
    let Some(scene) = Scene::new("") else { return };
    let root = scene.mounted(256 * MIB);
    let args = [
        "to-filesystem",
        place(&root),
        "--bootloader",
        "none",
        "--karg",
        "quiet",
    ];
    let output = scene.install(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let entry = fs::read_dir(root.0.join("boot/loader/entries"))
        .unwrap()
        .next()
        .unwrap();
    let entry = fs::read_to_string(entry.unwrap().path()).unwrap();
    let uuid = run(
        "blkid",
        &[
            "-p",
            "-s",
            "UUID",
            "-o",
            "value",
            scene.path("root.ext4").to_str().unwrap(),
        ],
    );
    assert!(
        entry.contains(&format!("root=UUID={} rw quiet ostree=", uuid.trim())),
        "{entry}"
    );
    let repo = format!("--repo={}", root.0.join("ostree/repo").display());
    run("ostree", &["fsck", "--quiet", &repo]);
    assert!(!root.0.join("ostree/bowline/unfinished").exists());

    // Once more needs a word about the system that is there.
    let output = scene.install(&args);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = scene.install(&[&args[..], &["--replace", "wipe"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn files_of_another_system_are_kept_or_refused() {
    let Some(scene) = Scene::new("") else { return };
    let root = scene.mounted(256 * MIB);
    for dir in ["etc", "boot/grub", "boot/loader/entries"] {
        fs::create_dir_all(root.0.join(dir)).unwrap();
    }
    let old = [
        "etc/passwd",
        "boot/grub/grub.cfg",
        "boot/vmlinuz",
        "boot/loader/entries/old.conf",
    ];
    for file in old {
        fs::write(root.0.join(file), "old").unwrap();
    }
    let none = ["--bootloader", "none"];
    let output = scene.install(&[&["to-filesystem", place(&root)][..], &none].concat());
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("/boot/grub, /boot/vmlinuz, /etc") && said.contains("--replace"),
        "{said}"
    );
    assert!(!root.0.join("ostree").exists());

    let output =
        scene.install(&[&["to-existing-root", "--root", place(&root)][..], &none].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for file in &old[..3] {
        assert_eq!(fs::read_to_string(root.0.join(file)).unwrap(), "old");
    }
    let kept = root.0.join("boot/loader.before-bowline/entries/old.conf");
    assert_eq!(fs::read_to_string(kept).unwrap(), "old");
    assert!(fs::read_link(root.0.join("boot/loader")).is_ok());
    let deployments = run(
        "ostree",
        &["admin", "status", &format!("--sysroot={}", place(&root))],
    );
    assert!(deployments.contains("default "), "{deployments}");
}

#[test]
fn a_mounted_disk_image_is_not_destroyed() {
    let Some(scene) = Scene::new("") else { return };
    let root = scene.mounted(256 * MIB);
    fs::write(root.0.join("file"), "stays").unwrap();
    let file = scene.path("root.ext4");
    let output = scene.install(&["to-disk", file.to_str().unwrap(), "--wipe"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("is in use"), "{said}");
    drop(root);
    run("e2fsck", &["-fn", file.to_str().unwrap()]);
}

#[test]
fn an_interrupted_installation_goes_on() {
    let Some(scene) = Scene::new("") else { return };
    let root = scene.mounted(256 * MIB);
    let args = ["to-filesystem", place(&root), "--bootloader", "none"];
    assert_eq!(scene.install(&args).status.code(), Some(0));
    // As it would be left by a kill before the last step.
    fs::write(root.0.join("ostree/bowline/unfinished"), "").unwrap();
    let output = scene.install(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        fs::read_dir(root.0.join("boot/loader/entries"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn nothing_is_wiped_for_an_image_that_cannot_be_had() {
    let Some(scene) = Scene::new("") else { return };
    let root = scene.mounted(256 * MIB);
    fs::write(root.0.join("letter"), "dear").unwrap();
    let policy = r#"{"default":[{"type":"reject"}]}"#;
    fs::write(scene.path("policy.json"), policy).unwrap();
    let args = ["to-filesystem", place(&root), "--bootloader", "none"];
    let output = scene.install(&[&args[..], &["--replace", "wipe"]].concat());
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(root.0.join("letter")).unwrap(), "dear");
    assert!(!root.0.join("ostree").exists());
}

#[test]
fn what_cannot_boot_is_refused_before_anything_is_changed() {
    let Some(scene) = Scene::new("") else { return };
    let root = scene.mounted(256 * MIB);
    let refused = |code: i32, args: &[&str], words: &str| {
        let output = scene.install(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    refused(
        2,
        &["to-filesystem", place(&root)],
        "no EFI system partition is mounted at",
    );
    refused(
        2,
        &["to-filesystem", place(&root), "--firmware", "bios"],
        "no place for BIOS boot code",
    );
    let inside = root.0.join("lost+found");
    refused(
        2,
        &["to-filesystem", inside.to_str().unwrap()],
        "is no mount point",
    );
    refused(7, &["to-filesystem", "/proc"], "is of type proc");
    let missing = Path::new(place(&root)).join("x");
    refused(
        2,
        &["to-filesystem", missing.to_str().unwrap()],
        "does not exist",
    );
    assert!(!root.0.join("ostree").exists());
}
