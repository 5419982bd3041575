//! Keeping the bootloader's own files in step with libostree's. A locked sysroot comes in; GRUB's
//! counter or the mirror on the ESP changes. Never changes the boot order itself.

use anyhow::Result;
use fn_error_context::context;

use super::DeployError;
use crate::boot::{self, BootSetup, Counting};
use crate::health::{Store, Trial};
use crate::sysroot::{Deployment, LockedSysroot, Slot, Sysroot, booted};

/// The record of boots: of the running system, else that of the deployment's stateroot.
pub fn record_store(sysroot: &Sysroot, deployment: &Deployment) -> Store {
    let stateroot = &deployment.id.stateroot;
    Store::of(sysroot.path(), sysroot.is_booted(), stateroot)
}

/// All records that tell of the trial of a deployment: beside that of the running system, where it
/// goes back to if the trial fails, that of the deployment's own system, which judges it.
pub fn record_stores(sysroot: &Sysroot, deployment: &Deployment) -> Result<Vec<Store>> {
    let all = sysroot.deployments()?;
    let here = record_store(sysroot, deployment);
    let home = &deployment.id.stateroot;
    let own = booted(&all).filter(|running| running.id.stateroot != *home);
    let own = own.map(|_| Store::of(sysroot.path(), false, home));
    Ok([here].into_iter().chain(own).collect())
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

/// Insists that what runs has proven itself. libostree keeps what runs and the newest deployment:
/// with another one staged, the good one that the trial goes back to would go at the next shutdown.
///
/// # Errors
/// [`DeployError::OnTrial`], where there is something to go back to.
#[context("Looking whether what runs is good")]
pub fn check_proven(sysroot: &Sysroot) -> Result<()> {
    let all = sysroot.deployments()?;
    let Some(running) = booted(&all) else {
        return Ok(());
    };
    let others = all.iter().filter(|d| d.slot != Slot::Staged).count() > 1;
    let record = record_store(sysroot, running).read()?;
    // What was given up and boots all the same needs an update.
    let given_up = record.trial.as_ref().is_some_and(|trial| trial.failed);
    match others && !given_up && record.is_unproven(&running.id.to_string()) {
        true => Err(DeployError::OnTrial(running.id.to_string()).into()),
        false => Ok(()),
    }
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
