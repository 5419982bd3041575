//! The facts that the machine decides on. A sysroot and settings come in, plain values go out.
//! Reads only, and writes down nothing.

use anyhow::{Context as _, Result};
use chrono::Utc;
use fn_error_context::context;
use thiserror::Error;

use super::machine::{Entry, Facts};
use crate::boot::{self, BootSetup, Bootloader, loader};
use crate::health::{Store, TrialImage};
use crate::repo::Repo;
use crate::sys::kernel;
use crate::sysroot::{Deployment, Slot, Sysroot, booted};

/// The machine did not boot from this sysroot, so there is no boot to judge.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("this machine did not boot from {0}")]
pub struct NotBooted(pub String);

/// Looks at a boot. `tries` is how often a deployment may try of which nothing else is known.
#[context("Looking at this boot")]
pub fn facts(sysroot: &Sysroot, setup: &BootSetup, store: &Store, tries: u32) -> Result<Facts> {
    let all = sysroot.deployments()?;
    let running = booted(&all).ok_or_else(|| NotBooted(sysroot.path().display().to_string()))?;
    let repo = sysroot.repo()?;
    let finished = all.iter().filter(|d| d.slot != Slot::Staged);
    let first = loader::entries(sysroot.path())?.into_iter().next();
    let counter = match first.as_ref().and_then(|(_, entry)| entry.ostree()) {
        Some(ostree) => boot::tries(sysroot.path(), setup, ostree)?,
        None => None,
    };
    Ok(Facts {
        booted: running.id.to_string(),
        order: finished.map(|d| entry(d, &repo)).collect(),
        counting: setup.bootloader != Bootloader::None,
        counts_all: setup.bootloader == Bootloader::Grub,
        counter,
        record: store.read()?,
        boot_id: kernel::boot_id().context("Reading the name of this boot")?,
        tries,
        now: Utc::now(),
    })
}

fn entry(deployment: &Deployment, repo: &Repo) -> Entry {
    Entry {
        id: deployment.id.to_string(),
        image: image(deployment, repo),
    }
}

/// The image of a deployment, as far as it is known: a commit that no image made has no digest.
pub fn image(deployment: &Deployment, repo: &Repo) -> TrialImage {
    let origin = deployment.origin.image().ok().flatten();
    let record = repo.image_of_commit(&deployment.id.commit).ok().flatten();
    let version = record.as_ref().and_then(|r| r.config.version());
    TrialImage {
        image: origin.map(|image| image.to_string()).unwrap_or_default(),
        version: version.map(str::to_owned).unwrap_or_default(),
        digest: record
            .map(|r| r.manifest_digest.to_string())
            .unwrap_or_default(),
    }
}
