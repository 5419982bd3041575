//! Layers made side by side and brought to a destination. Jobs that make blobs come in; each blob goes out as
//! soon as it is finished, to an archive in the order of the jobs, and what the jobs say about it comes back.
//! Never decides what is in a layer.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::compress::LayerBlob;
use crate::transport::push::Destination;

/// A layer that is to be written.
pub(super) trait LayerJob: Send + 'static {
    /// What is to be known of it afterwards.
    type Written;

    /// Makes its blob, on a thread that may wait, in `file` if the destination has one for it. What it writes
    /// passes through [`Stop::watch`].
    fn make(&self, file: Option<File>, stop: &Stop) -> Result<LayerBlob>;

    /// Says what was written, once the destination has it.
    fn written(&self, blob: &LayerBlob) -> Self::Written;
}

/// Runs the jobs, `threads` at a time, and brings their blobs to the destination. After a failure nothing
/// runs on.
pub(super) async fn write_layers<J: LayerJob>(
    jobs: Vec<J>,
    threads: usize,
    destination: &Destination,
) -> Result<Vec<J::Written>> {
    let stop = Stop::default();
    let _end = End(stop.clone());
    let turns = &Semaphore::new(threads);
    let made = stream::iter(jobs).map(|job| {
        let stop = stop.clone();
        async move {
            let _turn = turns.acquire().await;
            let file = destination.nameless();
            let made = spawn_blocking(move || job.make(file, &stop).map(|blob| (job, blob)));
            made.await.context("A worker died")?
        }
    });
    // A finished layer may wait for the destination while others are made, but not many.
    let made = match destination.is_sequential() {
        true => made.buffered(2 * threads).left_stream(),
        false => made.buffer_unordered(2 * threads).right_stream(),
    };
    let sent = made.map(|made| async move {
        let (job, blob) = made?;
        send(destination, &blob).await?;
        anyhow::Ok(job.written(&blob))
    });
    let sent = sent.buffer_unordered(destination.at_once(2 * threads));
    sent.try_collect().await
}

/// Brings a blob to the destination, unless it is there.
pub(super) async fn send(destination: &Destination, blob: &LayerBlob) -> Result<()> {
    let (digest, size) = (&blob.digest, blob.size);
    let context = || format!("Writing layer {digest}");
    let there = destination.has_blob(digest, size).await;
    if there.with_context(context)? {
        return Ok(());
    }
    let sent = destination.put_blob(digest, size, &blob.file).await;
    sent.with_context(context)
}

/// Says whether anybody wants the work still.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A writer that fails once nobody does.
    pub(super) fn watch<W>(&self, inner: W) -> Stoppable<W> {
        let stop = self.clone();
        Stoppable { inner, stop }
    }
}

/// Ends the work when it goes away.
struct End(Stop);

impl Drop for End {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// See [`Stop::watch`].
#[derive(Debug)]
pub(super) struct Stoppable<W> {
    /// Where everything goes.
    pub(super) inner: W,
    stop: Stop,
}

impl<W: Write> Write for Stoppable<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.stop.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the work has ended")),
            false => self.inner.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
