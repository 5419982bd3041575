//! The bytes of one layer, from where an interrupted pull stopped or from the beginning. What is kept
//! of them comes from the disk and the rest from the source; both pass the same checks as if all
//! had come at once, and what is kept and no use is fetched again.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::chunked::{At, Parts};
use super::fetch::{Fetch, Fetched, wrong_object};
use super::import::{import_layer, import_tar, is_store};
use super::keep::Keeping;
use super::stream::{Failure, Watched, split};
use crate::image::Layer;
use crate::progress::Event;
use crate::repo::Repo;
use crate::repo::kept::{KeptBlob, Piece};
use crate::repo::layer::ImportedLayer;
use crate::sys::confine;
use crate::transport::{Blob, Error};

type Reader = Box<dyn Read + Send>;

/// How a layer is fetched.
#[derive(Debug)]
pub enum How {
    /// From the first byte of its blob to the last.
    Whole,
    /// In parts, with what this repository has.
    Parts(Arc<Parts>, Mutex<Repo>),
}

impl How {
    /// In parts.
    pub const fn parts(parts: Arc<Parts>, repo: Repo) -> Self {
        Self::Parts(parts, Mutex::new(repo))
    }

    /// What must come of the blob; `None` where nobody knows how much that is.
    pub(super) fn piece(&self, layer: &Layer) -> Option<Piece> {
        let digest = &layer.descriptor.digest;
        Some(match self {
            Self::Whole => Piece::whole(digest, layer.descriptor.size?),
            Self::Parts(parts, _) => Piece::ranges(digest, &parts.ranges),
        })
    }
}

impl Fetch {
    /// Fetches and imports the layer.
    pub(super) async fn resumable(&self, how: &How) -> Result<Fetched> {
        let piece = how.piece(&self.layer);
        if let Some((kept, length)) = piece.as_ref().and_then(|piece| self.kept(piece)) {
            match self.go_on(how, kept, length).await {
                Err(error) if self.is_hopeless(&error) => {
                    let digest = self.layer.descriptor.digest;
                    tracing::info!("layer {digest} does not go on where it stopped: {error:#}");
                    self.remove_spoiled(&error, piece.as_ref());
                }
                Err(error) => {
                    // Nor must they make every later pull fail as this one does.
                    if is_store(&error) {
                        self.remove_spoiled(&error, piece.as_ref());
                    }
                    return Err(error);
                }
                Ok(imported) => return Ok(self.fetched(how, imported, length)),
            }
        }
        let imported = self.start(how, piece).await?;
        Ok(self.fetched(how, imported, 0))
    }

    fn fetched(&self, how: &How, imported: ImportedLayer, kept: u64) -> Fetched {
        Fetched {
            imported,
            whole: matches!(how, How::Whole),
            kept,
        }
    }

    async fn start(&self, how: &How, piece: Option<Piece>) -> Result<ImportedLayer> {
        let descriptor = &self.layer.descriptor;
        self.started(piece.as_ref().map(|piece| piece.size));
        let blob = match how {
            How::Whole => self.source.blob(descriptor).await?,
            How::Parts(parts, _) if parts.ranges.is_empty() => Blob::Reader(Box::new(io::empty())),
            How::Parts(parts, _) => self.source.ranges(descriptor, &parts.ranges).await?,
        };
        // What is on this machine is not kept once more.
        let stream = matches!(blob, Blob::Stream(_));
        let place = self.blobs.clone().filter(|_| stream).zip(piece);
        let import = self.import(how)?;
        self.feed(blob, move |reader| {
            import(Box::new(Keeping::new(reader, place)))
        })
        .await
    }

    /// What an interrupted pull kept of a piece, and its length.
    fn kept(&self, piece: &Piece) -> Option<(KeptBlob, u64)> {
        let kept = self.blobs.as_ref()?.find(piece);
        let kept = kept.unwrap_or_else(|error| {
            tracing::debug!("looking for kept bytes: {error}");
            None
        })?;
        let length = kept.length().ok()?;
        Some((kept, length))
    }

    /// Takes the first bytes from the disk and fetches the others.
    async fn go_on(&self, how: &How, kept: KeptBlob, length: u64) -> Result<ImportedLayer> {
        let descriptor = &self.layer.descriptor;
        let ranges = match how {
            How::Whole => std::iter::once(0..descriptor.size.unwrap_or(length)).collect(),
            How::Parts(parts, _) => parts.ranges.clone(),
        };
        let rest = behind(&ranges, length);
        self.started(Some(rest.iter().map(|r| r.end - r.start).sum()));
        let blob = match &rest[..] {
            [] => Blob::Reader(Box::new(io::empty())),
            rest => self.source.ranges(descriptor, rest).await?,
        };
        let import = self.import(how)?;
        self.feed(blob, move |reader| {
            let first = At::new(kept.file(), 0)?.take(length);
            import(Box::new(first.chain(Keeping::going_on(reader, kept))))
        })
        .await
    }

    /// Bytes that turn out to be wrong are not kept for the next time.
    pub(super) fn remove_spoiled(&self, error: &anyhow::Error, piece: Option<&Piece>) {
        let spoiled = error.downcast_ref::<Error>().is_none();
        let kept = self.blobs.as_ref().zip(piece).filter(|_| spoiled);
        if let Some(Err(error)) = kept.map(|(blobs, piece)| blobs.remove(piece)) {
            tracing::debug!("removing kept bytes: {error}");
        }
    }

    /// Whether going on failed for a reason that starting over has not.
    fn is_hopeless(&self, error: &anyhow::Error) -> bool {
        if is_store(error) || self.cancel.is_set() || wrong_object(error).is_some() {
            return false;
        }
        // A registry may send a blob whole, and not from the middle.
        error
            .downcast_ref()
            .is_none_or(|e| !matches!(e, Error::Temporary { .. } | Error::Denied { .. }))
    }

    /// The importer for the layer's bytes, kept and fetched ones.
    fn import(&self, how: &How) -> Result<impl FnOnce(Reader) -> Result<ImportedLayer> + use<>> {
        let (staging, layer, cancel) = (
            self.staging.clone(),
            self.layer.clone(),
            self.cancel.clone(),
        );
        let parts = match how {
            How::Whole => None,
            How::Parts(parts, repo) => {
                let repo = repo.lock().unwrap_or_else(PoisonError::into_inner);
                Some((parts.clone(), repo.reopen()?))
            }
        };
        Ok(move |reader: Reader| match parts {
            None => import_layer(&staging, &layer, reader),
            Some((parts, repo)) => import_tar(&staging, &layer, parts.tar(repo, reader, cancel)?),
        })
    }

    fn started(&self, size: Option<u64>) {
        self.progress.event(Event::LayerStarted {
            index: self.layer.index,
            digest: self.layer.descriptor.digest,
            size,
        });
    }

    /// Runs `import` on the bytes of `blob`, on a thread that may block and touches the repository
    /// only.
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
        let repo = self.staging.repo_dir().context("Opening the repository")?;
        let worker = confine::run(repo, move || import(reader));
        let (imported, ()) = tokio::join!(worker, feed);
        let transfer = failure.lock().ok().and_then(|mut failure| failure.take());
        match (imported.context("A worker died")?, transfer) {
            (Err(_), Some(error)) => Err(error.into()),
            (imported, _) => imported,
        }
    }
}

/// What of some ranges lies behind their first `length` bytes.
fn behind(ranges: &[std::ops::Range<u64>], mut length: u64) -> Vec<std::ops::Range<u64>> {
    let rest = ranges.iter().map(|range| {
        let here = length.min(range.end - range.start);
        length -= here;
        range.start + here..range.end
    });
    rest.filter(|range| !range.is_empty()).collect()
}

/// Counts the bytes of a transfer.
struct Counted {
    inner: Reader,
    total: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.total.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_kept_bytes_is_fetched() {
        let ranges = [3..5, 7..10, 20..21];
        for (length, expected) in [
            (0, vec![3..5, 7..10, 20..21]),
            (1, vec![4..5, 7..10, 20..21]),
            (2, vec![7..10, 20..21]),
            (4, vec![9..10, 20..21]),
            (6, vec![]),
        ] {
            assert_eq!(behind(&ranges, length), expected, "{length}");
        }
    }
}
