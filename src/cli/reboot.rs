//! `--apply`: rebooting into what boots next. Refuses before anything is done where the machine
//! did not boot from the sysroot, because the reboot would not lead there.

use anyhow::Result;
use fn_error_context::context;

use super::{Context, UsageError};
use crate::sys::command;
use crate::sysroot::{Sysroot, SysrootError};

/// Refuses `--apply` on a sysroot that this machine did not boot from.
pub fn check(context: &Context) -> Result<()> {
    match Sysroot::open(&context.sysroot) {
        Ok(sysroot) if sysroot.is_booted() => return Ok(()),
        Ok(_) => {}
        Err(error) => match error.downcast_ref() {
            Some(SysrootError::Empty(_)) => {}
            _ => return Err(error),
        },
    }
    let place = context.sysroot.display();
    let message = format!("--apply would reboot this machine, which did not boot from {place}");
    Err(UsageError::new(message).hint("leave --apply out").into())
}

/// Asks systemd to reboot; units that are running end in order, and staged deployments are
/// finished.
#[context("Rebooting")]
pub fn reboot(context: &Context) -> Result<()> {
    context.say("Rebooting\n")?;
    command::run("systemctl", &["reboot"])
}
