//! Scenario 5: an update that does not work goes away by itself. The kernel panics, init hangs, or a
//! required check is red: after its tries the old deployment boots and is the default again, the
//! status says so, the bad image is not taken again, and a fixed one is.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bowline_boot_tests::disk::{self, Flavour};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;
use bowline_boot_tests::vm::{Outcome, Vm};

use crate::guest::{digest_of, image_of, is_running, runs_version, says, status};
use crate::scenario::{registry, scenario};

/// Longer than a watchdog of the tests, a boot before it and a reset after it.
const PATIENCE: Duration = Duration::from_secs(600);
/// The tries that the settings of the tests' images give, see `images/v1`.
const TRIES: u32 = 2;

/// Starts the machine again and again, until the deployment that ran before runs again. Returns how
/// many boots did not work.
fn comes_back(vm: &mut Vm, old: &str, most: u32) -> Result<u32> {
    for failed in 0..=most {
        vm.start()?;
        let outcome = vm.outcome(PATIENCE)?;
        match outcome {
            Outcome::Up(boot) if boot.deployment == old => return Ok(failed),
            // It came up, to be found wanting.
            Outcome::Up(_) => vm.wait_end_within(PATIENCE)?,
            Outcome::Ended => {}
            Outcome::Stuck => bail!("Boot {} hangs for ever", failed + 1),
        }
    }
    bail!("After {most} boots the old deployment is not back")
}

/// Takes a version that is broken, and sees it go away. The host runs version 1 before and after.
fn broken(vm: &mut Vm, registry: &Registry, story: &Story, kind: &str, tries: u32) -> Result<()> {
    story.tell(&format!("version `{kind}` is released; the host takes it"));
    let before = status(vm)?;
    let running = &before["status"]["booted"]["ostree"];
    let old = format!(
        "{}.{}",
        running["checksum"].as_str().context("A commit runs")?,
        running["deploySerial"]
    );
    registry.release(kind, "stable")?;
    vm.ok("bowline upgrade")?;
    vm.begin("systemctl reboot")?;
    vm.wait_end()?;
    let failed = comes_back(vm, &old, tries + 1)?;
    story.tell(&format!(
        "after {failed} boots that failed, the version before is back"
    ));
    ensure!(failed == tries, "{failed} boots, not {tries}");

    runs_version(vm, "1")?;
    is_running(vm)?;
    let host = status(vm)?;
    ensure!(
        digest_of(&host, "booted") == digest_of(&before, "booted"),
        "{host:#}"
    );
    ensure!(
        image_of(&host, "booted") == image_of(&before, "booted"),
        "{host:#}"
    );
    ensure!(
        host["status"]["rollbackQueued"] == false,
        "The bad one would boot next: {host:#}"
    );

    let bad = registry.digest(kind)?;
    let short = bad.get(..19).context("A digest is longer")?;
    let text = vm.ok("bowline status")?;
    story.tell(&format!("status says:\n{text}"));
    says(&text, short)?;
    if kind == "red" {
        says(&text, "10-database.sh")?;
    }
    story.tell("the bad image is not taken again");
    let said = vm.run("bowline upgrade")?;
    says(&(said.stdout + &said.stderr), short)?;
    let host = status(vm)?;
    ensure!(
        host["status"]["staged"].is_null(),
        "It is staged again: {host:#}"
    );
    Ok(())
}

/// A fixed version is released; the host takes and keeps it.
fn fixed(vm: &mut Vm, registry: &Registry, story: &Story) -> Result<()> {
    story.tell("a fixed version is released; the host takes it, and it is good");
    registry.release("v3", "stable")?;
    vm.ok("bowline upgrade")?;
    vm.reboot()?;
    runs_version(vm, "3")?;
    is_running(vm)?;
    let good = "systemctl is-active --quiet bowline-boot-ok.service";
    vm.ok(&format!(
        "for n in $(seq 600); do {good} && exit; sleep 0.2; done; exit 1"
    ))?;
    Ok(())
}

/// One broken version after another on the same host, and a fixed one at the end.
fn broken_updates(flavour: Flavour, kinds: &[&str]) {
    let name = format!("broken-{}-{}", flavour.name(), kinds.join("-"));
    scenario(&name, |story| {
        let registry = registry(&["v1", "v3", "panic", "hang", "red"])?;
        registry.release("v1", "stable")?;
        let mut vm = disk::booted(flavour, story, &registry)?;
        for kind in kinds {
            broken(&mut vm, &registry, story, kind, TRIES)?;
        }
        fixed(&mut vm, &registry, story)?;
        vm.finish()
    });
}

#[test]
fn panic_and_red_check_with_bios_and_grub() {
    broken_updates(Flavour::BiosGrub, &["panic", "red"]);
}

#[test]
fn hang_with_bios_and_grub() {
    broken_updates(Flavour::BiosGrub, &["hang"]);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn panic_hang_and_red_check_with_uefi_and_grub() {
    broken_updates(Flavour::UefiGrub, &["panic", "hang", "red"]);
}

#[test]
fn red_check_with_uefi_and_systemd_boot() {
    broken_updates(Flavour::UefiSystemdBoot, &["red"]);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn panic_and_hang_with_uefi_and_systemd_boot() {
    broken_updates(Flavour::UefiSystemdBoot, &["panic", "hang"]);
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn as_many_tries_as_the_settings_say() {
    scenario("broken-three-tries", |story| {
        let registry = registry(&["v1", "red"])?;
        registry.release("v1", "stable")?;
        let mut vm = disk::booted(Flavour::BiosGrub, story, &registry)?;
        story.tell("this host gives an update three tries");
        vm.ok(
            "mkdir -p /etc/bowline && printf 'health:\\n  tries: 3\\n' >/etc/bowline/90-tries.yaml",
        )?;
        broken(&mut vm, &registry, story, "red", 3)?;
        vm.finish()
    });
}
