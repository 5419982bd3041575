//! `rollback`: makes the previous deployment boot next, or discards a staged one, and says which
//! of the two it did.

use anyhow::Result;
use chrono::Utc;

use super::args::RollbackArgs;
use super::{Context, Outcome, reboot, render_report};
use crate::deploy::{self, RollbackPlan};
use crate::health::{Event, EventKind};
use crate::host;
use crate::sysroot::{LockedSysroot, Sysroot};

/// Who goes back by hand has judged: what was on trial is so no more. A rollback that is cut short
/// before this is found by the next boot.
fn end_trial(sysroot: &LockedSysroot) -> Result<()> {
    host::store(sysroot).change(|record| {
        if let Some(trial) = record.trial.take() {
            record.last = Some(Event {
                kind: EventKind::Withdrawn,
                when: Utc::now(),
                image: trial.image,
                check: String::new(),
                reason: "rolled back by hand".into(),
            });
        }
    })
}

/// Takes one step back.
pub fn run(args: &RollbackArgs, context: &Context) -> Result<Outcome> {
    if args.apply {
        reboot::check(context)?;
    }
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    let deployments = sysroot.deployments()?;
    let plan = deploy::plan_rollback(&deployments, context.stateroot.as_deref())?;
    deploy::roll_back(&sysroot, &plan)?;
    if let RollbackPlan::Swap { .. } = plan {
        end_trial(&sysroot)?;
    }
    // Only for the words: a commit that cannot be read says nothing.
    let repo = sysroot.repo()?;
    let version = |commit: &str| {
        let record = repo.image_of_commit(commit).ok().flatten();
        record.and_then(|record| record.config.version().map(str::to_owned))
    };
    context.say(&render_report::rollback(&plan, &deployments, version))?;
    if args.apply {
        reboot::reboot(context)?;
    }
    Ok(Outcome::Done)
}
