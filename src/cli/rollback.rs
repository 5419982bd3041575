//! `rollback`: makes the previous deployment boot next, or discards a staged one, and says which
//! of the two it did.

use anyhow::Result;

use super::args::RollbackArgs;
use super::{Context, Outcome, reboot, render_report};
use crate::deploy;
use crate::sysroot::Sysroot;

/// Takes one step back.
pub fn run(args: &RollbackArgs, context: &Context) -> Result<Outcome> {
    if args.apply {
        reboot::check(context)?;
    }
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    let deployments = sysroot.deployments()?;
    let plan = deploy::plan_rollback(&deployments, context.stateroot.as_deref())?;
    let tries = deploy::roll_back(&sysroot, &plan)?;
    // Only for the words: a commit that cannot be read says nothing.
    let repo = sysroot.repo()?;
    let version = |commit: &str| {
        let record = repo.image_of_commit(commit).ok().flatten();
        record.and_then(|record| record.config.version().map(str::to_owned))
    };
    context.say(&render_report::rollback(&plan, &deployments, version))?;
    if let Some(tries) = tries {
        context.say(&format!("It never was good, and gets {tries} tries\n"))?;
    }
    if args.apply {
        reboot::reboot(context)?;
    }
    Ok(Outcome::Done)
}
