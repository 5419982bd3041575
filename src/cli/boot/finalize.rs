//! `boot finalize`: runs at shutdown before libostree finishes a staged deployment, and puts that
//! deployment on trial. Prints what it did, for the journal.

use anyhow::Result;
use chrono::Utc;

use crate::cli::{Context, Outcome};
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
