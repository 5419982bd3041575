//! Keeping the bootloader's own files in step with libostree's. A locked sysroot comes in; GRUB's
//! counter or the mirror on the ESP changes. Never changes the boot order itself.

use anyhow::Result;
use fn_error_context::context;

use crate::boot::{self, BootSetup, Counting};
use crate::health::{Store, Trial};
use crate::sysroot::{Deployment, LockedSysroot, Slot};

/// The record of boots: of the running system, else that of the deployment's stateroot.
pub fn record_store(sysroot: &LockedSysroot, deployment: &Deployment) -> Store {
    let stateroot = &deployment.id.stateroot;
    Store::of(sysroot.path(), sysroot.is_booted(), stateroot)
}

/// The finished deployment that boots next, and its trial where it is on one.
pub fn next_boot(sysroot: &LockedSysroot) -> Result<Option<(Deployment, Option<Trial>)>> {
    let all = sysroot.deployments()?;
    let Some(next) = all.into_iter().find(|d| d.slot != Slot::Staged) else {
        return Ok(None);
    };
    let trial = record_store(sysroot, &next).read()?.trial;
    // Also one that was given up: until another one boots by default, its boots count.
    let of_next = |trial: &Trial| trial.deployment == next.id.to_string();
    let trial = trial.filter(of_next);
    Ok(Some((next, trial)))
}

/// Brings the bootloader up to date where a power cut may have left it behind. What is on trial is
/// counted then, too; a counter that is there goes on.
///
/// Interrupted, the old or the new boots; the next call finishes.
#[context("Looking after the bootloader")]
pub fn catch_up(sysroot: &LockedSysroot) -> Result<()> {
    let counting = match next_boot(sysroot)? {
        None => return Ok(()),
        Some((_, Some(trial))) => Counting::Keep(trial.tries),
        Some((_, None)) => Counting::AsIs,
    };
    let setup = BootSetup::read(sysroot.path())?;
    boot::settle(sysroot.path(), &setup, counting)
}
