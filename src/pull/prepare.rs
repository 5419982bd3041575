//! From an accepted image to a plan, at no further cost when nothing is new. A source and a repository
//! come in; either "nothing to do" or a plan goes out. Writes nothing into the
//! repository but the index of its content.

use std::sync::Arc;

use anyhow::{Context, Result};
use thiserror::Error;

use super::accept::Accepted;
use super::chunked;
use super::plan::{PlannedLayer, PullPlan};
use crate::image::{Chunked, ImageConfig, ImageReference, LayerKind, Manifest};
use crate::progress::ProgressSink;
use crate::repo::layer::path_rules;
use crate::repo::{ImageRecord, Repo};
use crate::sys::amount::bytes;
use crate::transport::{ImageSource, fetch_config};

/// What a pull is asked to be.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The architecture to choose and to insist on, a GOARCH word.
    pub arch: String,
    /// Refuse images that do not say that they boot.
    pub require_bootable: bool,
}

/// An image that this host cannot use. Nothing has been fetched but manifest and config.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unsuitable {
    /// For another machine.
    #[error("image {image} is for {found}, but {wanted} is needed")]
    Architecture {
        /// The image.
        image: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Too large for the disk, even if it did not grow when unpacked.
    #[error(
        "image {image} needs at least {} more in the repository, but only {} are free beside the \
         {} that its min-free-space keeps",
        bytes(*.needed),
        bytes(*.available),
        bytes(*.kept)
    )]
    Space {
        /// The image.
        image: String,
        /// Compressed bytes that are missing.
        needed: u64,
        /// Free bytes that may be used.
        available: u64,
        /// Bytes that the repository keeps free.
        kept: u64,
    },
    /// Not an operating system.
    #[error(
        "image {image} does not say that it boots: it has neither the label containers.bootc nor ostree.bootable"
    )]
    NotBootable {
        /// The image.
        image: String,
    },
}

/// What there is to do.
#[derive(Debug)]
pub enum Prepared {
    /// The repository has what the reference means now.
    Unchanged(Box<ImageRecord>),
    /// There is something to pull.
    Ready(Box<PullPlan>),
}

/// Finds out what is missing of an image that was accepted, and plans the pull.
pub async fn prepare(
    repo: &Repo,
    source: &dyn ImageSource,
    accepted: &Accepted,
    options: &PullOptions,
) -> Result<Prepared> {
    let (imgref, manifest) = (accepted.imgref(), accepted.manifest().clone());
    let previous = repo.image(imgref)?;
    // What `ostree fsck --delete` has taken something from is to be pulled again.
    let whole = previous
        .as_ref()
        .map(|p| repo.has_complete_commit(&p.commit));
    let here = previous
        .as_ref()
        .filter(|_| matches!(whole, Some(Ok(true))));
    if let Some(image) = here.filter(|p| p.manifest_digest == manifest.digest()) {
        // It may have been pulled for another architecture, or without a look at whether it boots.
        check(imgref, &image.config, options)?;
        accepted.vouched(repo, image)?;
        return Ok(Prepared::Unchanged(Box::new(image.clone())));
    }
    let config = fetch_config(source, &manifest).await;
    let config = config.with_context(|| format!("Fetching the config of {imgref}"))?;
    check(imgref, &config, options)?;
    // The image ID: a manifest that only differs in compression is the same image. A signature is of
    // one manifest, and so is a digest that is asked for; that is then the one to store.
    let same_id = |p: &&ImageRecord| {
        p.manifest.config.digest == manifest.config.digest && !accepted.is_exact()
    };
    if let Some(image) = here.filter(same_id) {
        return Ok(Prepared::Unchanged(Box::new(image.clone())));
    }
    let inventory = repo.inventory()?;
    let plan = PullPlan::new(imgref.clone(), manifest, config, &inventory);
    let mut plan = plan.with_context(|| format!("Reading the layers of {imgref}"))?;
    if !filters(repo, &plan)? {
        plan.refetch_filtered(&inventory);
    }
    accepted.check_plan(repo, &plan)?;
    plan.remote = accepted.remote().map(str::to_owned);
    // Of layers with a table of contents little may be missing.
    let listed = plan.missing().filter(|layer| Chunked::of(layer).is_some());
    let listed: u64 = listed.filter_map(|layer| layer.descriptor.size).sum();
    check_space(repo, &plan, plan.bytes_to_fetch() - listed)?;
    Ok(Prepared::Ready(Box::new(plan)))
}

/// Finds out what of the missing layers is here all the same, in files or kept by interrupted pulls,
/// for a plan that has been accepted.
/// Fetches the tables of contents of layers that have them; what it learns goes into the plan.
pub async fn compare(
    repo: &Repo,
    source: &dyn ImageSource,
    plan: &mut PullPlan,
    progress: &Arc<dyn ProgressSink>,
) -> Result<()> {
    chunked::plan(repo, source, plan, progress).await;
    if let Ok(kept) = repo.found_blobs() {
        plan.count_on_kept(|piece| kept.length(piece));
    }
    check_space(repo, plan, plan.bytes_to_fetch())
}

fn check_space(repo: &Repo, plan: &PullPlan, needed: u64) -> Result<()> {
    let available = repo.available_bytes()?;
    if needed <= available {
        return Ok(());
    }
    let image = plan.imgref.to_string();
    Err(Unsuitable::Space {
        image,
        needed,
        available,
        kept: repo.reserve()?,
    }
    .into())
}

/// Whether the image's base is here and allows no top-level names but those of ostree hosts.
fn filters(repo: &Repo, plan: &PullPlan) -> Result<bool> {
    let base = plan.layers.first();
    let base = base.filter(|l| l.layer.kind == LayerKind::Base);
    match base.and_then(PlannedLayer::commit) {
        Some(commit) if repo.has_complete_commit(commit)? => {
            Ok(!path_rules(repo, Some(commit))?.allow_nonusr)
        }
        _ => Ok(false),
    }
}

fn check(
    imgref: &ImageReference,
    config: &ImageConfig,
    options: &PullOptions,
) -> Result<(), Unsuitable> {
    let image = imgref.to_string();
    check_arch(config, &image, &options.arch)?;
    match options.require_bootable && !config.is_bootable() {
        true => Err(Unsuitable::NotBootable { image }),
        false => Ok(()),
    }
}

fn check_arch(config: &ImageConfig, image: &str, arch: &str) -> Result<(), Unsuitable> {
    match config.is_for(arch) {
        true => Ok(()),
        false => Err(Unsuitable::Architecture {
            image: image.into(),
            found: format!("{}/{}", config.os, config.architecture),
            wanted: format!("linux/{arch}"),
        }),
    }
}

/// Fails unless the image of `manifest` is for the architecture that a user asked for: a manifest that
/// is chosen from no index may be for any.
pub async fn insist_on_arch(
    source: &dyn ImageSource,
    manifest: &Manifest,
    image: &str,
    arch: &str,
) -> Result<()> {
    let config = fetch_config(source, manifest).await?;
    Ok(check_arch(&config, image, arch)?)
}
