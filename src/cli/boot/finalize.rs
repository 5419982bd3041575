//! `boot finalize`: runs at shutdown before libostree finishes a staged deployment, and puts that
//! deployment on trial. Prints what it did, for the journal.

use anyhow::Result;
use chrono::Utc;

use crate::cli::{Context, Outcome, render_etc};
use crate::config::{self, Settings};
use crate::deploy;
use crate::health::{Trial, TrialImage};
use crate::repo::Repo;
use crate::sysroot::{Deployment, Sysroot};

/// Puts the staged deployment on trial.
pub fn run(context: &Context) -> Result<Outcome> {
    let sysroot = Sysroot::open_locked(&context.sysroot)?;
    // Whatever is wrong with the settings, the boots of an update are counted.
    let settings = config::load(&context.sysroot).unwrap_or_else(|error| {
        tracing::warn!("{error:#}; the usual settings count");
        Settings::default()
    });
    let tries = settings.health.tries;
    // What somebody discarded since would look like a power cut after the reboot.
    if let Err(error) = sysroot.settle_staged_record() {
        tracing::warn!("{error:#}");
    }
    context.say(&merge(&sysroot))?;
    let repo = sysroot.repo()?;
    let staged = deploy::prepare_trial(&sysroot, tries, |staged| {
        let trial = trial(staged, &repo, tries);
        deploy::record_store(&sysroot, staged).change(|record| record.trial = Some(trial))
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
fn trial(staged: &Deployment, repo: &Repo, tries: u32) -> Trial {
    let record = repo.image_of_commit(&staged.id.commit).ok().flatten();
    let image = staged.origin.image().ok().flatten();
    let version = record.as_ref().and_then(|record| record.config.version());
    Trial {
        image: TrialImage {
            image: image.map(|image| image.to_string()).unwrap_or_default(),
            version: version.map(str::to_owned).unwrap_or_default(),
            digest: record
                .map(|r| r.manifest_digest.to_string())
                .unwrap_or_default(),
        },
        deployment: staged.id.to_string(),
        tries,
        started: Utc::now(),
        ..Trial::default()
    }
}
