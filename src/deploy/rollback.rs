//! The way back: which deployment boots next, and writing that down. Deployments come in; a plan,
//! then a changed boot order go out. Never touches an origin, a tree or the running system.

use std::fmt;

use anyhow::{Context as _, Result};
use chrono::Utc;

use super::{DeployError, record_stores};
use crate::boot::{self, BootSetup, Counting};
use crate::health::{Event, EventKind, Record, Store, Trial};
use crate::sys::kernel;
use crate::sysroot::{Deployment, DeploymentId, LockedSysroot, Slot, SysrootError};

/// Boots that count while the order changes: more than one, for a second power cut.
const TRIES_WHILE_CHANGING: u32 = 3;

/// What `rollback` will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackPlan {
    /// An update waits for the next boot: it is discarded, and what runs boots again.
    DiscardStaged {
        /// The staged deployment.
        staged: DeploymentId,
        /// What boots instead.
        next: DeploymentId,
        /// All finished deployments, in the order that they have.
        order: Vec<DeploymentId>,
    },
    /// Another deployment boots next.
    Swap {
        /// What boots next.
        next: DeploymentId,
        /// What would have booted.
        instead_of: DeploymentId,
        /// All deployments in their new order.
        order: Vec<DeploymentId>,
    },
}

impl RollbackPlan {
    /// The deployment that boots next.
    pub fn next(&self) -> &DeploymentId {
        match self {
            Self::DiscardStaged { next, .. } | Self::Swap { next, .. } => next,
        }
    }

    fn order(&self) -> &[DeploymentId] {
        match self {
            Self::DiscardStaged { order, .. } | Self::Swap { order, .. } => order,
        }
    }
}

impl fmt::Display for RollbackPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiscardStaged { staged, next, .. } => {
                write!(f, "discard the staged {staged}; {next} boots next")
            }
            Self::Swap {
                next, instead_of, ..
            } => {
                write!(f, "{next} boots next, instead of {instead_of}")
            }
        }
    }
}

/// Plans one step back. `stateroot` defaults to that of the booted deployment or the next boot.
///
/// A staged update is discarded and nothing else: going further back takes a second call. On the
/// booted host, what runs and its predecessor take turns; elsewhere the first two deployments of
/// the stateroot do. So the second of two calls undoes the first.
pub fn plan_rollback(
    deployments: &[Deployment],
    stateroot: Option<&str>,
) -> Result<RollbackPlan, DeployError> {
    let finished: Vec<_> = deployments
        .iter()
        .filter(|d| d.slot != Slot::Staged)
        .collect();
    let booted = finished.iter().find(|d| d.slot == Slot::Booted);
    let home = stateroot.map(str::to_owned);
    let home = home.or_else(|| booted.or(finished.first()).map(|d| d.id.stateroot.clone()));
    let ours: Vec<_> = finished
        .iter()
        .filter(|d| home.as_ref().is_none_or(|home| d.id.stateroot == *home))
        .collect();
    let Some(first) = ours.first() else {
        return Err(DeployError::NothingDeployed(stateroot.map(str::to_owned)));
    };
    let staged = deployments.iter().find(|d| d.slot == Slot::Staged);
    if let (Some(staged), Some(next)) = (staged, finished.first()) {
        return Ok(RollbackPlan::DiscardStaged {
            staged: staged.id.clone(),
            next: next.id.clone(),
            order: finished.iter().map(|d| d.id.clone()).collect(),
        });
    }
    let running = ours.iter().find(|d| d.slot == Slot::Booted);
    let target = match running {
        // Something else is to boot next: what runs stays after all.
        Some(running) if running.id != first.id => running,
        _ => ours.get(1).ok_or(DeployError::NoRollback(home.clone()))?,
    };
    let next = target.id.clone();
    let rest = finished
        .iter()
        .map(|d| d.id.clone())
        .filter(|id| *id != next);
    let order: Vec<_> = std::iter::once(next.clone()).chain(rest).collect();
    Ok(RollbackPlan::Swap {
        instead_of: finished[0].id.clone(),
        next,
        order,
    })
}

/// Carries a rollback out, with the bootloader's own files. It is durable when this returns; an
/// interruption leaves the old order or the new one, and what it leaves behind goes with the next
/// clean-up. Gives the number of tries where what boots next never was good.
///
/// Who goes back by hand has judged: what was on trial is so no more, and is again if it comes back.
/// What was good is not counted. While the order changes under a bootloader that counts, every boot
/// is: an exhausted counter would send the host to the second deployment, whichever that is then.
pub fn roll_back(sysroot: &LockedSysroot, plan: &RollbackPlan) -> Result<Option<u32>> {
    let setup = BootSetup::read(sysroot.path())?;
    let trial = match plan {
        RollbackPlan::DiscardStaged { .. } => {
            change_order(sysroot, plan, &setup, Counting::AsIs)?;
            None
        }
        RollbackPlan::Swap { next, .. } => swap(sysroot, plan, next, &setup)?,
    };
    sysroot.clean_deployments()?;
    Ok(trial.map(|trial| trial.tries))
}

fn swap(
    sysroot: &LockedSysroot,
    plan: &RollbackPlan,
    next: &DeploymentId,
    setup: &BootSetup,
) -> Result<Option<Trial>> {
    let all = sysroot.deployments()?;
    let found = all.iter().find(|d| d.id == *next);
    let found = found.ok_or_else(|| SysrootError::NoDeployment(next.to_string()))?;
    let stores = record_stores(sysroot, found)?;
    let trial = unproven(&stores, next)?;
    let counting = match &trial {
        Some(trial) => {
            let begin = |store: &Store| store.change(|record| record.begin(trial.clone()));
            stores.iter().try_for_each(begin)?;
            boot::arm(sysroot.path(), setup, trial.tries)?;
            Counting::Fresh(trial.tries)
        }
        None if boot::armed(sysroot.path(), setup)?.is_some() => {
            boot::arm(sysroot.path(), setup, TRIES_WHILE_CHANGING)?;
            Counting::Off
        }
        None => Counting::Off,
    };
    change_order(sysroot, plan, setup, counting)?;
    if trial.is_none() {
        let end = |store: &Store| store.change(end_trial);
        stores.iter().try_for_each(end)?;
    }
    Ok(trial)
}

/// A new trial of a deployment that never was good.
fn unproven(stores: &[Store], id: &DeploymentId) -> Result<Option<Trial>> {
    for store in stores {
        let record = store.read()?;
        let mut known = record.trial.into_iter().chain(record.unproven);
        if let Some(trial) = known.find(|trial| trial.deployment == id.to_string()) {
            return Ok(Some(Trial {
                started: Utc::now(),
                boot_id: kernel::boot_id().context("Reading the name of this boot")?,
                ..trial.anew()
            }));
        }
    }
    Ok(None)
}

fn change_order(
    sysroot: &LockedSysroot,
    plan: &RollbackPlan,
    setup: &BootSetup,
    counting: Counting,
) -> Result<()> {
    sysroot.forget_staged()?;
    sysroot.write_boot_order(plan.order())?;
    boot::settle(sysroot.path(), setup, counting)
}

/// Where a rollback is cut short before this, the next boot finds out.
fn end_trial(record: &mut Record) {
    if let Some(trial) = record.withdraw() {
        record.last = Some(Event {
            kind: EventKind::Withdrawn,
            when: Utc::now(),
            image: trial.image,
            check: String::new(),
            reason: "rolled back by hand".into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::samples::deployment;

    fn host(spec: &[(&str, Slot)]) -> Vec<Deployment> {
        let deployments = spec.iter().map(|(name, slot)| deployment(name, *slot));
        deployments.collect()
    }

    fn order(plan: &RollbackPlan) -> Vec<&str> {
        plan.order().iter().map(|id| id.commit.as_str()).collect()
    }

    fn reordered(host: &[Deployment], plan: &RollbackPlan) -> Vec<Deployment> {
        let find = |id: &DeploymentId| host.iter().find(|d| d.id == *id).unwrap().clone();
        plan.order().iter().map(find).collect()
    }

    #[test]
    fn twice_is_as_before() {
        use Slot::{Booted, Other, Rollback};
        for (spec, once) in [
            (&[("b", Booted), ("a", Rollback)][..], vec!["a", "b"]),
            (&[("a", Rollback), ("b", Booted)], vec!["b", "a"]),
            (&[("b", Other), ("a", Rollback)], vec!["a", "b"]),
            (
                &[("b", Other), ("x/y", Other), ("a", Rollback)],
                vec!["a", "b", "y"],
            ),
            (
                &[("c", Booted), ("b", Rollback), ("a", Other)],
                vec!["b", "c", "a"],
            ),
        ] {
            let host = host(spec);
            let plan = plan_rollback(&host, None).unwrap();
            assert_eq!(order(&plan), once);
            let swapped = reordered(&host, &plan);
            let again = plan_rollback(&swapped, None).unwrap();
            let before = host[0].id.clone();
            assert_eq!(again.next(), &before, "{spec:?}");
        }
    }

    #[test]
    fn a_staged_update_is_discarded_first() {
        use Slot::{Booted, Rollback, Staged};
        let host = host(&[("c", Staged), ("b", Booted), ("a", Rollback)]);
        let plan = plan_rollback(&host, None).unwrap();
        assert_eq!(
            plan.to_string(),
            "discard the staged os/c.0; os/b.0 boots next"
        );
        assert_eq!(order(&plan), ["b", "a"]);
        let plan = plan_rollback(&host[1..], None).unwrap();
        assert_eq!(plan.to_string(), "os/a.0 boots next, instead of os/b.0");
    }

    #[test]
    fn there_must_be_something_to_go_back_to() {
        let error = |spec: &[_], name| plan_rollback(&host(spec), name).unwrap_err();
        assert_eq!(error(&[], None), DeployError::NothingDeployed(None));
        let one = [("a", Slot::Booted), ("x/y", Slot::Other)];
        assert_eq!(
            error(&one, None),
            DeployError::NoRollback(Some("os".into()))
        );
        assert_eq!(
            error(&one, Some("z")),
            DeployError::NothingDeployed(Some("z".into()))
        );
        assert_eq!(
            error(&one, Some("z")).to_string(),
            "nothing is deployed in stateroot z"
        );
    }
}
