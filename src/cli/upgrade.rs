//! `upgrade`, and what `rebase` shares with it: arguments become a request, the walk of
//! `crate::upgrade` is taken, its report is printed. Decides nothing about images.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::args::{FetchArgs, Format, ModeArgs, UpgradeArgs};
use super::{
    Context, Outcome, reboot, render_not_applied, render_plan, render_report, render_report_json,
    unattended, verdict,
};
use crate::host::{self, NotApplied};
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
    let only_look = wanted.mode.check || wanted.mode.plan;
    let (report, missed) = match only_look {
        true => check(wanted, context)?,
        false => deploy(wanted, context)?,
    };
    let answer = || render_report_json::answer(&report, missed, wanted.mode.plan);
    match wanted.mode.format {
        Format::Human if only_look => {
            context.print(&render_report::report(&report))?;
            context.print(&layers(wanted, &report))?;
        }
        Format::Human => context.say(&render_report::report(&report))?,
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(&answer()).context("Writing YAML")?;
            context.print(&text)?;
        }
        Format::Json => {
            let text = serde_json::to_string_pretty(&answer()).context("Writing JSON")?;
            context.print(&format!("{text}\n"))?;
        }
    }
    if wanted.mode.apply && waits_for_reboot(&report) {
        reboot::reboot(context)?;
    }
    Ok(report)
}

/// What would be done about each layer, where that is wanted.
fn layers(wanted: &Wanted<'_>, report: &Report) -> String {
    match report {
        Report::Available { layers, .. } if wanted.mode.plan => render_plan::human(layers),
        _ => String::new(),
    }
}

/// What came of it, and what an earlier run staged in vain.
type Told = (Report, Option<NotApplied>);

fn deploy(wanted: &Wanted<'_>, context: &Context) -> Result<Told> {
    if !wanted.force && !wanted.mode.download_only {
        verdict::wait(context, wanted.mode.format == Format::Human)?;
    }
    // Before any thread starts: on a booted host this sets up a mount namespace.
    let (sysroot, initialised) = upgrade::open(&context.sysroot, &wanted.target)?;
    let missed = host::not_applied(&sysroot)?;
    if wanted.mode.format == Format::Human {
        if initialised {
            let place = sysroot.path().display();
            context.say(&format!(
                "Made a new sysroot in the empty directory {place}\n"
            ))?;
        }
        context.say(&words(missed.as_ref()))?;
    }
    let request = request(&sysroot, wanted, context)?;
    let report = context.block_on(upgrade::run(&sysroot, &request))?;
    Ok((report, missed))
}

fn check(wanted: &Wanted<'_>, context: &Context) -> Result<Told> {
    let sysroot = Sysroot::open(&context.sysroot)?;
    let missed = host::not_applied(&sysroot)?;
    if wanted.mode.format == Format::Human {
        context.print(&words(missed.as_ref()))?;
    }
    let request = request(&sysroot, wanted, context)?;
    let report = context.block_on(upgrade::check(&sysroot, &request))?;
    // Whoever may not write, or not now, may still ask; only `status` will not know.
    let kept = Sysroot::open_locked(&context.sysroot)
        .and_then(|sysroot| upgrade::record_check(&sysroot, &request, &report));
    if let Err(error) = kept {
        tracing::info!("not remembered for `bowline status`: {error:#}");
    }
    Ok((report, missed))
}

/// A word about an update that was staged and not applied, before the next one is.
fn words(missed: Option<&NotApplied>) -> String {
    missed.map(render_not_applied::lines).unwrap_or_default()
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
        allow_downgrade: wanted.mode.allow_downgrade,
        arch: context.arch(wanted.fetch),
        jobs: usize::try_from(wanted.fetch.jobs)?,
        source: context.source_options(wanted.fetch, progress.clone()),
        rules: context.trust_rules()?,
        progress,
        announce: announcer(wanted.mode.format, context),
    })
}

/// Says what is about to be deployed, above the bars.
fn announcer(format: Format, context: &Context) -> Arc<dyn Fn(&Ready) + Send + Sync> {
    if format != Format::Human {
        // All of it is in the answer.
        return Arc::new(|_| ());
    }
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
