//! Scenarios 1 to 3 as the life of one host, for each firmware and boot loader, and each file system.

use bowline_boot_tests::disk::Flavour;

use crate::install::install_and_boot;
use crate::rebase::to_a_derived_image;
use crate::rollback::back_and_forward;
use crate::scenario::{registry, scenario};
use crate::upgrade::upgrade;

/// From an empty disk to version 2, back and forward; with GRUB on a BIOS to a derived image too.
fn life_of_a_host(flavour: Flavour) {
    scenario(&format!("life-{}", flavour.name()), |story| {
        let registry = registry(&["v1", "v2"])?;
        registry.release("v1", "stable")?;
        let mut vm = install_and_boot(flavour, story, &registry)?;
        upgrade(&mut vm, &registry, story)?;
        back_and_forward(&mut vm, &registry, story)?;
        if flavour == Flavour::BiosGrub {
            to_a_derived_image(&mut vm, &registry, story)?;
        }
        vm.finish()
    });
}

#[test]
fn life_with_bios_and_grub() {
    life_of_a_host(Flavour::BiosGrub);
}

#[test]
fn life_with_uefi_and_grub() {
    life_of_a_host(Flavour::UefiGrub);
}

#[test]
fn life_with_uefi_and_systemd_boot() {
    life_of_a_host(Flavour::UefiSystemdBoot);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn life_on_xfs() {
    life_of_a_host(Flavour::BiosXfs);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn life_on_btrfs() {
    life_of_a_host(Flavour::UefiBtrfs);
}
