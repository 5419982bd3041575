//! Scenario 7: the disk or the ESP is full, the registry goes away in the middle, the clock is wrong,
//! there is no network. The host goes on with what it has and says what is wrong; when the trouble is
//! over, the same command finishes.

use anyhow::{Result, ensure};
use bowline_boot_tests::disk::{self, Flavour};
use bowline_boot_tests::qemu::REGISTRY;
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::vm::Vm;

use crate::guest::{SPACE, fill, is_digest, is_running, runs_version, says, status, untouched};
use crate::scenario::{registry, scenario};

/// Exit code of a registry that does not answer.
const UNREACHABLE: i32 = 3;
/// As impatient as a test.
const UPGRADE: &str = "bowline upgrade --retry 1 --timeout 5";

/// Fails unless the upgrade works now.
fn works_now(vm: &mut Vm, registry: &Registry) -> Result<()> {
    vm.ok("bowline upgrade")?;
    let host = status(vm)?;
    is_digest(&host, "staged", &registry.digest("large")?)?;
    // The next trouble starts from the same state; a rollback drops what is staged.
    vm.ok("bowline rollback && bowline image list >/dev/null")?;
    Ok(())
}

/// A script that makes the registry one whose certificate counts.
fn trusts(ca: &str) -> String {
    let dir = format!("/etc/containers/certs.d/{REGISTRY}");
    format!(
        "rm /etc/containers/registries.conf.d/50-boot-test.conf && mkdir -p {dir}
cat >{dir}/ca.crt <<END
{ca}END"
    )
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn a_host_in_trouble() {
    scenario("trouble", |story| {
        let mut registry = registry(&["v1", "large"])?;
        let mut vm = disk::booted(Flavour::BiosGrub, story, &registry)?;
        registry.release("large", "stable")?;

        story.tell("no network: the command says so, the host goes on");
        vm.cable(false)?;
        let said = vm.fails(UNREACHABLE, UPGRADE)?;
        says(&said, "10.0.2.100:5000")?;
        untouched(&mut vm, &registry)?;
        vm.cable(true)?;
        vm.ok("networkctl reconfigure --all; for n in $(seq 50); do ip route | grep -q default && exit; sleep 0.2; done; ip a")?;

        story.tell("the registry goes away in the middle of the pull");
        vm.begin(&format!("{UPGRADE}; echo $? >/run/code"))?;
        registry.wait_for_blob()?;
        registry.stop();
        vm.wait_done()?;
        ensure!(
            vm.ok("cat /run/code")? == UNREACHABLE.to_string(),
            "Another exit code"
        );
        registry.serve()?;
        untouched(&mut vm, &registry)?;

        story.tell("the disk is full: refused with the numbers, nothing is lost");
        fill(&mut vm, "/var", 8)?;
        let said = vm.fails(SPACE, UPGRADE)?;
        says(&said, "MB")?;
        untouched(&mut vm, &registry)?;
        vm.ok("rm /var/filler && ostree fsck --quiet --repo=/ostree/repo")?;
        works_now(&mut vm, &registry)?;

        story.tell("the clock is in another century: the host boots, and the upgrade works");
        vm.begin("systemctl poweroff")?;
        vm.wait_end()?;
        vm.machine().clock = Some("2001-01-01T00:00:00".into());
        vm.start()?;
        vm.wait_up()?;
        untouched(&mut vm, &registry)?;
        works_now(&mut vm, &registry)?;

        story.tell("where certificates count, it is asked whether the clock is right, until it is");
        let ca = registry.secure()?;
        vm.ok(&trusts(&ca))?;
        let said = vm.fails(UNREACHABLE, UPGRADE)?;
        says(&said, "by the clock of this machine it is")?;
        untouched(&mut vm, &registry)?;
        vm.set_clock()?;
        works_now(&mut vm, &registry)?;
        vm.finish()
    });
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn an_esp_that_is_full() {
    scenario("trouble-esp", |story| {
        let registry = registry(&["v1", "large"])?;
        let mut vm = disk::booted(Flavour::UefiSystemdBoot, story, &registry)?;
        registry.release("large", "stable")?;
        story.tell("the ESP is full: refused with the numbers before anything is written");
        vm.ok("mkdir /run/esp && mount $(blkid -t TYPE=vfat -o device) /run/esp")?;
        fill(&mut vm, "/run/esp", 2)?;
        vm.ok("umount /run/esp")?;
        let said = vm.fails(SPACE, UPGRADE)?;
        says(&said, "MB")?;
        untouched(&mut vm, &registry)?;
        story.tell("with the room back, the same command finishes, and the new version boots");
        vm.ok("mount $(blkid -t TYPE=vfat -o device) /run/esp && rm /run/esp/filler && umount /run/esp")?;
        vm.ok("bowline upgrade")?;
        vm.reboot()?;
        runs_version(&mut vm, "large")?;
        is_running(&mut vm)?;
        vm.finish()
    });
}
