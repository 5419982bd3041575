//! The last moment before a staged deployment is finished: from here on its boots count. A locked
//! sysroot and a number of tries come in; an armed bootloader goes out. Where counting is not
//! possible the staged deployment is held back, so that nothing boots uncounted.

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::bootloader;
use super::plan::doomed;
use super::{plan_esp, snapshot};
use crate::boot::mirror::{self, Wanted};
use crate::boot::{self, BootSetup, Bootloader, Counting};
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
    let armed = bootloader::catch_up(sysroot)
        .and_then(|()| check_room(sysroot, staged))
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
    match setup.bootloader {
        Bootloader::SystemdBoot => arm_mirror(sysroot, &setup, tries),
        Bootloader::Grub | Bootloader::None => boot::arm(sysroot.path(), &setup, tries),
    }
}

/// When libostree finishes the staged deployment, the links that the ESP's entries name go, or turn
/// to the new deployment. So that power may be lost before the mirror is renewed: an entry for what
/// runs, which works before and after; and where the first entry will mean the new deployment, its
/// boots count from now on.
#[context("Preparing the EFI system partition")]
fn arm_mirror(sysroot: &LockedSysroot, setup: &BootSetup, tries: u32) -> Result<()> {
    let all = sysroot.deployments()?;
    let dropped: Vec<_> = doomed(&all).iter().map(|d| d.id.clone()).collect();
    let finished = all.iter().filter(|d| d.slot != Slot::Staged);
    let running = finished.enumerate().find(|(_, d)| d.slot == Slot::Booted);
    let (at, running) = running.context("No deployment runs")?;
    let Some(survivor) = sysroot.prepare_survivor(&running.id, &dropped)? else {
        return Ok(());
    };
    let mut entries = mirror::wanted(sysroot.path(), Counting::AsIs)?.entries;
    let entry = entries.get(at).context("It has no boot entry")?;
    let entry = entry.with_ostree(&survivor.ostree);
    let counting = match survivor.renewed {
        true => {
            entries.insert(0, entry);
            Counting::Off
        }
        false => {
            entries.push(entry);
            Counting::Fresh(tries)
        }
    };
    mirror::write(setup, &Wanted { entries, counting }).map(|_| ())
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
