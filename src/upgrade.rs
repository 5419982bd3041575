//! The walk on one page: from the image that a host should follow to the deployment that boots
//! next. A locked sysroot and a request come in; a report goes out. `rebase` and `upgrade` differ
//! only in where the reference comes from.
//!
//! ```text
//! read host -> open source -> resolve -> policy -> plan the pull -> pull -> plan the deployment
//!           -> deploy or stage -> clean up
//! ```
//!
//! Interrupted anywhere, the host boots what it did or the new deployment, and the same request
//! goes on with the layers that are here already.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use thiserror::Error;

use crate::deploy::cleanup;
use crate::deploy::{self, Decision, DeployError, DeployPlan, Outlook, Wish};
use crate::health::BadImage;
use crate::host;
use crate::image::{Digest, ImageConfig, Manifest, OstreeImageReference};
use crate::progress::{Event, Phase};
use crate::pull::{self, Accepted, Prepared, PullOptions, Unsuitable};
use crate::repo::{ImageRecord, Repo};
use crate::sysroot::{
    self, CachedUpdate, Deployment, Fate, LockedSysroot, Slot, Sysroot, SysrootError,
};
use crate::transport::{self, ImageSource};

mod age;
mod report;

/// An image that the user names failed its trial on this host.
#[derive(Debug, Error)]
#[error("the image {} failed its trial on this host at {}: {}",
    .0.image.digest, .0.when.format("%Y-%m-%d %H:%M:%S UTC"), .0.reason)]
pub struct KnownBad(pub Box<BadImage>);

pub use age::Downgrade;
pub use report::{Cost, Ready, Report, Request, Summary, Target};

/// Opens and locks the sysroot; for `rebase`, makes an empty directory one and says so (true).
///
/// Call it before any thread starts, see [`Sysroot::open_locked`].
pub fn open(path: &Path, target: &Target) -> Result<(LockedSysroot, bool)> {
    let error = match Sysroot::open_locked(path) {
        Ok(sysroot) => return Ok((sysroot, false)),
        Err(error) => error,
    };
    let empty = matches!(error.downcast_ref(), Some(SysrootError::Empty(_)));
    if !empty || !matches!(target, Target::Image(_)) {
        return Err(error);
    }
    sysroot::initialize(path)?;
    Ok((Sysroot::open_locked(path)?, true))
}

/// Pulls the image and makes it what boots next, or only pulls it.
pub async fn run(sysroot: &LockedSysroot, request: &Request) -> Result<Report> {
    let progress = request.progress.clone();
    let report = walk(sysroot, request).await;
    progress.event(Event::Finished);
    report
}

async fn walk(sysroot: &LockedSysroot, request: &Request) -> Result<Report> {
    let repo = sysroot.repo()?;
    sysroot.settle_staged_record()?;
    let image = image(sysroot, &request.target, request.stateroot.as_deref())?;
    if !request.download_only {
        deploy::preflight(&sysroot.deployments()?, request.stateroot.as_deref())?;
    }
    let prepared = prepare(&repo, &image, request).await?;
    let before = repo.image(&image.imgref)?;
    let (record, cost) = match prepared.state {
        Prepared::Unchanged(record) => {
            check_arch(&image, &record, request)?;
            let cost = Cost::none(&record.manifest);
            (*record, cost)
        }
        Prepared::Ready(mut plan) => {
            if let Some(bad) = known_bad(sysroot, request, plan.manifest.digest())? {
                let digest = plan.manifest.digest();
                let summary = Summary::of(&image, digest, &plan.manifest, &plan.config);
                return Ok(Report::KnownBad { summary, bad });
            }
            if !request.download_only {
                age::check(sysroot, request, &image, &plan.manifest, &plan.config)?;
                check_proven(sysroot, request)?;
            }
            pull::compare(&repo, &*prepared.source, &mut plan, &request.progress).await?;
            let cost = Cost::of(&plan);
            let (jobs, progress) = (request.jobs, request.progress.clone());
            let record = pull::run(&repo, prepared.source, *plan, jobs, progress).await?;
            let cost = cost.paid(repo.transfer(&record.commit)?);
            (record, cost)
        }
    };
    let vouched = prepared.accepted.note(&repo, &record)?;
    let summary = Summary::of_record(&image, &record);
    if request.download_only {
        return Ok(Report::Downloaded { summary, cost });
    }
    let decision = decide(sysroot, request, &image, &record);
    match decision {
        Ok(Decision::Nothing(deployment, slot)) => {
            finish_interrupted(sysroot, request)?;
            forget_update(sysroot, request)?;
            forget_missed(sysroot, &image)?;
            Ok(Report::Unchanged {
                summary,
                deployment,
                slot,
            })
        }
        Ok(Decision::Deploy(mut plan)) => match known_bad(sysroot, request, summary.digest)? {
            Some(bad) => Ok(Report::KnownBad { summary, bad }),
            None => {
                age::check(sysroot, request, &image, &record.manifest, &record.config)?;
                check_proven(sysroot, request)?;
                prepared.accepted.require_sound(&repo, &record)?;
                plan.origin.set_vouched(&vouched);
                deploy(sysroot, request, summary, cost, plan)
            }
        },
        Err(error) => {
            // Of any other refusal (no room) the image is worth keeping: it is pulled already.
            let useless = matches!(error.downcast_ref(), Some(DeployError::NoKernel));
            if useless && before.is_none() {
                discard(&repo, &image, request)?;
            }
            Err(error)
        }
    }
}

/// Asks what an update would bring. Fetches manifest and config, changes nothing.
pub async fn check(sysroot: &Sysroot, request: &Request) -> Result<Report> {
    let report = look(sysroot, request).await;
    request.progress.event(Event::Finished);
    report
}

async fn look(sysroot: &Sysroot, request: &Request) -> Result<Report> {
    let repo = sysroot.repo()?;
    let image = image(sysroot, &request.target, request.stateroot.as_deref())?;
    let deployments = sysroot.deployments()?;
    let prepared = prepare(&repo, &image, request).await?;
    match prepared.state {
        Prepared::Unchanged(record) => {
            check_arch(&image, &record, request)?;
            let summary = Summary::of_record(&image, &record);
            match decide(sysroot, request, &image, &record)? {
                Decision::Nothing(deployment, slot) => Ok(Report::Unchanged {
                    summary,
                    deployment,
                    slot,
                }),
                Decision::Deploy(plan) => {
                    if let Some(bad) = known_bad(sysroot, request, summary.digest)? {
                        return Ok(Report::KnownBad { summary, bad });
                    }
                    age::check(sysroot, request, &image, &record.manifest, &record.config)?;
                    let cost = Cost::none(&record.manifest);
                    let digest = record.manifest_digest;
                    let update = update(digest, &record.manifest, &record.config);
                    let remember = remember(&deployments, request, update);
                    Ok(Report::Available {
                        summary,
                        cost,
                        layers: pull::steps_of_stored(&record),
                        outlook: look_ahead(sysroot, &plan),
                        remember,
                    })
                }
            }
        }
        Prepared::Ready(mut plan) => {
            let digest = plan.manifest.digest();
            let summary = Summary::of(&image, digest, &plan.manifest, &plan.config);
            if let Some(bad) = known_bad(sysroot, request, digest)? {
                return Ok(Report::KnownBad { summary, bad });
            }
            age::check(sysroot, request, &image, &plan.manifest, &plan.config)?;
            pull::compare(&repo, &*prepared.source, &mut plan, &request.progress).await?;
            let update = update(digest, &plan.manifest, &plan.config);
            Ok(Report::Available {
                summary,
                cost: Cost::of(&plan),
                layers: plan.steps(),
                outlook: None,
                remember: remember(&deployments, request, update),
            })
        }
    }
}

/// What is held against an image that would be installed. Who names the image gets an error, who
/// follows it an answer: the tag will move.
fn known_bad(sysroot: &Sysroot, request: &Request, digest: Digest) -> Result<Option<BadImage>> {
    if request.force {
        return Ok(None);
    }
    let record = host::store(sysroot).read()?;
    match (record.bad(&digest.to_string()).cloned(), &request.target) {
        (Some(bad), Target::Image(_)) => Err(KnownBad(Box::new(bad)).into()),
        (bad, _) => Ok(bad),
    }
}

fn check_proven(sysroot: &LockedSysroot, request: &Request) -> Result<()> {
    match request.force {
        true => Ok(()),
        false => deploy::check_proven(sysroot),
    }
}

/// Whoever may not read all of `/etc` gets the rest of the answer.
fn look_ahead(sysroot: &Sysroot, plan: &DeployPlan) -> Option<Outlook> {
    deploy::outlook(sysroot, plan).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    })
}

/// Keeps what a check found, for `status`: the update that is available, or that there is none.
pub fn record_check(sysroot: &LockedSysroot, request: &Request, report: &Report) -> Result<()> {
    match report {
        Report::Available {
            remember: Some((commit, update)),
            ..
        } => sysroot.set_cached_update(commit, Some(update)),
        Report::Unchanged { .. } | Report::KnownBad { .. } => forget_update(sysroot, request),
        _ => Ok(()),
    }
}

/// The image that a request is about. `stateroot` is the one that the user named.
pub fn image(
    sysroot: &Sysroot,
    target: &Target,
    stateroot: Option<&str>,
) -> Result<OstreeImageReference> {
    Ok(match target {
        Target::Image(image) => image.clone(),
        Target::Followed => deploy::followed(&sysroot.deployments()?, stateroot)?.1,
    })
}

struct Resolved {
    source: Arc<dyn ImageSource>,
    accepted: Accepted,
    state: Prepared,
}

/// Resolves the image, asks the signature policy, and insists that this host can use it.
async fn prepare(repo: &Repo, image: &OstreeImageReference, request: &Request) -> Result<Resolved> {
    request.progress.event(Event::Phase(Phase::Resolve));
    let source = transport::open(&image.imgref, &request.source).await;
    let source = source.with_context(|| format!("Opening {}", image.imgref))?;
    let options = PullOptions {
        arch: request.arch.clone(),
        require_bootable: true,
    };
    let accepted = pull::accept(&*source, image, &request.arch, &request.rules).await?;
    let state = pull::prepare(repo, &*source, &accepted, &options).await?;
    Ok(Resolved {
        source: Arc::from(source),
        accepted,
        state,
    })
}

fn check_arch(
    image: &OstreeImageReference,
    record: &ImageRecord,
    request: &Request,
) -> Result<(), Unsuitable> {
    // Importers of old did not keep the config; such an image has no word for this.
    let found = &record.config.architecture;
    if found.is_empty() || *found == request.arch {
        return Ok(());
    }
    Err(Unsuitable::Architecture {
        image: image.imgref.to_string(),
        found: format!("linux/{found}"),
        wanted: format!("linux/{}", request.arch),
    })
}

#[context("Planning the deployment of {}", image.imgref)]
fn decide(
    sysroot: &Sysroot,
    request: &Request,
    image: &OstreeImageReference,
    record: &ImageRecord,
) -> Result<Decision> {
    let wish = Wish {
        image: image.clone(),
        commit: record.commit.clone(),
        stateroot: request.stateroot.clone(),
        retain: request.retain,
        explicit: matches!(request.target, Target::Image(_)),
        arch: request.arch.clone(),
        kargs: Vec::new(),
    };
    if let Some(there) = deploy::already_there(&sysroot.deployments()?, &wish)? {
        return Ok(Decision::Nothing(there.id.clone(), there.slot));
    }
    let tree = sysroot.tree_facts(&record.commit)?;
    Ok(deploy::plan(&deploy::snapshot(sysroot)?, &wish, &tree)?)
}

fn deploy(
    sysroot: &LockedSysroot,
    request: &Request,
    summary: Summary,
    cost: Cost,
    plan: Box<DeployPlan>,
) -> Result<Report> {
    tracing::debug!("{plan}");
    let outlook = deploy::outlook(sysroot, &plan)?;
    outlook.iter().try_for_each(Outlook::refuse_conflicts)?;
    let ready = Ready {
        summary,
        cost,
        outlook,
    };
    (request.announce)(&ready);
    request.progress.event(Event::Phase(Phase::Deploy));
    let deployment = deploy::carry_out(sysroot, &plan)?;
    if let Some(before) = &plan.merge_from {
        sysroot.set_cached_update(&before.commit, None)?;
    }
    request.progress.event(Event::Phase(Phase::Prune));
    let cleanup = cleanup::clean_up(sysroot, request.retain)?;
    Ok(Report::Deployed {
        summary: ready.summary,
        cost: ready.cost,
        deployment,
        plan,
        outlook: ready.outlook,
        cleanup,
    })
}

/// What an earlier run could not clean up any more is cleaned up now.
fn finish_interrupted(sysroot: &LockedSysroot, request: &Request) -> Result<()> {
    if cleanup::is_pending(sysroot)? {
        request.progress.event(Event::Phase(Phase::Prune));
        cleanup::clean_up(sysroot, request.retain)?;
    }
    Ok(())
}

/// A refused image that was not here before leaves nothing behind.
fn discard(repo: &Repo, image: &OstreeImageReference, request: &Request) -> Result<()> {
    request.progress.event(Event::Phase(Phase::Prune));
    repo.remove_image(&image.imgref)?;
    repo.prune()?;
    Ok(())
}

/// The deployment beside whose commit updates are remembered: the one that runs, or boots next.
fn remembering<'a>(all: &'a [Deployment], request: &Request) -> Option<&'a Deployment> {
    let booted = all.iter().find(|d| d.slot == Slot::Booted);
    let named = |d: &&Deployment| {
        request
            .stateroot
            .as_ref()
            .is_none_or(|s| *s == d.id.stateroot)
    };
    booted.filter(named).or_else(|| all.iter().find(named))
}

fn remember(
    all: &[Deployment],
    request: &Request,
    update: CachedUpdate,
) -> Option<(String, CachedUpdate)> {
    let beside = remembering(all, request)?;
    // What a rebase would bring is no update of what the host follows.
    let followed = match &request.target {
        Target::Followed => true,
        Target::Image(image) => beside
            .origin
            .image()
            .is_ok_and(|i| i.as_ref() == Some(image)),
    };
    followed.then(|| (beside.id.commit.clone(), update))
}

fn forget_update(sysroot: &LockedSysroot, request: &Request) -> Result<()> {
    match remembering(&sysroot.deployments()?, request) {
        Some(beside) => sysroot.set_cached_update(&beside.id.commit, None),
        None => Ok(()),
    }
}

/// What was staged of this image and never booted is out of date: the image runs as it is now.
fn forget_missed(sysroot: &LockedSysroot, image: &OstreeImageReference) -> Result<()> {
    match sysroot.staged_record()? {
        Some((record, Fate::Missed { .. })) if record.image == Some(image.to_string()) => {
            sysroot.forget_staged()
        }
        _ => Ok(()),
    }
}

fn update(digest: Digest, manifest: &Manifest, config: &ImageConfig) -> CachedUpdate {
    CachedUpdate {
        manifest_digest: digest.to_string(),
        manifest: manifest.to_oci_json(),
        config: String::from_utf8_lossy(config.raw()).into_owned(),
    }
}
