//! `container`: what is asked while an image is built or offered, and making images of ostree commits and
//! commits of images. Arguments come in, what came of it is printed. Decides nothing about images.

pub mod args;
mod args_sign;
mod build_chunked;
mod compare;
mod encapsulate;
mod inspect;
mod making;
mod render;
mod render_compare;
mod scratch;
mod sign;
mod signers;
mod unencapsulate;
mod verify;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::args::{CommitArgs, ContainerArgs, ContainerCommand, LintArgs};
pub(super) use self::render_compare::packages;
use super::args::Format;
use super::{Context, Outcome, UsageError};
use crate::clean;
use crate::lint::{self, Level, Report};

/// Runs what was asked for.
pub fn run(args: &ContainerArgs, context: &Context) -> Result<Outcome> {
    match &args.command {
        ContainerCommand::Lint(args) => lint(args, context),
        ContainerCommand::Encapsulate(args) => encapsulate::run(args, context),
        ContainerCommand::Unencapsulate(args) => unencapsulate::run(args, context),
        ContainerCommand::Commit(args) => commit(args, context),
        ContainerCommand::Verify(args) => verify::run(args, context),
        ContainerCommand::Sign(args) => sign::run(args, context),
        ContainerCommand::GenerateSigstoreKey(args) => sign::generate(args, context),
        ContainerCommand::BuildChunked(args) => build_chunked::run(args, context),
        ContainerCommand::Inspect(args) => inspect::run(args, context),
        ContainerCommand::Compare(args) => compare::run(args, context),
    }
}

fn lint(args: &LintArgs, context: &Context) -> Result<Outcome> {
    if args.list {
        let text = format(args.format, render::list, render::checks().as_slice())?;
        context.print(&text)?;
        return Ok(Outcome::Done);
    }
    if let Some(name) = args.skip.iter().find(|name| lint::find(name).is_none()) {
        let error = UsageError::new(format!("there is no check {name:?}"));
        let hint = "`bowline container lint --list` names them";
        return Err(error.hint(hint).into());
    }
    if !args.rootfs.is_dir() {
        let error = UsageError::new(format!("{} is no directory", args.rootfs.display()));
        let hint = "name the root of the image's file system with --rootfs";
        return Err(error.hint(hint).into());
    }
    let report = lint::run(&args.rootfs, &args.skip, args.no_truncate)?;
    context.print(&format(args.format, render::report, &report)?)?;
    Ok(outcome(&report, args.fatal_warnings))
}

fn commit(args: &CommitArgs, context: &Context) -> Result<Outcome> {
    if clean::is_booted(&args.rootfs)? {
        let error = UsageError::new(format!("{} is a running system", args.rootfs.display()));
        let hint =
            "run this in a Containerfile, or name the root of an image's file system with --rootfs";
        return Err(error.hint(hint).into());
    }
    let done = clean::run(&args.rootfs)?;
    let kept = match done.mounts {
        0 => String::new(),
        1 => "; left 1 mount alone".into(),
        mounts => format!("; left {mounts} mounts alone"),
    };
    context.say(&format!(
        "Removed {} files and directories{kept}\n",
        done.removed
    ))?;
    Ok(Outcome::Done)
}

fn outcome(report: &Report, fatal_warnings: bool) -> Outcome {
    let warnings = fatal_warnings && report.failed(Level::Warning) > 0;
    match warnings || report.failed(Level::Fatal) > 0 {
        true => Outcome::Found,
        false => Outcome::Done,
    }
}

pub(super) fn format<T: Serialize + ?Sized>(
    format: Format,
    human: fn(&T) -> String,
    value: &T,
) -> Result<String> {
    Ok(match format {
        Format::Human => human(value),
        Format::Yaml => serde_yaml_ng::to_string(value).context("Writing YAML")?,
        Format::Json => {
            let text = serde_json::to_string_pretty(value).context("Writing JSON")?;
            format!("{text}\n")
        }
    })
}
