//! `kargs`: lists the kernel arguments of what boots next, or makes a deployment of the same
//! commit that boots with changed ones. Decides nothing about whose an argument is.

pub mod args;
mod edit;
mod render;

use anyhow::Result;

use self::args::{KargsArgs, KargsCommand, KargsListArgs, ThenArgs};
use super::{Context, Outcome, reboot, verdict};
use crate::boot::kargs::Karg;
use crate::boot::kargs_edit::Edit;
use crate::deploy::{self, Kargs, KargsDecision, KargsWish, cleanup};
use crate::image::{host_arch, normalize_arch};
use crate::sysroot::{Deployment, LockedSysroot, Slot, Sysroot};

/// Lists or changes kernel arguments.
pub fn run(args: &KargsArgs, context: &Context) -> Result<Outcome> {
    let Some(command) = &args.command else {
        return list(&args.list, context);
    };
    match command {
        KargsCommand::List(args) => list(args, context),
        KargsCommand::Append(args) => {
            let edit = match args.if_missing {
                true => Edit::AppendIfMissing,
                false => Edit::Append,
            };
            let edits = args.kargs.iter().map(|text| Ok(edit(Karg::new(text)?)));
            change(edits.collect::<Result<_>>()?, args.then, context)
        }
        KargsCommand::Delete(args) => {
            let edit = match args.if_present {
                true => Edit::DeleteIfPresent,
                false => Edit::Delete,
            };
            change(
                args.kargs.iter().cloned().map(edit).collect(),
                args.then,
                context,
            )
        }
        KargsCommand::Replace(args) => {
            let edits = args.kargs.iter().cloned().map(Edit::Replace);
            change(edits.collect(), args.then, context)
        }
        KargsCommand::Edit(args) => edit::run(args.then, context),
    }
}

fn list(args: &KargsListArgs, context: &Context) -> Result<Outcome> {
    let sysroot = Sysroot::open(&context.sysroot)?;
    let (base, kargs) = current(&sysroot, context)?;
    context.print(&render::list(&base, &kargs, args.format)?)?;
    Ok(Outcome::Done)
}

/// The deployment that boots next with its arguments.
fn current(sysroot: &Sysroot, context: &Context) -> Result<(Deployment, Kargs)> {
    let named = context.stateroot.as_deref();
    deploy::next_kargs(sysroot, named, |base| arch(sysroot, base))
}

/// The architecture of a deployment's image; that of this machine where it is not known.
fn arch(sysroot: &Sysroot, deployment: &Deployment) -> Result<String> {
    let record = sysroot.repo()?.image_of_commit(&deployment.id.commit)?;
    let arch = record.map(|record| record.config.architecture);
    let arch = arch.filter(|arch| !arch.is_empty());
    Ok(arch.map_or_else(host_arch, |arch| normalize_arch(&arch)))
}

fn change(edits: Vec<Edit>, then: ThenArgs, context: &Context) -> Result<Outcome> {
    if then.apply {
        reboot::check(context)?;
    }
    if !then.force {
        verdict::wait(context, true)?;
    }
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    change_locked(&sysroot, edits, then, context)
}

fn change_locked(
    sysroot: &LockedSysroot,
    edits: Vec<Edit>,
    then: ThenArgs,
    context: &Context,
) -> Result<Outcome> {
    let (base, _) = current(sysroot, context)?;
    let wish = KargsWish {
        edits,
        arch: arch(sysroot, &base)?,
    };
    let tree = sysroot.tree_facts(&base.id.commit)?;
    let decision = deploy::plan_kargs(&deploy::snapshot(sysroot)?, &base, &wish, &tree)?;
    let changed = matches!(decision, KargsDecision::Deploy(_));
    if changed && !then.force {
        deploy::check_proven(sysroot)?;
    }
    let next = deploy::set_kargs(sysroot, &decision)?;
    if changed || cleanup::is_pending(sysroot)? {
        cleanup::clean_up(sysroot, false)?;
    }
    context.say(&render::changed(&decision, &next))?;
    // One that an earlier command staged waits for the same reboot.
    if then.apply && (changed || base.slot == Slot::Staged) {
        reboot::reboot(context)?;
    }
    Ok(match then.unchanged_exit_77 && !changed {
        true => Outcome::Unchanged,
        false => Outcome::Done,
    })
}
