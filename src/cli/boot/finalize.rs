//! `boot finalize`: runs at shutdown before libostree finishes a staged deployment, and puts that
//! deployment on trial. Prints what it did, for the journal.

use anyhow::{Context as _, Result};
use chrono::Utc;

use super::settings;
use crate::agent;
use crate::cli::{Context, Outcome, render_etc};
use crate::deploy;
use crate::health::{Store, Trial};
use crate::repo::Repo;
use crate::sys::kernel;
use crate::sysroot::{Deployment, Sysroot};

/// Puts the staged deployment on trial.
pub fn run(context: &Context) -> Result<Outcome> {
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    let tries = settings(context).health.tries;
    // What somebody discarded since would look like a power cut after the reboot.
    if let Err(error) = sysroot.settle_staged_record() {
        tracing::warn!("{error:#}");
    }
    context.say(&merge(&sysroot))?;
    let repo = sysroot.repo()?;
    let staged = deploy::prepare_trial(&sysroot, tries, |staged| {
        let trial = trial(staged, &repo, tries)?;
        let stores = deploy::record_stores(&sysroot, staged)?;
        let begin = |store: &Store| store.change(|record| record.begin(trial.clone()));
        stores.iter().try_for_each(begin)
    })?;
    context.say(&match staged {
        Some(staged) => format!("{} boots next and gets {tries} tries\n", staged.id),
        None => "Nothing is staged\n".into(),
    })?;
    Ok(Outcome::Done)
}

/// What becomes of `/etc`, as it is now: somebody may have edited it since the update was staged.
/// Not knowing it must not keep the boots from being counted.
fn merge(sysroot: &Sysroot) -> String {
    let outlook = deploy::outlook::of_staged(sysroot);
    let outlook = outlook.unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    });
    outlook
        .as_ref()
        .map(render_etc::at_shutdown)
        .unwrap_or_default()
}

/// What is remembered of it. A commit that no image made has no digest.
fn trial(staged: &Deployment, repo: &Repo, tries: u32) -> Result<Trial> {
    Ok(Trial {
        image: agent::image(staged, repo),
        deployment: staged.id.to_string(),
        tries,
        started: Utc::now(),
        boot_id: kernel::boot_id().context("Reading the name of this boot")?,
        ..Trial::default()
    })
}
