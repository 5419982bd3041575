//! Tests of the setup's file, and of what is found without it.

use std::fs;

use super::*;
use crate::boot::GRUB_CFG;
use crate::testing::samples;

#[test]
fn the_file_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let setup = BootSetup {
        bootloader: Bootloader::SystemdBoot,
        esp: Some("0f1e".into()),
    };
    setup.write(dir.path()).unwrap();
    let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
    assert_eq!(text, "bootloader: systemd-boot\nesp: 0f1e\n");
    assert_eq!(BootSetup::read(dir.path()).unwrap(), setup);
    BootSetup::default().write(dir.path()).unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join(FILE)).unwrap(),
        "bootloader: none\n"
    );
}

#[test]
fn a_damaged_file_is_an_error_that_says_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("ostree/bowline")).unwrap();
    let large = format!("# {}", "x".repeat(70_000));
    for text in [
        "bootloader: lilo",
        "bootloader: grub\nmore: 1",
        "",
        "\u{0}",
        &large,
    ] {
        fs::write(dir.path().join(FILE), text).unwrap();
        let error = format!("{:#}", BootSetup::read(dir.path()).unwrap_err());
        assert!(error.contains("boot.yaml"), "{text:.20}: {error}");
    }
}

#[test]
fn without_the_file_grub_is_known_by_its_files() {
    let counts = "# GRUB Environment Block\nboot_success=1\n";
    for (files, bootloader, env) in [
        (&[][..], Bootloader::None, "boot/grub/grubenv"),
        (
            &[("boot/grub/grub.cfg", GRUB_CFG)],
            Bootloader::Grub,
            "boot/grub/grubenv",
        ),
        (
            &[("boot/grub2/grub.cfg", GRUB_CFG)],
            Bootloader::Grub,
            "boot/grub2/grubenv",
        ),
        (
            &[("boot/grub/grub.cfg", "set timeout=0")],
            Bootloader::None,
            "boot/grub/grubenv",
        ),
        (
            &[
                ("boot/grub2/grub.cfg", "blscfg"),
                ("boot/grub2/grubenv", counts),
            ],
            Bootloader::Grub,
            "boot/grub2/grubenv",
        ),
        (
            &[
                ("boot/grub/grub.cfg", "x"),
                ("boot/grub2/grub.cfg", GRUB_CFG),
            ],
            Bootloader::Grub,
            "boot/grub2/grubenv",
        ),
        (
            &[("boot/grub/grubenv", "damaged")],
            Bootloader::None,
            "boot/grub/grubenv",
        ),
    ] {
        let dir = samples::files(files).unwrap();
        let setup = BootSetup::read(dir.path()).unwrap();
        assert_eq!(setup.bootloader, bootloader, "{files:?}");
        assert_eq!(grubenv_path(dir.path()), dir.path().join(env));
    }
}
