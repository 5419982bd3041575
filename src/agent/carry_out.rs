//! Carries steps out, in order, each one durable before the next. Steps come in; the record, the
//! boot order and the bootloader's files change. Interrupted anywhere, the next boot finds what is
//! left to do.

use std::time::Duration;

use anyhow::{Result, bail};
use fn_error_context::context;

use super::machine::Step;
use crate::boot::{self, BootSetup, Counting, loader};
use crate::health::Store;
use crate::sys::watched;
use crate::sysroot::{LockedSysroot, SysrootError};

/// How long `systemctl` may take to accept a reboot.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries steps out; a failed one ends it. `locked` opens the sysroot for writing, and is called
/// for steps that need that only.
pub fn carry_out(
    steps: &[Step],
    store: &Store,
    locked: impl Fn() -> Result<LockedSysroot>,
) -> Result<()> {
    let mut sysroot = None;
    for step in steps {
        match step {
            Step::Remember(record) => store.write(record)?,
            Step::Reboot => reboot()?,
            other => {
                let sysroot = match &mut sysroot {
                    Some(sysroot) => sysroot,
                    none => none.insert(locked()?),
                };
                write(sysroot, other)?;
            }
        }
    }
    Ok(())
}

fn write(sysroot: &LockedSysroot, step: &Step) -> Result<()> {
    let (root, setup) = (sysroot.path(), BootSetup::read(sysroot.path())?);
    match step {
        // libostree may turn the links that the ESP's entries name, too: all that boots counts.
        Step::Arm(tries) => boot::arm(root, &setup, *tries),
        Step::Remember(_) | Step::Reboot => Ok(()),
        Step::Recount(tries) => boot::settle(root, &setup, Counting::Fresh(*tries)),
        Step::Mirror => boot::settle(root, &setup, Counting::AsIs),
        Step::Settle => boot::settle(root, &setup, Counting::Off),
        Step::Bless => bless(sysroot, &setup),
        Step::Order(order) => {
            let all = sysroot.deployments()?;
            let find = |id: &String| all.iter().find(|d| d.id.to_string() == *id);
            let ids = order.iter().map(|id| match find(id) {
                Some(deployment) => Ok(deployment.id.clone()),
                None => Err(SysrootError::NoDeployment(id.clone())),
            });
            sysroot.write_boot_order(&ids.collect::<Result<Vec<_>, _>>()?)
        }
    }
}

/// What runs is what boots by default: only that is on trial.
fn bless(sysroot: &LockedSysroot, setup: &BootSetup) -> Result<()> {
    let first = loader::entries(sysroot.path())?.into_iter().next();
    match first.as_ref().and_then(|(_, entry)| entry.ostree()) {
        Some(ostree) => boot::bless(sysroot.path(), setup, ostree),
        None => Ok(()),
    }
}

/// Asks for an orderly reboot; where systemd does not take the order, for one that asks less of it.
#[context("Rebooting")]
fn reboot() -> Result<()> {
    let mut said = Vec::new();
    for args in [
        &["reboot"][..],
        &["reboot", "--force"],
        &["reboot", "--force", "--force"],
    ] {
        let run = watched::run("systemctl".as_ref(), args, &[], PATIENCE);
        if run.success() {
            return Ok(());
        }
        said.push(format!(
            "systemctl {}: {:?} {}",
            args.join(" "),
            run.ending,
            run.output.trim()
        ));
    }
    bail!("{}", said.join("; "))
}
