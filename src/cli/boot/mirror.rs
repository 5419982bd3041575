//! `boot mirror`: runs at shutdown after libostree finished a staged deployment, or by hand after
//! another tool changed the boot order. Brings the bootloader's own files up to date.

use anyhow::Result;

use crate::boot::{self, BootSetup, Bootloader, Counting};
use crate::cli::{Context, Outcome};
use crate::deploy;
use crate::sysroot::Sysroot;

/// Mirrors the boot entries, and counts the boots of what is on trial, only.
pub fn run(context: &Context) -> Result<Outcome> {
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    // Before libostree's own word of a failure goes, early in the next boot.
    if let Err(error) = sysroot.settle_staged_record() {
        tracing::warn!("{error:#}");
    }
    let Some((next, trial)) = deploy::next_boot(&sysroot)? else {
        context.say("Nothing is deployed\n")?;
        return Ok(Outcome::Done);
    };
    // A trial counts from its first boot on; nothing else does, so that what an update left armed
    // that never came to be is disarmed.
    let counting = match trial {
        Some(trial) if trial.reached == 0 => Counting::Fresh(trial.tries),
        Some(trial) => Counting::Keep(trial.tries),
        None => Counting::Off,
    };
    let setup = BootSetup::read(sysroot.path())?;
    boot::settle(sysroot.path(), &setup, counting)?;
    let place = match setup.bootloader {
        Bootloader::SystemdBoot => "The EFI system partition",
        Bootloader::Grub | Bootloader::None => "The bootloader",
    };
    let how = match counting {
        Counting::Keep(_) | Counting::Fresh(_) => ", on trial",
        Counting::Off | Counting::AsIs => "",
    };
    context.say(&format!("{place} boots {} next{how}\n", next.id))?;
    Ok(Outcome::Done)
}
