//! The ostree commit in an image, into a repository. A reference comes in, the commit that was encapsulated
//! goes out, detached metadata (signatures) included. Stores no image, and never takes layers that were put
//! on top of a commit.

use std::sync::Arc;

use anyhow::{Context, Result};
use thiserror::Error;

use super::accept::Accepted;
use super::plan::PullPlan;
use super::run::{run_commit, run_flatpak};
use crate::image::{Digest, LayerKind};
use crate::progress::ProgressSink;
use crate::repo::Repo;
use crate::repo::flatpak::FlatpakCommit;
use crate::transport::{ImageSource, fetch_config};

/// An image that is not just an ostree commit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotEncapsulated {
    /// There is no commit in it.
    #[error("image {0} has no ostree commit in it: it lacks the label ostree.final-diffid")]
    NoCommit(String),
    /// There is more than the commit.
    #[error("image {image} has {layers} layers on top of its ostree commit")]
    Layered {
        /// The image.
        image: String,
        /// How many.
        layers: usize,
    },
}

/// How a commit is fetched.
#[derive(Debug, Clone)]
pub struct FetchCommit {
    /// Layers that are fetched at once.
    pub jobs: usize,
    /// A ref that shall point to the commit.
    pub write_ref: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unencapsulated {
    /// The commit.
    pub commit: String,
    /// Digest of the image's manifest.
    pub manifest_digest: Digest,
}

/// Fetches the commit in an image that was accepted.
pub async fn fetch_commit(
    repo: &Repo,
    source: Arc<dyn ImageSource>,
    accepted: &Accepted,
    options: &FetchCommit,
    progress: Arc<dyn ProgressSink>,
) -> Result<Unencapsulated> {
    let (imgref, manifest) = (accepted.imgref(), accepted.manifest().clone());
    let config = fetch_config(&*source, &manifest).await;
    let config = config.with_context(|| format!("Fetching the config of {imgref}"))?;
    let manifest_digest = manifest.digest();
    let flatpak = FlatpakCommit::of(&config.labels)?;
    let plan = PullPlan::new(imgref.clone(), manifest, config, &repo.inventory()?);
    let mut plan = plan.with_context(|| format!("Reading the layers of {imgref}"))?;
    accepted.check_plan(repo, &plan)?;
    plan.remote = accepted.remote().map(str::to_owned);
    let commit = match flatpak {
        Some(wanted) => run_flatpak(repo, source, plan, wanted, options, progress).await?,
        None => {
            require_commit_only(&plan)?;
            run_commit(repo, source, plan, options, progress).await?
        }
    };
    Ok(Unencapsulated {
        commit,
        manifest_digest,
    })
}

fn require_commit_only(plan: &PullPlan) -> Result<(), NotEncapsulated> {
    let image = plan.imgref.to_string();
    let of_kind = |kind| {
        plan.layers
            .iter()
            .filter(move |layer| layer.layer.kind == kind)
    };
    match (
        of_kind(LayerKind::Base).count(),
        of_kind(LayerKind::Derived).count(),
    ) {
        (0, _) => Err(NotEncapsulated::NoCommit(image)),
        (_, 0) => Ok(()),
        (_, layers) => Err(NotEncapsulated::Layered { image, layers }),
    }
}
