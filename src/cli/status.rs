//! `status`: reads the host's status and prints it for people or for programs. Takes no lock and
//! changes nothing.

use anyhow::{Context as _, Result};

use super::args::{Format, StatusArgs};
use super::{Context, Outcome, render_status};
use crate::host;
use crate::sysroot::Sysroot;

/// Prints the status. That an update was staged and not applied is worth an exit code of its own.
pub fn run(args: &StatusArgs, context: &Context) -> Result<Outcome> {
    let host = host::read(&Sysroot::open(&context.sysroot)?)?;
    let format = if args.json { Format::Json } else { args.format };
    let text = match format {
        Format::Human => render_status::human(&host),
        Format::Yaml => serde_yaml_ng::to_string(&host).context("Writing YAML")?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&host).context("Writing JSON")?;
            format!("{text}\n")
        }
    };
    context.print(&text)?;
    Ok(match host.status.not_applied {
        Some(_) => Outcome::NotApplied,
        None => Outcome::Done,
    })
}
