//! `install to-disk` to a plain file.

use std::fs;
use std::io::Read as _;

use crate::scene::{MIB, Scene, run, stderr};

#[test]
fn a_disk_has_everything_that_boots_it() {
    let Some(scene) = Scene::new("") else { return };
    let disk = scene.disk(512 * MIB);
    let said = scene.installs(&["--karg", "console=ttyS0", "--karg", "quiet"]);
    assert!(said.contains("GRUB, for BIOS and UEFI"), "{said}");

    let names: Vec<_> = scene
        .partitions()
        .into_iter()
        .map(|p| (p.0, p.2 / MIB, p.3 / MIB))
        .collect();
    let expected = [("bios-boot", 1, 1), ("esp", 2, 128), ("root", 130, 381)];
    assert_eq!(
        names,
        expected.map(|(name, start, size)| (name.to_owned(), start, size))
    );
    let root = format!("{}?offset={}", disk.display(), scene.start("root"));
    run("e2fsck", &["-fn", &root]);

    let mut bytes = vec![0; 2 << 20];
    fs::File::open(&disk)
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    // What BIOS starts loads the first sector of the BIOS boot partition, and that the next one.
    assert_eq!(bytes[0x5c..0x64], 2048u64.to_le_bytes());
    assert_eq!(bytes[510..512], [0x55, 0xaa]);
    assert_eq!(bytes[(1 << 20) + 0x1f4..][..8], 2049u64.to_le_bytes());
    assert!(scene.esp_file("/EFI/BOOT/BOOTX64.EFI").starts_with(b"MZ"));

    scene.with_root(|root| {
        let repo = format!("--repo={}", root.join("ostree/repo").display());
        run("ostree", &["fsck", "--quiet", &repo]);
        let entry = fs::read_to_string(root.join("boot/loader/entries/ostree-1-default.conf"))
            .or_else(|_| fs::read_to_string(root.join("boot/loader/entries/ostree-1.conf")))
            .unwrap();
        let uuid = run(
            "dumpe2fs",
            &["-h", &format!("{}?offset={}", disk.display(), 130 * MIB)],
        );
        let uuid = uuid
            .lines()
            .find_map(|l| l.strip_prefix("Filesystem UUID:"))
            .unwrap()
            .trim();
        let options = entry
            .lines()
            .find_map(|l| l.strip_prefix("options "))
            .unwrap();
        assert!(
            options.starts_with(&format!("root=UUID={uuid} rw console=ttyS0 quiet ostree=")),
            "{options}"
        );
        assert!(root.join("boot/grub/grub.cfg").exists());
        assert_eq!(
            fs::metadata(root.join("boot/grub/grubenv")).unwrap().len(),
            1024
        );
        let setup = fs::read_to_string(root.join("ostree/bowline/boot.yaml")).unwrap();
        assert!(setup.starts_with("bootloader: grub\nesp: "), "{setup}");
        let deploy = root.join("ostree/deploy/default/deploy");
        let tree = fs::read_dir(deploy)
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.is_dir())
            .unwrap();
        let flags = run("lsattr", &["-d", tree.to_str().unwrap()]);
        assert!(flags.split(' ').next().unwrap().contains('i'), "{flags}");
        assert_eq!(
            fs::read_to_string(tree.join("etc/motd")).unwrap(),
            "version 1\n"
        );
        assert_eq!(tree.join("var").read_dir().unwrap().count(), 0);
    });
}

#[test]
fn what_is_on_a_disk_is_destroyed_only_when_asked_to() {
    let Some(scene) = Scene::new("") else { return };
    let disk = scene.disk(300 * MIB);
    run("mkfs.vfat", &["-n", "PHOTOS", disk.to_str().unwrap()]);
    let said = scene.refuses(2, &[]);
    assert!(said.contains("vfat") && said.contains("--wipe"), "{said}");
    scene.installs(&["--wipe"]);
    let said = scene.refuses(2, &[]);
    assert!(said.contains("a partition table (gpt)"), "{said}");
    scene.installs(&["--wipe"]);
}

#[test]
fn what_cannot_be_is_refused_before_the_disk_is_touched() {
    let Some(scene) = Scene::new("data /usr/lib/huge 0 0 644 80000000 7") else {
        return;
    };
    let output = scene.to_disk(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("truncate -s"));
    scene.disk(100 * MIB);
    let said = scene.refuses(6, &[]);
    let (needed, there) = ((195 * MIB).to_string(), (100 * MIB).to_string());
    assert!(said.contains(&needed) && said.contains(&there), "{said}");
    // The partitions fit, the content does not.
    scene.disk(200 * MIB);
    let said = scene.refuses(6, &[]);
    assert!(said.contains("the root file system needs"), "{said}");
    scene.disk(512 * MIB);
    let said = scene.refuses(6, &["--root-size", "1G"]);
    assert!(said.contains("the partition table needs"), "{said}");
    for args in [
        &["--bootloader", "systemd-boot", "--firmware", "bios"][..],
        &["--generic-image", "--firmware", "uefi"],
        &["--root-size", "many"],
        &["--karg", "ostree=x"],
    ] {
        scene.refuses(2, args);
    }
}
