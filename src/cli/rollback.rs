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
    deploy::roll_back(&sysroot, &plan)?;
    context.say(&render_report::rollback(&plan, &deployments))?;
    if args.apply {
        reboot::reboot(context)?;
    }
    Ok(Outcome::Done)
}
