//! `boot`: what the host's units run around a boot. Hidden from the list of commands, as nobody
//! needs them by hand; each one is in the manual. Decides nothing: rooms below do.

mod check;
mod finalize;
mod mirror;
mod ok;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::{BootArgs, BootCommand};
use super::{Context, Outcome};
use crate::config::{self, Settings};
use crate::sysroot::{LockedSysroot, Sysroot, SysrootError};

/// How long the lock of the sysroot is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs one of them.
pub fn run(args: &BootArgs, context: &Context) -> Result<Outcome> {
    match args.command {
        BootCommand::Finalize => finalize::run(context),
        BootCommand::Mirror => mirror::run(context),
        BootCommand::Check => check::run(context),
        BootCommand::Ok => ok::run(context),
    }
}

/// The settings; whatever is wrong with them, boots are counted and judged.
fn settings(context: &Context) -> Settings {
    config::load(&context.sysroot).unwrap_or_else(|error| {
        tracing::warn!("{error:#}; the usual settings count");
        Settings::default()
    })
}

/// Opens the sysroot for writing. Another operation may be at it just now: that is waited for.
fn locked(context: &Context) -> Result<LockedSysroot> {
    let begun = Instant::now();
    loop {
        match Sysroot::open_locked(&context.sysroot) {
            Err(error) if is_busy(&error) && begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            other => return other,
        }
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SysrootError::Busy(_)))
}
