//! Waiting for the verdict on this boot, before a command that deploys: somebody may type it while the
//! checks of an update still run. Holds no lock while it waits. Refuses nothing itself.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Context;
use crate::deploy::{self, DeployError};
use crate::sys::command;
use crate::sysroot::Sysroot;

/// How long is waited: as long as the default target is given, and a while for the checks.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// What ends a trial.
const ENDS: &str = "bowline-boot-ok.service";

/// Waits while what runs is on trial and its boot is still being judged. `tell` is whether a person
/// reads what is printed.
pub fn wait(context: &Context, tell: bool) -> Result<()> {
    let begun = Instant::now();
    let mut told = !tell;
    while is_on_trial(context) && is_judged_now() && begun.elapsed() < PATIENCE {
        if !told {
            context.say("Waiting for the checks of this boot (--force does not wait)\n")?;
            told = true;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whatever is wrong with the sysroot is found by the command itself.
fn is_on_trial(context: &Context) -> bool {
    let checked = Sysroot::open(&context.sysroot).and_then(|s| deploy::check_proven(&s));
    let error = checked.err();
    let error = error.as_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(DeployError::OnTrial(_)))
}

/// Whether systemd still has to run what ends a trial.
fn is_judged_now() -> bool {
    let args = ["show", "--property=Job", "--value", ENDS];
    let job = command::ask("systemctl", &args, Duration::from_secs(10));
    job.is_some_and(|job| job.trim().parse().is_ok_and(|job: u32| job > 0))
}
