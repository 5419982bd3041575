//! An ordinary system that runs is replaced in place: it goes on as it is until the reboot, the new
//! system boots then, and the old files are still there.

use bowline_boot_tests::disk::{self, FOLLOWED, Flavour, in_guest};
use bowline_boot_tests::plain;
use bowline_boot_tests::vm::Vm;

use crate::guest::{follows, is_digest, is_running, runs_version, status};
use crate::scenario::{registry, scenario};

fn taken_over(flavour: Flavour) {
    scenario(&format!("existing-root-{}", flavour.name()), |story| {
        let registry = registry(&["v1", "v2"])?;
        registry.release("v2", "stable")?;
        story.tell("an ordinary system runs");
        let mut vm = Vm::boot(plain::machine(flavour, story, &registry, "v1")?, story)?;
        vm.ok("! test -e /run/ostree-booted && ! test -e /ostree && echo mine >/etc/mine")?;
        if flavour == Flavour::UefiGrub {
            vm.ok("mount --mkdir /dev/vda1 /boot/efi")?;
        }

        story.tell("it is taken over, and goes on as it is");
        let arguments = disk::kernel_arguments().into_iter();
        let arguments: String = arguments.map(|a| format!(" --karg {a}")).collect();
        let image = in_guest("v1");
        vm.ok(&format!(
            "bowline install to-existing-root --image {image} --target-imgref {FOLLOWED}{arguments}"
        ))?;
        vm.ok("grep -qx mine /etc/mine && touch /usr/here && rm /usr/here && ls /usr/lib/modules/*/vmlinuz")?;
        vm.begin("systemctl poweroff")?;
        vm.wait_end()?;

        story.tell("the new system boots through its boot loader, and the old files are there");
        vm.machine().kernel = None;
        vm.start()?;
        vm.wait_up()?;
        runs_version(&mut vm, "1")?;
        is_running(&mut vm)?;
        vm.ok(
            "test -e /run/ostree-booted && ! test -e /etc/mine && grep -qx mine /sysroot/etc/mine",
        )?;
        let host = status(&mut vm)?;
        follows(&host, "booted", FOLLOWED)?;
        is_digest(&host, "booted", &registry.digest("v1")?)?;

        story.tell("it is a host as any other: it upgrades");
        vm.ok("bowline upgrade")?;
        vm.reboot()?;
        runs_version(&mut vm, "2")?;
        is_running(&mut vm)?;
        vm.finish()
    });
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn an_existing_root_with_bios_and_grub() {
    taken_over(Flavour::BiosGrub);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn an_existing_root_with_uefi_and_grub() {
    taken_over(Flavour::UefiGrub);
}
