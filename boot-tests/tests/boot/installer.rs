//! Scenario 11: an installer has made a disk with a `/boot` and an EFI system partition of their own; a
//! running system installs to what is mounted. The disk boots by itself, and a `/boot` without room for
//! another kernel is no trouble for what runs.

use anyhow::{Context, Result};
use bowline_boot_tests::disk::{self, FOLLOWED, Flavour, in_guest};
use bowline_boot_tests::vm::Vm;

use crate::guest::{
    SPACE, fill, follows, is_digest, is_running, runs_version, says, status, untouched,
};
use crate::scenario::{registry, scenario};

/// Partitions the second disk and mounts it, with room for two kernels in `/boot`.
const PREPARE: &str = "set -e
sfdisk --quiet /dev/vdb <<END
label: gpt
size=130M, type=uefi
size=256M, type=linux
type=linux
END
udevadm settle
mkfs.vfat -F 32 /dev/vdb1 >/dev/null
for part in 2 3; do mke2fs -q -t ext4 /dev/vdb$part; done
mount --mkdir /dev/vdb3 /run/new
mount --mkdir /dev/vdb2 /run/new/boot
mount --mkdir /dev/vdb1 /run/new/boot/efi
";

/// Switches the machine off and lets it boot from the second disk alone.
fn boot_second(vm: &mut Vm) -> Result<()> {
    vm.begin("systemctl poweroff")?;
    vm.wait_end()?;
    disk::take_first_out(vm.machine())?;
    vm.start()?;
    vm.wait_up().context("Booting the second disk")?;
    Ok(())
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn file_systems_of_an_installer() {
    scenario("installer", |story| {
        let registry = registry(&["v1", "large"])?;
        let mut machine = disk::installed(Flavour::UefiGrub, story, &registry)?;
        disk::add_blank(&mut machine)?;
        story.tell("a system runs, and makes file systems on a second disk");
        let mut vm = Vm::boot(machine, story)?;
        vm.ok(PREPARE)?;

        story.tell("an image is installed to them");
        let arguments = disk::kernel_arguments().into_iter();
        let arguments: String = arguments.map(|a| format!(" --karg {a}")).collect();
        let image = in_guest("v1");
        vm.ok(&format!(
            "bowline install to-filesystem /run/new --bootloader grub --firmware uefi \
             --image {image} --target-imgref {FOLLOWED}{arguments}"
        ))?;

        story.tell("the disk boots by itself, with /boot from its own file system");
        boot_second(&mut vm)?;
        runs_version(&mut vm, "1")?;
        is_running(&mut vm)?;
        vm.ok("[ $(findmnt --noheadings --output SOURCE /boot) = /dev/vda2 ]")?;
        let host = status(&mut vm)?;
        follows(&host, "booted", FOLLOWED)?;
        is_digest(&host, "booted", &registry.digest("v1")?)?;

        story.tell("/boot is full: refused with the numbers before anything is staged");
        registry.release("large", "stable")?;
        fill(&mut vm, "/boot", 2)?;
        let said = vm.fails(SPACE, "bowline upgrade")?;
        says(&said, "/boot")?;
        says(&said, "MB")?;
        untouched(&mut vm, &registry)?;

        story.tell("with the room back, the same command finishes, and the new version boots");
        vm.ok("rm /boot/filler")?;
        vm.ok("bowline upgrade")?;
        vm.reboot()?;
        runs_version(&mut vm, "large")?;
        is_running(&mut vm)?;
        vm.finish()
    });
}
