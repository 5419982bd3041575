//! `boot`: what the host's units run around a boot. Hidden from the list of commands, as nobody
//! needs them by hand; each one is in the manual. Decides nothing: rooms below do.

mod finalize;
mod mirror;

use anyhow::Result;

use super::args::{BootArgs, BootCommand};
use super::{Context, Outcome};

/// Runs one of them.
pub fn run(args: &BootArgs, context: &Context) -> Result<Outcome> {
    match args.command {
        BootCommand::Finalize => finalize::run(context),
        BootCommand::Mirror => mirror::run(context),
    }
}
