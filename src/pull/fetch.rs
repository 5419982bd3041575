//! One layer from its source to staged objects: in parts where that was planned, else whole. A layer
//! that cannot be put together of parts is fetched whole, with a warning that says why.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

use super::chunked::{At, Parts, WrongObject};
use super::import::{import_layer, import_tar, is_store};
use super::keep::Keeping;
use super::stream::{Cancel, Failure, Watched, split};
use crate::image::Layer;
use crate::progress::{Event, ProgressSink};
use crate::repo::kept::{KeptBlob, KeptBlobs};
use crate::repo::layer::ImportedLayer;
use crate::repo::staging::Staging;
use crate::repo::{ContentIndex, Repo};
use crate::transport::{self, Blob, ImageSource};

/// A layer that is here, checked against its diff_id.
#[derive(Debug)]
pub struct Fetched {
    /// Its objects.
    pub imported: ImportedLayer,
    /// Whether its blob came whole, and was checked against its digest, too.
    pub whole: bool,
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
            match self.in_parts(parts, repo).await {
                Ok(imported) => {
                    return Ok(Fetched {
                        imported,
                        whole: false,
                    });
                }
                Err(error) if is_store(&error) || self.cancel.is_set() => return Err(error),
                Err(error) => self.fall_back(&error, hints).await?,
            }
        }
        let imported = self.whole().await?;
        Ok(Fetched {
            imported,
            whole: true,
        })
    }

    async fn whole(&self) -> Result<ImportedLayer> {
        self.started(self.layer.descriptor.size);
        let digest = self.layer.descriptor.digest;
        let imported = match self.kept() {
            Some((kept, from, size)) => match self.go_on(kept, from, size).await {
                Err(error) if self.is_spoiled(&error) => {
                    tracing::info!("what was kept of layer {digest} is no use: {error:#}");
                    self.remove_kept();
                    self.start_over().await
                }
                result => result,
            },
            None => self.start_over().await,
        };
        if imported.is_ok() {
            self.remove_kept();
        }
        imported
    }

    async fn start_over(&self) -> Result<ImportedLayer> {
        let blob = self.source.blob(&self.layer.descriptor).await?;
        let (staging, layer) = (self.staging.clone(), self.layer.clone());
        // What is on this machine is not kept once more.
        let stream = matches!(blob, Blob::Stream(_));
        let place = self.blobs.clone().filter(|_| stream);
        self.feed(blob, move |reader| {
            let reader = Keeping::new(reader, place, layer.descriptor.digest);
            import_layer(&staging, &layer, reader)
        })
        .await
    }

    /// What an interrupted pull kept of the blob, its length, and the blob's.
    fn kept(&self) -> Option<(KeptBlob, u64, u64)> {
        let size = self.layer.descriptor.size?;
        let kept = self.blobs.as_ref()?.find(&self.layer.descriptor.digest);
        let kept = kept.unwrap_or_else(|error| {
            tracing::debug!("looking for kept bytes: {error}");
            None
        })?;
        let length = kept.length().ok()?;
        (length <= size).then_some((kept, length, size))
    }

    /// Takes the first bytes from the disk and fetches the others.
    async fn go_on(&self, kept: KeptBlob, from: u64, size: u64) -> Result<ImportedLayer> {
        let blob = match from == size {
            true => Blob::Reader(Box::new(io::empty())),
            false => {
                let rest = from..size;
                let rest = std::slice::from_ref(&rest);
                self.source.ranges(&self.layer.descriptor, rest).await?
            }
        };
        let (staging, layer) = (self.staging.clone(), self.layer.clone());
        self.feed(blob, move |reader| {
            let first = At::new(kept.file(), 0)?.take(from);
            let reader = first.chain(Keeping::going_on(reader, kept));
            import_layer(&staging, &layer, reader)
        })
        .await
    }

    /// Whether going on failed for a reason that starting over has not.
    fn is_spoiled(&self, error: &anyhow::Error) -> bool {
        let source = error.downcast_ref::<transport::Error>();
        let transfer =
            source.is_some_and(|error| !matches!(error, transport::Error::WholeOnly { .. }));
        !transfer && !is_store(error) && !self.cancel.is_set()
    }

    fn remove_kept(&self) {
        let Some(blobs) = &self.blobs else { return };
        if let Err(error) = blobs.remove(&self.layer.descriptor.digest) {
            tracing::debug!("removing kept bytes: {error}");
        }
    }

    async fn in_parts(&self, parts: Arc<Parts>, repo: Repo) -> Result<ImportedLayer> {
        self.started(Some(parts.to_fetch));
        let blob = match &parts.ranges[..] {
            [] => Blob::Reader(Box::new(io::empty())),
            ranges => self.source.ranges(&self.layer.descriptor, ranges).await?,
        };
        let (staging, layer) = (self.staging.clone(), self.layer.clone());
        let cancel = self.cancel.clone();
        self.feed(blob, move |reader| {
            let tar = parts.tar(repo, reader, cancel)?;
            import_tar(&staging, &layer, tar)
        })
        .await
    }

    fn started(&self, size: Option<u64>) {
        self.progress.event(Event::LayerStarted {
            index: self.layer.index,
            digest: self.layer.descriptor.digest,
            size,
        });
    }

    /// Runs `import` on a thread that may block, on the bytes of `blob`.
    async fn feed<F>(&self, blob: Blob, import: F) -> Result<ImportedLayer>
    where
        F: FnOnce(Watched<Counted>) -> Result<ImportedLayer> + Send + 'static,
    {
        let failure = Failure::default();
        let (reader, feed) = split(blob, failure.clone());
        let (cancel, progress) = (self.cancel.clone(), self.progress.clone());
        let reader = Counted {
            inner: reader,
            total: self.fetched.clone(),
        };
        let reader = Watched::new(reader, self.layer.index, cancel, progress);
        let worker = spawn_blocking(move || import(reader));
        let (imported, ()) = tokio::join!(worker, feed);
        let transfer = failure.lock().ok().and_then(|mut failure| failure.take());
        match (imported.context("A worker died")?, transfer) {
            (Err(_), Some(error)) => Err(error.into()),
            (imported, _) => imported,
        }
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

/// Counts the bytes of a transfer.
struct Counted {
    inner: Box<dyn Read + Send>,
    total: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.total.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// The local object that an error is about. It has passed readers, which wrap it.
fn wrong_object(error: &anyhow::Error) -> Option<crate::image::Digest> {
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
