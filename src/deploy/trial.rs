//! The last moment before a staged deployment is finished: from here on its boots count. A locked
//! sysroot and a number of tries come in; an armed bootloader goes out. Where counting is not
//! possible the staged deployment is held back, so that nothing boots uncounted.

use anyhow::Result;
use fn_error_context::context;

use super::plan::doomed;
use super::{plan_esp, snapshot};
use crate::boot::{self, BootSetup};
use crate::sysroot::{Deployment, LockedSysroot, Slot};

/// Makes the boots of the staged deployment count, and gives that deployment; `None` where nothing
/// is staged. `record` writes down what is on trial before that.
///
/// Interrupted, the host boots what it did, perhaps counted: [`boot::settle`] puts that right.
///
/// # Errors
/// Whatever stands in the way of counting. The staged deployment is then not finished at this
/// shutdown and the host keeps what it has.
#[context("Preparing the trial of the staged deployment")]
pub fn prepare_trial(
    sysroot: &LockedSysroot,
    tries: u32,
    record: impl FnOnce(&Deployment) -> Result<()>,
) -> Result<Option<Deployment>> {
    let deployments = sysroot.deployments()?;
    let Some(staged) = deployments.iter().find(|d| d.slot == Slot::Staged) else {
        return Ok(None);
    };
    let armed = check_room(sysroot, staged)
        .and_then(|()| record(staged))
        .and_then(|()| arm(sysroot, tries));
    if let Err(error) = armed {
        sysroot.hold_back_staged()?;
        return Err(error.context("The staged deployment is not finished"));
    }
    Ok(Some(staged.clone()))
}

fn arm(sysroot: &LockedSysroot, tries: u32) -> Result<()> {
    let setup = BootSetup::read(sysroot.path())?;
    boot::arm(sysroot.path(), &setup, tries)
}

/// The ESP may have been filled since the deployment was staged.
fn check_room(sysroot: &LockedSysroot, staged: &Deployment) -> Result<()> {
    let host = snapshot(sysroot)?;
    let goes = doomed(&host.deployments);
    let stays = |id: &_| goes.iter().all(|gone| gone.id != *id);
    match sysroot.tree_facts(&staged.id.commit)?.kernel {
        Some(kernel) => Ok(plan_esp::check(&host, &kernel, stays)?),
        None => Ok(()),
    }
}
