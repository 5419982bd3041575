//! `completion SHELL`: prints a script that completes commands and options. Reads nothing.

use anyhow::Result;
use clap::CommandFactory;

use super::args::{Cli, CompletionArgs};
use super::{Context, Outcome, output};

/// Prints the script for one shell.
pub fn run(args: &CompletionArgs, _: &Context) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bowline", &mut script);
    output::print_bytes(&script)?;
    Ok(Outcome::Done)
}
