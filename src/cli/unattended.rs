//! `upgrade --unattended`: what the timer runs. The settings and the machine's conditions are
//! asked first; a run that they forbid ends with a sentence and an exit code of its own. Decides
//! nothing itself: `crate::unattended` does.

use anyhow::{Context as _, Result};

use super::args::{ModeArgs, UpgradeArgs};
use super::upgrade::{self, Wanted};
use super::{Context, Outcome, exit};
use crate::config;
use crate::deploy::DeployError;
use crate::sys::{network, power};
use crate::unattended::{Facts, Plan, Reason, plan};
use crate::upgrade::Target;

/// Updates the host if its settings and conditions allow it now.
pub fn run(args: &UpgradeArgs, context: &Context) -> Result<Outcome> {
    let settings = config::load(&context.sysroot)?.update;
    let facts = Facts {
        metered: network::metered(),
        battery: power::on_battery().context("Looking for the machine's power supplies")?,
    };
    let apply = match plan(&settings, facts) {
        Plan::Skip(reason) => return skip(reason, context),
        Plan::Update { apply } => apply,
    };
    let wanted = Wanted {
        target: Target::Followed,
        mode: ModeArgs {
            apply,
            ..ModeArgs::default()
        },
        retain: false,
        force: false,
        fetch: &args.fetch,
    };
    match upgrade::carry_out(&wanted, context) {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if exit::classify(&error).kind == exit::Kind::Busy => {
            skip(Reason::Busy, context)
        }
        Err(error) if is_on_trial(&error) => skip(Reason::OnTrial, context),
        Err(error) => Err(error),
    }
}

fn is_on_trial(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<DeployError>();
    matches!(cause, Some(DeployError::OnTrial(_)))
}

fn skip(reason: Reason, context: &Context) -> Result<Outcome> {
    context.say(&format!("Not updated: {reason}\n"))?;
    Ok(Outcome::Skipped)
}
