//! Scenario 4: the timer starts an upgrade that nobody watches; it stages, and with `apply` in the
//! settings it reboots too. `upgrade --apply` does the same at once.

use anyhow::{Result, ensure};
use bowline_boot_tests::disk::{self, Flavour};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::vm::Vm;

use crate::guest::{is_digest, is_running, runs_version, status};
use crate::scenario::{registry, scenario};

/// Makes the timer go off now, and waits until its service has run.
const TIMER: &str = r#"set -e
mkdir -p /run/systemd/system/bowline-upgrade.timer.d
printf '[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n' >/run/systemd/system/bowline-upgrade.timer.d/now.conf
systemctl daemon-reload
before=$(systemctl show -P InvocationID bowline-upgrade.service)
systemctl restart bowline-upgrade.timer
until [ "$(systemctl show -P InvocationID bowline-upgrade.service)" != "$before" ]; do sleep 0.2; done
"#;

/// The upgrade of the timer, to its end.
fn timer_stages(vm: &mut Vm, registry: &Registry, tag: &str) -> Result<()> {
    registry.release(tag, "stable")?;
    vm.ok(TIMER)?;
    vm.ok("while systemctl is-active --quiet bowline-upgrade.service; do sleep 0.2; done")?;
    let state = "systemctl show -P ActiveState bowline-upgrade.service";
    vm.ok(&format!(
        "until [ $({state}) != activating ]; do sleep 0.2; done"
    ))?;
    let result = vm.ok("systemctl show -P Result bowline-upgrade.service")?;
    ensure!(result == "success", "The service ended with {result}");
    let host = status(vm)?;
    is_digest(&host, "staged", &registry.digest(tag)?)?;
    Ok(())
}

#[test]
#[ignore = "not in the short run: hack/test --all"]
fn nobody_watches_an_upgrade() {
    scenario("unattended", |story| {
        let registry = registry(&["v1", "v2", "v3"])?;
        registry.release("v1", "stable")?;
        let mut vm = disk::booted(Flavour::BiosGrub, story, &registry)?;

        story.tell("the timer is on; when it goes off, the new version is staged and no more");
        ensure!(vm.ok("systemctl is-enabled bowline-upgrade.timer")? == "enabled");
        timer_stages(&mut vm, &registry, "v2")?;
        runs_version(&mut vm, "1")?;

        story.tell("with `apply` in the settings it reboots, into what is newest by then");
        vm.ok("mkdir -p /etc/bowline && printf 'update:\\n  apply: true\\n' >/etc/bowline/90-apply.yaml")?;
        registry.release("v3", "stable")?;
        vm.begin(TIMER)?;
        vm.wait_end()?;
        vm.start()?;
        vm.wait_up()?;
        runs_version(&mut vm, "3")?;
        is_running(&mut vm)?;

        story.tell("upgrade --apply takes the next version, and reboots into it");
        registry.release("v2", "stable")?;
        vm.begin("bowline upgrade --apply")?;
        vm.wait_end()?;
        vm.start()?;
        vm.wait_up()?;
        runs_version(&mut vm, "2")?;
        is_running(&mut vm)?;
        vm.finish()
    });
}
