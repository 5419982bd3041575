//! Scenario 8: a host that another tool installed. Bowline takes it over, upgrades it, and hands it
//! back. The other tools are `ostree admin deploy`, in the host itself, and the reference peer's
//! `container image deploy`, on the disk of a host that is off.

use anyhow::{Result, ensure};
use bowline_boot_tests::disk::{self, FOLLOWED, Flavour};
use bowline_boot_tests::mounted::Mounted;
use bowline_boot_tests::vm::Vm;

use crate::guest::{follows, image_of, is_digest, is_running, runs_version, status};
use crate::scenario::{registry, scenario};

/// Exit code where a host has nothing to upgrade from.
const NOT_SUPPORTED: i32 = 7;
/// Deploys the commit of version 1 as what `ostree admin` knows: a ref, and no image.
const PLAIN: &str = r#"set -e
commit=$(ostree admin status | sed -n 's/^\* [^ ]* \([0-9a-f]*\)\..*/\1/p')
unshare --mount sh -c "mount -o remount,rw /sysroot; ostree refs --repo=/sysroot/ostree/repo --create=plain/main $commit"
ostree admin deploy plain/main
"#;

/// Upgrades to what is released now, and reboots into it.
fn upgraded(vm: &mut Vm, command: &str, version: &str) -> Result<()> {
    vm.ok(command)?;
    vm.reboot()?;
    runs_version(vm, version)?;
    is_running(vm)
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn a_host_of_ostree_admin() {
    scenario("other-tools-ostree-admin", |story| {
        let registry = registry(&["v1", "v2", "v3"])?;
        let mut vm = disk::booted(Flavour::BiosGrub, story, &registry)?;
        story.tell("ostree admin deploy makes a deployment that follows no image");
        vm.ok(PLAIN)?;
        vm.reboot()?;
        let host = status(&mut vm)?;
        ensure!(image_of(&host, "booted").is_none(), "{host:#}");
        vm.fails(NOT_SUPPORTED, "bowline upgrade")?;

        story.tell("Bowline takes the host over, and upgrades it");
        registry.release("v2", "stable")?;
        upgraded(&mut vm, &format!("bowline switch {FOLLOWED}"), "2")?;
        registry.release("v3", "stable")?;
        upgraded(&mut vm, "bowline upgrade", "3")?;

        story.tell("ostree admin takes it back");
        vm.ok("ostree admin deploy plain/main")?;
        vm.reboot()?;
        runs_version(&mut vm, "1")?;
        is_running(&mut vm)?;
        vm.ok(
            "ostree admin status | grep -q plain/main && ostree fsck --quiet --repo=/ostree/repo",
        )?;
        vm.finish()
    });
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn a_host_of_the_reference_peer() {
    scenario("other-tools-peer", |story| {
        let registry = registry(&["v1", "v2", "v3"])?;
        story.tell("the peer deploys version 1 on a disk, as the only deployment");
        let mut machine = disk::installed(Flavour::BiosGrub, story, &registry)?;
        let mounted = Mounted::new(&machine.disk)?;
        let arguments = mounted.kernel_arguments()?;
        mounted.ostree(&["undeploy", "0"])?;
        mounted.peer_deploy(&registry, "v1", FOLLOWED, &arguments)?;
        mounted.write_back(&mut machine)?;

        story.tell("it boots; Bowline knows the image, and upgrades it");
        registry.release("v2", "stable")?;
        let mut vm = Vm::boot(machine.clone(), story)?;
        runs_version(&mut vm, "1")?;
        let host = status(&mut vm)?;
        follows(&host, "booted", FOLLOWED)?;
        is_digest(&host, "booted", &registry.digest("v1")?)?;
        upgraded(&mut vm, "bowline upgrade", "2")?;
        vm.begin("systemctl poweroff")?;
        vm.wait_end()?;

        story.tell("the peer takes it back, and deploys version 3 beside Bowline's deployments");
        let mounted = Mounted::new(&machine.disk)?;
        mounted.peer_deploy(&registry, "v3", FOLLOWED, &[])?;
        mounted.write_back(&mut machine)?;
        vm.start()?;
        vm.wait_up()?;
        runs_version(&mut vm, "3")?;
        is_running(&mut vm)?;
        let host = status(&mut vm)?;
        is_digest(&host, "booted", &registry.digest("v3")?)?;
        is_digest(&host, "rollback", &registry.digest("v2")?)?;
        vm.finish()
    });
}
