//! Kernel arguments for people and for programs. Values come in, text goes out. Never prints.

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::boot::kargs::Karg;
use crate::cli::args::Format;
use crate::cli::{render_report, text};
use crate::deploy::{Kargs, KargsDecision, Method, Owner};
use crate::sysroot::{Deployment, DeploymentId, Slot};

/// What programs get; keys are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    stateroot: &'a str,
    checksum: &'a str,
    deploy_serial: u32,
    booted: bool,
    staged: bool,
    /// All arguments as one line, as the bootloader passes them on.
    options: String,
    kargs: Vec<Line<'a>>,
    /// What the image asks for and somebody removed here.
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    argument: &'a str,
    key: &'a str,
    value: Option<&'a str>,
    /// `image`, `local` or `both`.
    owner: &'static str,
}

/// The arguments of a deployment.
pub fn list(base: &Deployment, kargs: &Kargs, format: Format) -> Result<String> {
    let listing = listing(base, kargs);
    match format {
        Format::Human => Ok(human(base, kargs)),
        Format::Yaml => serde_yaml_ng::to_string(&listing).context("Writing YAML"),
        Format::Json => {
            let text = serde_json::to_string_pretty(&listing).context("Writing JSON")?;
            Ok(format!("{text}\n"))
        }
    }
}

fn listing<'a>(base: &'a Deployment, kargs: &'a Kargs) -> Listing<'a> {
    let line = |arg: &'a Karg| Line {
        argument: arg.as_str(),
        key: arg.key(),
        value: arg.value(),
        owner: match kargs.owner(arg) {
            Owner::Image => "image",
            Owner::Local => "local",
            Owner::Both => "both",
        },
    };
    Listing {
        stateroot: &base.id.stateroot,
        checksum: &base.id.commit,
        deploy_serial: base.id.serial,
        booted: base.slot == Slot::Booted,
        staged: base.slot == Slot::Staged,
        options: kargs.args.to_string(),
        kargs: kargs.args.iter().map(line).collect(),
        left_out: kargs.left_out().to_words(),
    }
}

fn human(base: &Deployment, kargs: &Kargs) -> String {
    let state = match base.slot {
        Slot::Booted => "which runs",
        Slot::Staged => "which is staged",
        Slot::Rollback | Slot::Other => "which boots next",
    };
    let owner = |arg: &Karg| match kargs.owner(arg) {
        Owner::Image => "image",
        Owner::Local => "this machine",
        Owner::Both => "image and this machine",
    };
    let row = |arg: &Karg| vec![text::clean(&format!("{arg}")), owner(arg).to_owned()];
    let rows: Vec<_> = kargs.args.iter().map(row).collect();
    let mut lines = format!(
        "Kernel arguments of {}, {state}\n",
        render_report::name(&base.id)
    );
    lines += &text::table(&["ARGUMENT", "WANTED BY"], &rows);
    let left_out = kargs.left_out();
    if !left_out.is_empty() {
        lines += &format!("Asked for by the image, but removed here: {left_out}\n");
    }
    lines
}

/// What a change did.
pub fn changed(decision: &KargsDecision, next: &DeploymentId) -> String {
    let name = render_report::name(next);
    match decision {
        KargsDecision::Nothing(_) => format!("Nothing to do: {name} has these arguments\n"),
        KargsDecision::Record(..) => format!(
            "{name} has these arguments; they stay now even if the image no longer asks for them\n"
        ),
        KargsDecision::Deploy(plan) => {
            let changes = text::changes(&plan.kargs_before, &plan.kargs);
            let lines: String = changes.iter().map(|line| format!("{line}\n")).collect();
            let end = match plan.method {
                Method::Stage => format!("Staged {name}: it boots at the next restart\n"),
                Method::Finish => format!("Deployed {name}: it boots next\n"),
            };
            lines + &end
        }
    }
}
