//! `boot`: what the host's units run around a boot. Hidden from the list of commands, as nobody
//! needs them by hand; each one is in the manual. Decides nothing: rooms below do.

mod finalize;
mod mirror;

use anyhow::Result;

use super::args::{BootArgs, BootCommand};
use super::{Context, Outcome};
use crate::health::Store;
use crate::sysroot::{Deployment, LockedSysroot};

/// Runs one of them.
pub fn run(args: &BootArgs, context: &Context) -> Result<Outcome> {
    match args.command {
        BootCommand::Finalize => finalize::run(context),
        BootCommand::Mirror => mirror::run(context),
    }
}

/// The record of boots: of the running system, else that of the deployment's stateroot.
fn store(sysroot: &LockedSysroot, deployment: &Deployment) -> Store {
    if sysroot.is_booted() {
        return Store::in_var("/var".as_ref());
    }
    let stateroot = sysroot
        .path()
        .join("ostree/deploy")
        .join(&deployment.id.stateroot);
    Store::in_var(&stateroot.join("var"))
}
