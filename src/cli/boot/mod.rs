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
use crate::boot::esp::EspError;
use crate::config::{self, Settings};
use crate::sysroot::{LockedSysroot, Sysroot, SysrootError};

/// How long the lock of the sysroot, and the ESP, are waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
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
    patiently(PATIENCE, || Sysroot::open_locked(&context.sysroot))
}

/// Tries again for a while what fails for a reason that passes.
fn patiently<T>(patience: Duration, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match work() {
            Err(error) if passes(&error) && begun.elapsed() < patience => thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// Somebody else has the lock, or, early in a boot, udev has not shown the ESP yet.
fn passes(error: &anyhow::Error) -> bool {
    let busy = |e: &SysrootError| matches!(e, SysrootError::Busy(_));
    let late = |e: &EspError| matches!(e, EspError::Gone(_));
    error.downcast_ref().is_some_and(busy) || error.downcast_ref().is_some_and(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_tried_again() {
        let tried = |error: fn() -> anyhow::Error, patience| {
            let mut times = 0;
            let result: Result<()> = patiently(patience, || {
                times += 1;
                if times < 2 { Err(error()) } else { Ok(()) }
            });
            (times, result.is_ok())
        };
        let gone = || anyhow::Error::from(EspError::Gone("x".into())).context("Opening it");
        assert_eq!(tried(gone, PATIENCE), (2, true));
        assert_eq!(tried(gone, Duration::ZERO), (1, false));
        let busy = || SysrootError::Busy("/".into()).into();
        assert_eq!(tried(busy, PATIENCE), (2, true));
        assert_eq!(tried(|| EspError::Unknown.into(), PATIENCE), (1, false));
    }
}
