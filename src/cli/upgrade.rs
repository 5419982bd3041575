//! `upgrade`, and what `rebase` shares with it: arguments become a request, the walk of
//! `crate::upgrade` is taken, its report is printed. Decides nothing about images.

use std::sync::Arc;

use anyhow::Result;

use super::args::{FetchArgs, ModeArgs, UpgradeArgs};
use super::{Context, Outcome, reboot, render_not_applied, render_report, unattended};
use crate::host;
use crate::progress::ProgressSink;
use crate::sysroot::{Slot, Sysroot};
use crate::upgrade::{self, Ready, Report, Request, Target};

/// A request as typed.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The image.
    pub target: Target,
    /// How far to go.
    pub mode: ModeArgs,
    /// Keep every deployment.
    pub retain: bool,
    /// Take an image that failed before.
    pub force: bool,
    /// How to fetch.
    pub fetch: &'a FetchArgs,
}

/// Brings the host up to date with the image that it follows.
pub fn run(args: &UpgradeArgs, context: &Context) -> Result<Outcome> {
    if args.unattended {
        return unattended::run(args, context);
    }
    let wanted = Wanted {
        target: Target::Followed,
        mode: args.mode,
        retain: false,
        force: args.force,
        fetch: &args.fetch,
    };
    let report = carry_out(&wanted, context)?;
    let unchanged = matches!(report, Report::Unchanged { .. } | Report::KnownBad { .. });
    Ok(match unchanged && args.unchanged_exit_77 {
        true => Outcome::Unchanged,
        false => Outcome::Done,
    })
}

/// Does what is wanted and prints what came of it.
pub fn carry_out(wanted: &Wanted<'_>, context: &Context) -> Result<Report> {
    if wanted.mode.apply {
        reboot::check(context)?;
    }
    let report = match wanted.mode.check {
        true => check(wanted, context)?,
        false => deploy(wanted, context)?,
    };
    let text = render_report::report(&report);
    match wanted.mode.check {
        true => context.print(&text)?,
        false => context.say(&text)?,
    }
    if wanted.mode.apply && waits_for_reboot(&report) {
        reboot::reboot(context)?;
    }
    Ok(report)
}

fn deploy(wanted: &Wanted<'_>, context: &Context) -> Result<Report> {
    // Before any thread starts: on a booted host this sets up a mount namespace.
    let (sysroot, initialised) = upgrade::open(&context.sysroot, &wanted.target)?;
    if initialised {
        let place = sysroot.path().display();
        context.say(&format!(
            "Made a new sysroot in the empty directory {place}\n"
        ))?;
    }
    context.say(&missed(&sysroot)?)?;
    let request = request(&sysroot, wanted, context)?;
    context.block_on(upgrade::run(&sysroot, &request))
}

fn check(wanted: &Wanted<'_>, context: &Context) -> Result<Report> {
    let sysroot = Sysroot::open(&context.sysroot)?;
    context.print(&missed(&sysroot)?)?;
    let request = request(&sysroot, wanted, context)?;
    let report = context.block_on(upgrade::check(&sysroot, &request))?;
    // Whoever may not write, or not now, may still ask; only `status` will not know.
    let kept = Sysroot::open_locked(&context.sysroot)
        .and_then(|sysroot| upgrade::record_check(&sysroot, &request, &report));
    if let Err(error) = kept {
        tracing::info!("not remembered for `bowline status`: {error:#}");
    }
    Ok(report)
}

/// A word about an update that was staged and not applied, before the next one is.
fn missed(sysroot: &Sysroot) -> Result<String> {
    let missed = host::not_applied(sysroot)?;
    let lines = missed.as_ref().map(render_not_applied::lines);
    Ok(lines.unwrap_or_default())
}

fn request(sysroot: &Sysroot, wanted: &Wanted<'_>, context: &Context) -> Result<Request> {
    let named = context.stateroot.as_deref();
    let image = upgrade::image(sysroot, &wanted.target, named)?;
    let progress: Arc<dyn ProgressSink> = context.progress(&image.imgref.to_string())?;
    Ok(Request {
        target: wanted.target.clone(),
        stateroot: context.stateroot.clone(),
        download_only: wanted.mode.download_only,
        retain: wanted.retain,
        force: wanted.force,
        arch: context.arch(wanted.fetch),
        jobs: usize::try_from(wanted.fetch.jobs)?,
        source: context.source_options(wanted.fetch, progress.clone()),
        policy: context.policy_paths(),
        progress,
        announce: announcer(context),
    })
}

/// Says what is about to be deployed, above the bars.
fn announcer(context: &Context) -> Arc<dyn Fn(&Ready) + Send + Sync> {
    let say = context.speaker();
    Arc::new(move |ready| {
        // A reader who went away is noticed at the end.
        if let Err(error) = say(&render_report::ready(ready)) {
            tracing::debug!("{error:#}");
        }
    })
}

/// Something new was deployed, or was staged by an earlier run and still waits.
fn waits_for_reboot(report: &Report) -> bool {
    match report {
        Report::Deployed { .. } => true,
        Report::Unchanged { slot, .. } => *slot == Slot::Staged,
        Report::Available { .. } | Report::Downloaded { .. } | Report::KnownBad { .. } => false,
    }
}
