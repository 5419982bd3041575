//! One layer from its source to staged objects: in parts where that was planned, else whole. A layer
//! that cannot be put together of parts is fetched whole, with a warning that says why.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

use super::chunked::{Parts, WrongObject};
use super::import::is_store;
use super::resume::How;
use super::stream::Cancel;
use crate::image::Layer;
use crate::progress::{Event, ProgressSink};
use crate::repo::kept::KeptBlobs;
use crate::repo::layer::ImportedLayer;
use crate::repo::staging::Staging;
use crate::repo::{ContentIndex, Repo};
use crate::transport::{self, ImageSource};

/// A layer that is here, checked against its diff_id.
#[derive(Debug)]
pub struct Fetched {
    /// Its objects.
    pub imported: ImportedLayer,
    /// Whether its blob came whole, and was checked against its digest, too.
    pub whole: bool,
    /// Bytes of it that an earlier pull had fetched.
    pub kept: u64,
}

/// What it takes to fetch a layer.
pub struct Fetch {
    /// Where it is.
    pub source: Arc<dyn ImageSource>,
    /// Where its objects go.
    pub staging: Arc<Staging>,
    /// The layer.
    pub layer: Layer,
    /// How many layers the image has.
    pub total: usize,
    /// Where interrupted transfers leave what they have.
    pub blobs: Option<Arc<KeptBlobs>>,
    /// Ends it.
    pub cancel: Cancel,
    /// Counts the bytes of all layers.
    pub fetched: Arc<AtomicU64>,
    /// Hears how far it is.
    pub progress: Arc<dyn ProgressSink>,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetch")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl Fetch {
    /// Fetches and imports the layer, of `parts` and what the repository has, or whole. On any error
    /// nothing of it can be published.
    pub async fn run(self, parts: Option<(Arc<Parts>, Repo)>) -> Result<Fetched> {
        if let Some((parts, repo)) = parts {
            let hints = repo.reopen()?;
            match self.resumable(&How::parts(parts, repo)).await {
                Err(error) if is_store(&error) || self.cancel.is_set() => return Err(error),
                Err(error) => self.fall_back(&error, hints).await?,
                fetched => return fetched,
            }
        }
        loop {
            let error = match self.resumable(&How::Whole).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            if !self.is_wrong(&error) || !self.source.discredit(&self.layer.descriptor.digest) {
                return Err(error);
            }
            let text = format!(
                "layer {} of {} is not what the manifest promises, fetching it from elsewhere: \
                 {error:#}",
                self.layer.index + 1,
                self.total
            );
            tracing::info!("{text}");
            self.progress.event(Event::Warning(text));
            self.remove_spoiled(&error, How::Whole.piece(&self.layer).as_ref());
        }
    }

    fn is_wrong(&self, error: &anyhow::Error) -> bool {
        is_wrong(error) && !self.cancel.is_set()
    }

    /// Says why the parts are no use, and sees to it that what misled us does so no more.
    async fn fall_back(&self, error: &anyhow::Error, repo: Repo) -> Result<()> {
        let text = format!(
            "layer {} of {} cannot be put together of parts, fetching it whole: {error:#}",
            self.layer.index + 1,
            self.total
        );
        tracing::info!("{text}");
        self.progress.event(Event::Warning(text));
        let Some(object) = wrong_object(error) else {
            return Ok(());
        };
        let staging = self.staging.clone();
        let judged = spawn_blocking(move || {
            if let Err(error) = ContentIndex::forget(&repo) {
                tracing::warn!("removing the index of local files: {error}");
            }
            // One that cannot be read is none that can be used.
            if !repo.is_sound(object).unwrap_or(false) {
                tracing::warn!("object {object} is damaged; it is replaced if the layer has it");
                staging.replace_damaged(object);
            }
        });
        judged.await.context("A worker died")
    }
}

/// Whether bytes came, and wrong ones.
pub(super) fn is_wrong(error: &anyhow::Error) -> bool {
    let transfer = error.downcast_ref::<transport::Error>();
    let wrong = transfer.is_none_or(|e| matches!(e, transport::Error::Mismatch { .. }));
    wrong && !is_store(error)
}

/// The local object that an error is about. It has passed readers, which wrap it.
pub(super) fn wrong_object(error: &anyhow::Error) -> Option<crate::image::Digest> {
    let mut causes: Vec<&(dyn std::error::Error + 'static)> = error.chain().collect();
    while let Some(cause) = causes.pop() {
        if let Some(wrong) = cause.downcast_ref::<WrongObject>() {
            return Some(wrong.object);
        }
        let inner = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        causes.extend(inner.map(|inner| inner as &(dyn std::error::Error + 'static)));
    }
    None
}
