//! The bytes of a blob on the threads that work. An asynchronous transfer comes in; a plain reader
//! goes out that can be cancelled and that reports how far it is. Holds a few chunks, never a
//! whole blob.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::progress::{Event, ProgressSink};
use crate::transport::{Blob, Error};

/// Chunks between the transfer and the worker. A chunk is what the network gave: up to 400 KiB where
/// it is fast, so that more of them would only cost memory.
const CHUNKS: usize = 3;
/// Bytes between two progress events.
const REPORT_EVERY: u64 = 256 << 10;

/// Set when a pull is over; readers fail from then on.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends all readers.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a transfer ended early: the reader can only say that it did.
pub type Failure = Arc<Mutex<Option<Error>>>;

/// Splits a blob into a reader and the future that feeds it.
pub fn split(blob: Blob, failure: Failure) -> (Box<dyn Read + Send>, impl Future<Output = ()>) {
    let (reader, feed): (Box<dyn Read + Send>, _) = match blob {
        Blob::Reader(reader) => (reader, None),
        Blob::Stream(stream) => {
            let (sender, receiver) = mpsc::channel(CHUNKS);
            let reader = ChannelReader {
                receiver,
                chunk: Bytes::new(),
                failure,
            };
            (Box::new(reader), Some((stream, sender)))
        }
    };
    let feed = async move {
        let Some((mut stream, sender)) = feed else {
            return;
        };
        while let Some(chunk) = stream.next().await {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    };
    (reader, feed)
}

struct ChannelReader {
    receiver: mpsc::Receiver<Result<Bytes, Error>>,
    chunk: Bytes,
    failure: Failure,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    let text = error.to_string();
                    if let Ok(mut failure) = self.failure.lock() {
                        *failure = Some(error);
                    }
                    return Err(io::Error::other(text));
                }
            }
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Reports the bytes of a layer as they pass, and fails once the pull is over.
pub struct Watched<R> {
    inner: R,
    cancel: Cancel,
    progress: Arc<dyn ProgressSink>,
    index: usize,
    bytes: u64,
    reported: u64,
}

impl<R> std::fmt::Debug for Watched<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Watched<R> {
    /// Watches the reader of layer `index`.
    pub fn new(inner: R, index: usize, cancel: Cancel, progress: Arc<dyn ProgressSink>) -> Self {
        Self {
            inner,
            cancel,
            progress,
            index,
            bytes: 0,
            reported: 0,
        }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::Error::other("the pull has ended"));
        }
        let length = self.inner.read(buffer)?;
        self.bytes += length as u64;
        if self.bytes - self.reported >= REPORT_EVERY || length == 0 {
            self.reported = self.bytes;
            self.progress.event(Event::LayerProgress {
                index: self.index,
                bytes: self.bytes,
            });
        }
        Ok(length)
    }
}
