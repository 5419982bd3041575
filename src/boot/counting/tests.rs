//! Tests of counting with GRUB's block and with names on an ESP directory.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::boot::Grubenv;

const NEW: &str = "/ostree/boot.1/os/aa/0";
const OLD: &str = "/ostree/boot.1/os/aa/1";

/// A sysroot with two entries, and an ESP with the same two.
fn scene() -> (TempDir, BootSetup) {
    let dir = tempfile::tempdir().unwrap();
    let entry = |version: u32, ostree: &str| {
        format!("title t\nversion {version}\noptions rw ostree={ostree}\nlinux /k\ninitrd /i\n")
    };
    for (place, names) in [
        ("boot/loader/entries", ["ostree-2.conf", "ostree-1.conf"]),
        (
            "esp/loader/entries",
            ["bowline-4-2.conf", "bowline-4-1.conf"],
        ),
    ] {
        let place = dir.path().join(place);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(names[0]), entry(2, NEW)).unwrap();
        fs::write(place.join(names[1]), entry(1, OLD)).unwrap();
    }
    fs::create_dir_all(dir.path().join("boot/grub")).unwrap();
    let setup = BootSetup {
        bootloader: Bootloader::SystemdBoot,
        esp: Some(dir.path().join("esp").display().to_string()),
    };
    (dir, setup)
}

fn grub() -> BootSetup {
    BootSetup {
        bootloader: Bootloader::Grub,
        esp: None,
    }
}

fn env(dir: &TempDir) -> Grubenv {
    let path = dir.path().join("boot/grub/grubenv");
    Grubenv::read(&path).unwrap().unwrap_or_default()
}

fn names(dir: &TempDir) -> Vec<String> {
    let list = fs::read_dir(dir.path().join("esp/loader/entries")).unwrap();
    let mut names: Vec<String> = list
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn grub_counts_the_default_entry() {
    let (dir, _) = scene();
    let (root, setup) = (dir.path(), grub());
    assert_eq!(tries(root, &setup, NEW).unwrap(), None);
    disarm(root, &setup).unwrap();
    assert!(
        !root.join("boot/grub/grubenv").exists(),
        "nothing to disarm"
    );
    arm(root, &setup, 3).unwrap();
    let left = |left, done| Some(Tries { left, done });
    assert_eq!(tries(root, &setup, NEW).unwrap(), left(3, 0));
    assert_eq!(tries(root, &setup, OLD).unwrap(), None);
    assert_eq!(armed(root, &setup).unwrap(), left(3, 0));
    // As GRUB, greenboot's GRUB and a damaged disk leave it.
    for (counter, expected) in [
        ("1", left(1, 2)),
        ("0", left(0, 3)),
        ("-1", left(0, 3)),
        ("x", left(0, 3)),
    ] {
        let mut env = env(&dir);
        env.set("boot_counter", counter).unwrap();
        env.write(&root.join("boot/grub/grubenv")).unwrap();
        assert_eq!(tries(root, &setup, NEW).unwrap(), expected, "{counter}");
    }
    bless(root, &setup, NEW).unwrap();
    assert_eq!(tries(root, &setup, NEW).unwrap(), None);
    assert_eq!(env(&dir).get("boot_success"), Some("1"));
    assert_eq!(env(&dir).get("boot_counter"), None);
}

#[test]
fn settling_grub() {
    let tries = |left| {
        Some(Tries {
            left,
            done: 3 - left,
        })
    };
    for (before, counting, after) in [
        (None, Counting::Off, None),
        (None, Counting::AsIs, None),
        (None, Counting::Keep(3), tries(3)),
        (None, Counting::Fresh(3), tries(3)),
        (Some("1"), Counting::Off, None),
        (Some("1"), Counting::AsIs, tries(1)),
        (Some("1"), Counting::Keep(3), tries(1)),
        (Some("0"), Counting::Fresh(3), tries(3)),
    ] {
        let (dir, _) = scene();
        if let Some(counter) = before {
            arm(dir.path(), &grub(), 3).unwrap();
            let mut env = env(&dir);
            env.set("boot_counter", counter).unwrap();
            env.write(&dir.path().join("boot/grub/grubenv")).unwrap();
        }
        settle(dir.path(), &grub(), counting).unwrap();
        assert_eq!(
            armed(dir.path(), &grub()).unwrap(),
            after,
            "{before:?} {counting:?}"
        );
    }
}

#[test]
fn only_the_counter_changes_in_the_block() {
    let (dir, _) = scene();
    let path = dir.path().join("boot/grub/grubenv");
    let mut before = Grubenv::default();
    before.set("saved_entry", "x").unwrap();
    before.write(&path).unwrap();
    arm(dir.path(), &grub(), 9).unwrap();
    assert_eq!(env(&dir).get("boot_success"), Some("0"));
    assert_eq!(env(&dir).get("saved_entry"), Some("x"));
    disarm(dir.path(), &grub()).unwrap();
    assert_eq!(env(&dir), before);
    for wrong in [0, 10] {
        let error = arm(dir.path(), &grub(), wrong).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&BadTries(wrong)));
    }
    fs::write(&path, "damaged").unwrap();
    arm(dir.path(), &grub(), 1).unwrap();
    assert_eq!(env(&dir).get("boot_counter"), Some("1"));
}

#[test]
fn systemd_boot_counts_in_names() {
    let (dir, setup) = scene();
    let root = dir.path();
    arm(root, &setup, 3).unwrap();
    assert_eq!(names(&dir), ["bowline-4-1.conf", "bowline-4-2+3.conf"]);
    assert_eq!(
        tries(root, &setup, NEW).unwrap(),
        Some(Tries { left: 3, done: 0 })
    );
    assert_eq!(tries(root, &setup, OLD).unwrap(), None);
    let entries = root.join("esp/loader/entries");
    fs::rename(
        entries.join("bowline-4-2+3.conf"),
        entries.join("bowline-4-2+0-3.conf"),
    )
    .unwrap();
    assert_eq!(
        tries(root, &setup, NEW).unwrap(),
        Some(Tries { left: 0, done: 3 })
    );
    // The next boot is the old one's now, so that is what arming counts.
    arm(root, &setup, 2).unwrap();
    assert_eq!(names(&dir), ["bowline-4-1+2.conf", "bowline-4-2+0-3.conf"]);
    bless(root, &setup, OLD).unwrap();
    assert_eq!(names(&dir), ["bowline-4-1.conf", "bowline-4-2+0-3.conf"]);
    assert_eq!(
        armed(root, &setup).unwrap(),
        Some(Tries { left: 0, done: 3 })
    );
    disarm(root, &setup).unwrap();
    assert_eq!(armed(root, &setup).unwrap(), None);
    assert_eq!(names(&dir), ["bowline-4-1.conf", "bowline-4-2.conf"]);
}

#[test]
fn without_a_bootloader_nothing_is_counted() {
    let (dir, _) = scene();
    let setup = BootSetup::read(dir.path()).unwrap();
    assert_eq!(setup, BootSetup::default());
    arm(dir.path(), &setup, 3).unwrap();
    assert_eq!(tries(dir.path(), &setup, NEW).unwrap(), None);
    bless(dir.path(), &setup, NEW).unwrap();
    disarm(dir.path(), &setup).unwrap();
    assert_eq!(env(&dir), Grubenv::default());
    assert_eq!(names(&dir), ["bowline-4-1.conf", "bowline-4-2.conf"]);
}
