//! `install to-disk` to a plain file.

use std::fs;
use std::io::Read as _;

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::{MIB, Mounted, Scene, run, stderr};

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
        check_repo(root);
        let entry = entry(root);
        let offset = (130 * MIB).to_string();
        let path = disk.to_str().unwrap();
        let probe = ["-p", "-O", &offset, "-o", "value", "-s", "UUID", path];
        let uuid = run("blkid", &probe);
        let uuid = uuid.trim();
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
        let tree = deployment(root, "default");
        assert!(immutable(&tree));
        assert_eq!(
            fs::read_to_string(tree.join("etc/motd")).unwrap(),
            "version 1\n"
        );
        assert_eq!(tree.join("var").read_dir().unwrap().count(), 0);
    });
}

/// What an image says, and what the user says over it.
const CONFIG: &str = "
    file /usr/lib/bootc/install/00-os.toml 0 0 644 [install]\\nkargs = [\"console=ttyS0\"]\\nroot-fs-type = \"xfs\"\\n
    file /usr/lib/bowline/install/10-os.yaml 0 0 644 firmware: uefi\\nstateroot: fixture\\n
    link /root var/roothome
";

#[test]
fn the_image_says_how_it_wants_to_be_installed() {
    let Some(scene) = Scene::new(CONFIG) else {
        return;
    };
    scene.disk(768 * MIB);
    fs::write(scene.path("keys"), "ssh-ed25519 AAAA me@here").unwrap();
    let keys = scene.path("keys").display().to_string();
    let said = scene.installs(&[
        "--root-ssh-authorized-keys",
        &keys,
        "--target-imgref",
        "quay.io/a/os:1",
    ]);
    assert!(
        said.contains("GRUB, for UEFI") && said.contains("quay.io/a/os:1"),
        "{said}"
    );
    let names: Vec<_> = scene.partitions().into_iter().map(|p| p.0).collect();
    assert_eq!(names, ["esp", "root"]);
    scene.with_root(|root| {
        assert_eq!(
            run("stat", &["-f", "-c", "%T", root.to_str().unwrap()]),
            "xfs\n"
        );
        check_repo(root);
        let entry = entry(root);
        assert!(entry.contains(" rw console=ttyS0 ostree="), "{entry}");
        let tree = deployment(root, "fixture");
        let origin = fs::read_to_string(tree.with_extension("0.origin")).unwrap();
        assert!(
            origin.contains("ostree-unverified-registry:quay.io/a/os:1"),
            "{origin}"
        );
        let repo = format!("--repo={}", root.join("ostree/repo").display());
        let images = run(
            "ostree",
            &["refs", &repo, "--list", "ostree/container/image"],
        );
        assert_eq!(
            images.trim(),
            "ostree/container/image/docker_3A__2F__2F_quay_2E_io/a/os_3A_1"
        );
        let snippet =
            fs::read_to_string(tree.join("etc/tmpfiles.d/bowline-root-ssh.conf")).unwrap();
        assert!(
            snippet.contains("f~ /var/roothome/.ssh/authorized_keys 0600 root root -"),
            "{snippet}"
        );
        assert!(immutable(&tree));
    });
}

#[test]
fn systemd_boot_finds_kernel_and_entry_beside_it() {
    let Some(scene) = Scene::new(KARGS) else {
        return;
    };
    scene.disk(1536 * MIB);
    let said = scene.installs(&["--bootloader", "systemd-boot", "--karg", "quiet"]);
    assert!(said.contains("systemd-boot, for UEFI"), "{said}");
    let names: Vec<_> = scene
        .partitions()
        .into_iter()
        .map(|p| (p.0, p.3 / MIB))
        .collect();
    assert_eq!(names[0], ("esp".to_owned(), 1024));
    assert!(scene.esp_file("/EFI/BOOT/BOOTX64.EFI").starts_with(b"MZ"));
    assert!(
        scene
            .esp_file("/EFI/systemd/systemd-bootx64.efi")
            .starts_with(b"MZ")
    );
    let conf = scene.esp_file("/loader/loader.conf");
    assert_eq!(conf, b"timeout 1\ndefault bowline-*\n");
    let entries = scene.esp_list("/loader/entries");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(entries[0].contains("/bowline-"), "{entries:?}");
    let entry = scene.esp_file(&entries[0]);
    let entry = String::from_utf8(entry).unwrap();
    assert!(entry.contains("panic=10 root=UUID="), "{entry}");
    let kernel = entry
        .lines()
        .find_map(|l| l.strip_prefix("linux "))
        .unwrap();
    assert_eq!(scene.esp_file(kernel), b"a kernel\n");
    let initrd = entry
        .lines()
        .find_map(|l| l.strip_prefix("initrd "))
        .unwrap();
    assert_eq!(scene.esp_file(initrd), b"an initramfs\n");
    scene.with_root(|root| {
        let setup = fs::read_to_string(root.join("ostree/bowline/boot.yaml")).unwrap();
        assert!(
            setup.starts_with("bootloader: systemd-boot\nesp: "),
            "{setup}"
        );
    });
}

/// Kernel arguments that the image asks for.
const KARGS: &str = "file /usr/lib/bootc/kargs.d/10-os.toml 0 0 644 kargs = [\"panic=10\"]\\n";

#[test]
fn btrfs_is_made_without_mounting_anything() {
    let Some(scene) = Scene::new("") else { return };
    scene.disk(600 * MIB);
    scene.installs(&["--filesystem", "btrfs"]);
    scene.with_root(|root| {
        assert_eq!(
            run("stat", &["-f", "-c", "%T", root.to_str().unwrap()]),
            "btrfs\n"
        );
        check_repo(root);
        let tree = deployment(root, "default");
        let links = fs::metadata(tree.join("usr/bin/hello")).unwrap().nlink();
        assert!(
            links > 1,
            "the deployment does not share its files with the repository"
        );
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
    let words = "needs 204.5 MB, but there are 104.9 MB";
    assert!(said.contains(words), "{said}");
    // The partitions fit, the content does not.
    scene.disk(200 * MIB);
    let said = scene.refuses(6, &[]);
    assert!(said.contains("the root file system (ext4) needs"), "{said}");
    scene.disk(400 * MIB);
    let said = scene.refuses(6, &["--filesystem", "xfs"]);
    let words = "the root file system (xfs) needs 314.6 MB, but there are";
    assert!(said.contains(words), "{said}");
    scene.disk(512 * MIB);
    let said = scene.refuses(6, &["--root-size", "1G"]);
    assert!(said.contains("the partition table needs"), "{said}");
    fs::write(scene.path("keys.der"), b"\x30\xff").unwrap();
    for args in [
        &["--bootloader", "systemd-boot", "--firmware", "bios"][..],
        &["--generic-image", "--firmware", "uefi"],
        &["--root-size", "many"],
        &["--root-size", "1M"],
        &["--karg", "ostree=x"],
        &["--stateroot", "a b"],
        &["--root-ssh-authorized-keys", "/nonexistent"],
        // Text, but no keys; no text.
        &["--root-ssh-authorized-keys", "/proc/cpuinfo"],
        &["--root-ssh-authorized-keys", "keys.der"],
    ] {
        scene.refuses(2, args);
    }
    // Not a file system, but not ours to destroy either.
    let disk = scene.disk(512 * MIB);
    fs::OpenOptions::new()
        .write(true)
        .open(disk)
        .unwrap()
        .write_all_at(b"QFI\xfb", 0)
        .unwrap();
    let said = scene.refuses(2, &[]);
    assert!(said.contains("data of an unknown kind"), "{said}");
}

#[test]
fn a_file_system_that_cannot_be_made_here_is_refused_before_the_disk_is_wiped() {
    let Some(scene) = Scene::new("") else { return };
    let disk = scene.disk(768 * MIB);
    let disk = disk.to_str().unwrap();
    run("mkfs.vfat", &["-n", "PHOTOS", disk]);
    let args = ["--filesystem", "xfs", "--wipe"];
    let output = scene.with_program("losetup", "exit 1", &args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("XFS needs a loop device"), "{said}");
    let found = run("blkid", &["-p", "-o", "value", "-s", "LABEL", disk]);
    assert_eq!(found, "PHOTOS\n");
}

#[test]
fn a_scratch_directory_without_room_is_told() {
    let Some(scene) = Scene::new("") else { return };
    scene.disk(512 * MIB);
    let place = scene.path("scratch").display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "size=1M", "none", &place]);
    let _mounted = Mounted(scene.path("scratch"));
    let said = scene.refuses(6, &[]);
    let names = format!("{place}/bowline-install-");
    assert!(
        said.contains(&names) && said.contains("--scratch"),
        "{said}"
    );
    // Not even a directory fits.
    run("mount", &["-o", "remount,nr_inodes=1", &place]);
    let said = scene.refuses(6, &[]);
    assert!(
        said.contains(&names) && said.contains("--scratch"),
        "{said}"
    );
}

#[test]
fn what_grub_could_not_read_is_refused() {
    let bad_name = "file /usr/lib/os-release 0 0 644 PRETTY_NAME=\"a;b\"\\n";
    let bad_karg = "file /usr/lib/bowline/kargs.d/a.yaml 0 0 644 kargs: [\"x=$y\"]\\n";
    let bad_own = "file /usr/lib/bowline/install/a.yaml 0 0 644 kargs: [\"x=$y\"]\\n";
    for (lines, args) in [
        ("", &["--karg", "x=$y"][..]),
        (bad_name, &[]),
        (bad_karg, &[]),
        (bad_own, &[]),
    ] {
        let Some(scene) = Scene::new(lines) else {
            return;
        };
        scene.disk(512 * MIB);
        let said = scene.refuses(7, args);
        assert!(said.contains("GRUB"), "{said}");
        scene.installs(&[args, &["--bootloader", "none"]].concat());
    }
}

/// Each of these is called once, in this order, from the first byte on that is written.
const WRITERS: [&str; 4] = ["mkfs.vfat", "mke2fs", "debugfs", "sfdisk"];

#[test]
fn killed_anywhere_the_disk_boots_nothing_and_the_next_try_finishes() {
    let Some(scene) = Scene::new("") else { return };
    for program in WRITERS {
        let disk = scene.disk(512 * MIB);
        let output = scene.killed_by(program, &[]);
        assert_eq!(
            output.status.signal(),
            Some(9),
            "{program}: {}",
            stderr(&output)
        );
        let table = Command::new("sfdisk")
            .arg("-J")
            .arg(&disk)
            .output()
            .unwrap();
        assert!(
            !table.status.success(),
            "{program}: there is a partition table"
        );
        let mut start = [0; 512];
        fs::File::open(&disk)
            .unwrap()
            .read_exact(&mut start)
            .unwrap();
        assert_ne!(
            start[510..],
            [0x55, 0xaa],
            "{program}: there is a boot sector"
        );
        scene.installs(&[]);
        let root = format!("{}?offset={}", disk.display(), scene.start("root"));
        run("e2fsck", &["-fn", &root]);
    }
}

#[test]
fn what_was_fetched_before_a_failure_is_not_fetched_again() {
    let Some(scene) = Scene::new("") else { return };
    scene.disk(512 * MIB);
    let layers = scene.layers("os");
    let (missing, others) = layers.split_last().unwrap();
    let away = scene.path("away");
    fs::rename(missing, &away).unwrap();
    let output = scene.to_disk(&["--jobs", "1"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("what was fetched is kept in"), "{said}");
    fs::rename(&away, missing).unwrap();
    for layer in others {
        fs::remove_file(layer).unwrap();
    }
    scene.installs(&[]);
}

#[test]
fn a_scratch_directory_that_is_half_made_is_made_anew() {
    let Some(scene) = Scene::new("") else { return };
    scene.disk(512 * MIB);
    assert_eq!(scene.killed_by("mke2fs", &[]).status.signal(), Some(9));
    let mut left = scene.path("scratch").read_dir().unwrap();
    let repo = left.next().unwrap().unwrap().path();
    fs::remove_dir_all(repo.join("sysroot/ostree/repo/objects")).unwrap();
    scene.installs(&[]);
}

#[test]
fn bootupd_in_the_image_needs_partitions() {
    let Some(scene) = Scene::new(
        "dir /usr/lib/bootupd/updates 0 0 755\n\
         file /usr/bin/bootupctl 0 0 755 no program",
    ) else {
        return;
    };
    scene.disk(512 * MIB);
    let output = scene.to_disk(&[]);
    let said = stderr(&output);
    // Where the kernel shows partitions of files, this bootupd cannot be run.
    assert!(matches!(output.status.code(), Some(1 | 7)), "{said}");
    assert!(said.contains("with bootupd"), "{said}");
    scene.disk(1536 * MIB);
    scene.installs(&["--bootloader", "systemd-boot"]);
}

fn check_repo(root: &Path) {
    let repo = format!("--repo={}", root.join("ostree/repo").display());
    run("ostree", &["fsck", "--quiet", &repo]);
    let config = fs::read_to_string(root.join("ostree/repo/config")).unwrap();
    // That was for the time of the installation.
    assert!(!config.contains("min-free-space"), "{config}");
}

/// The one boot entry.
fn entry(root: &Path) -> String {
    let entries = fs::read_dir(root.join("boot/loader/entries")).unwrap();
    let entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1);
    fs::read_to_string(&entries[0]).unwrap()
}

/// The one deployment of a stateroot.
fn deployment(root: &Path, stateroot: &str) -> PathBuf {
    let deploy = root.join("ostree/deploy").join(stateroot).join("deploy");
    let mut entries = fs::read_dir(deploy).unwrap().map(|e| e.unwrap().path());
    entries.find(|p| p.is_dir()).unwrap()
}

fn immutable(tree: &Path) -> bool {
    let flags = run("lsattr", &["-d", tree.to_str().unwrap()]);
    flags.split(' ').next().unwrap().contains('i')
}
