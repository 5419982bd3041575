//! What the walk takes and gives: a request, and how it ended. Plain data.

use std::fmt;
use std::sync::Arc;

use crate::deploy::cleanup::CleanupReport;
use crate::deploy::{DeployPlan, Outlook};
use crate::health::BadImage;
use crate::host;
use crate::image::{Digest, ImageConfig, Manifest, OstreeImageReference};
use crate::progress::ProgressSink;
use crate::pull::{LayerStep, PullPlan};
use crate::repo::{ImageRecord, Transfer};
use crate::sysroot::{CachedUpdate, DeploymentId, Slot};
use crate::transport::SourceOptions;
use crate::trust::Rules;

/// Which image to follow.
#[derive(Debug, Clone)]
pub enum Target {
    /// The one that the user names (`rebase`).
    Image(OstreeImageReference),
    /// The one that the host follows already (`upgrade`).
    Followed,
}

/// What is asked for.
#[derive(Clone)]
pub struct Request {
    /// The image.
    pub target: Target,
    /// The stateroot, where the user names one.
    pub stateroot: Option<String>,
    /// Pull only.
    pub download_only: bool,
    /// Keep every present deployment.
    pub retain: bool,
    /// Take an image that failed its trial on this host all the same, and even while what runs is on
    /// trial.
    pub force: bool,
    /// Take an image that is older than what runs all the same.
    pub allow_downgrade: bool,
    /// The architecture, a GOARCH word.
    pub arch: String,
    /// Layers to fetch at once.
    pub jobs: usize,
    /// How to reach the image.
    pub source: SourceOptions,
    /// By which rules the image is judged.
    pub rules: Rules,
    /// Hears what happens.
    pub progress: Arc<dyn ProgressSink>,
    /// Hears what is about to be deployed.
    pub announce: Arc<dyn Fn(&Ready) + Send + Sync>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("target", &self.target)
            .field("stateroot", &self.stateroot)
            .field("download_only", &self.download_only)
            .field("retain", &self.retain)
            .field("force", &self.force)
            .field("allow_downgrade", &self.allow_downgrade)
            .field("arch", &self.arch)
            .field("jobs", &self.jobs)
            .field("source", &self.source)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// An image, as far as a report tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Where it comes from.
    pub image: OstreeImageReference,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its version label.
    pub version: Option<String>,
    /// When it was made, RFC 3339 in UTC, to the second.
    pub created: Option<String>,
}

/// What a pull fetches, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Layers of the image.
    pub layers: usize,
    /// Layers that are not here.
    pub layers_to_fetch: usize,
    /// Their bytes as they travel, as far as the manifest says.
    pub bytes_to_fetch: u64,
    /// Bytes of the layers that are here.
    pub bytes_present: u64,
    /// Bytes of the others that need not come, since files that are here have them or an interrupted
    /// pull has fetched them.
    pub bytes_reused: u64,
}

/// A deployment that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The image.
    pub summary: Summary,
    /// What was fetched.
    pub cost: Cost,
    /// What it means for the host's own files.
    pub outlook: Option<Outlook>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The image is deployed already.
    Unchanged {
        /// The image.
        summary: Summary,
        /// Where it is deployed.
        deployment: DeploymentId,
        /// What that deployment is.
        slot: Slot,
    },
    /// What there is to have failed its trial on this host, and is left alone.
    KnownBad {
        /// The image.
        summary: Summary,
        /// What is held against it.
        bad: BadImage,
    },
    /// There is something new (`--check`).
    Available {
        /// The image.
        summary: Summary,
        /// What a pull would fetch.
        cost: Cost,
        /// What it would do about each layer.
        layers: Vec<LayerStep>,
        /// What it means for the host's own files, where the image is here already.
        outlook: Option<Outlook>,
        /// What to remember about it, and beside which commit.
        remember: Option<(String, CachedUpdate)>,
    },
    /// The image is in the repository and not deployed (`--download-only`).
    Downloaded {
        /// The image.
        summary: Summary,
        /// What was fetched.
        cost: Cost,
    },
    /// The image boots next.
    Deployed {
        /// The image.
        summary: Summary,
        /// What was fetched.
        cost: Cost,
        /// The new deployment.
        deployment: DeploymentId,
        /// What was done.
        plan: Box<DeployPlan>,
        /// What it means for the host's own files.
        outlook: Option<Outlook>,
        /// What was removed.
        cleanup: CleanupReport,
    },
}

impl Summary {
    /// An image by its manifest and config.
    pub(super) fn of(
        image: &OstreeImageReference,
        digest: Digest,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Self {
        // As the status says it.
        let created = manifest.annotations.get("org.opencontainers.image.created");
        Self {
            image: image.clone(),
            digest,
            version: config.version().map(str::to_owned),
            created: created
                .or(config.created.as_ref())
                .and_then(|time| host::utc(time)),
        }
    }

    /// An image of the repository.
    pub(super) fn of_record(image: &OstreeImageReference, record: &ImageRecord) -> Self {
        let digest = record.manifest_digest;
        Self::of(image, digest, &record.manifest, &record.config)
    }
}

impl Cost {
    /// The cost of an image that is here.
    pub(super) fn none(manifest: &Manifest) -> Self {
        Self {
            layers: manifest.layers.len(),
            bytes_present: manifest.layers.iter().filter_map(|layer| layer.size).sum(),
            ..Self::default()
        }
    }

    /// What carrying out a plan costs.
    pub(super) fn of(plan: &PullPlan) -> Self {
        Self {
            layers: plan.layers.len(),
            layers_to_fetch: plan.layers_to_fetch(),
            bytes_to_fetch: plan.bytes_to_fetch() + plan.bytes_listed(),
            bytes_present: plan.bytes_present(),
            bytes_reused: plan.bytes_reused(),
        }
    }

    /// What it cost in fact, tables of contents and what was fetched in vain included.
    pub(super) fn paid(self, transfer: Option<Transfer>) -> Self {
        match transfer {
            None => self,
            Some(Transfer { fetched, reused }) => Self {
                bytes_to_fetch: fetched,
                bytes_reused: reused.saturating_sub(self.bytes_present),
                ..self
            },
        }
    }
}
