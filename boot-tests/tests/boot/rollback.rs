//! Scenario 3, first half: `rollback` brings the version before back, and a second one the newer.

use anyhow::{Result, ensure};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;
use bowline_boot_tests::vm::Vm;

use crate::guest::{digest_of, is_running, runs_version, status};

/// Takes a host on version 2 back to version 1, and forward again.
pub fn back_and_forward(vm: &mut Vm, registry: &Registry, story: &Story) -> Result<()> {
    for (now, then, word) in [("2", "1", "back"), ("1", "2", "forward")] {
        story.tell(&format!("rollback: {word} to version {then}"));
        vm.ok("bowline rollback")?;
        let host = status(vm)?;
        ensure!(host["status"]["rollbackQueued"] == true, "{host:#}");
        vm.reboot()?;
        runs_version(vm, then)?;
        is_running(vm)?;
        let host = status(vm)?;
        let digests = (digest_of(&host, "booted"), digest_of(&host, "rollback"));
        let want = [then, now].map(|version| registry.digest(&format!("v{version}")));
        let [booted, rollback] = want;
        ensure!(digests == (Some(booted?), Some(rollback?)), "{host:#}");
    }
    Ok(())
}
