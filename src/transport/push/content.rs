//! Bytes on their way to a destination: a file, bytes in memory or a blob of another source comes
//! in; checked chunks go out, from the beginning as often as a failed upload needs them. Never
//! holds more than a few chunks of a blob.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::super::files::io_error;
use crate::image::{Descriptor, Digest};
use crate::transport::{Blob, Error, ImageSource};

/// Bytes that are read at once from a file.
const CHUNK: usize = 128 << 10;

/// Chunks between the thread that reads a file and whoever takes them.
const CHUNKS: usize = 2;

/// A blob that can be read from its beginning as often as it takes.
#[async_trait]
pub trait Content: Send + Sync {
    /// Opens it at its beginning.
    async fn open(&self) -> Result<Blob, Error>;

    /// A file without a name that is the blob: it was hashed while it was written, and nobody writes to it
    /// any more, so that a destination may give it a name instead of copying it.
    fn nameless(&self) -> Option<&File> {
        None
    }
}

/// A file.
#[async_trait]
impl Content for PathBuf {
    async fn open(&self) -> Result<Blob, Error> {
        let file = File::open(self);
        let file = file.map_err(|error| io_error(&self.to_string_lossy(), error))?;
        Ok(Blob::Reader(Box::new(file)))
    }
}

/// Bytes in memory: a config.
#[async_trait]
impl Content for Bytes {
    async fn open(&self) -> Result<Blob, Error> {
        let bytes = self.clone();
        Ok(Blob::Stream(stream::once(async { Ok(bytes) }).boxed()))
    }
}

/// A blob of another image source, fetched while it is written.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Where it is.
    pub source: Arc<dyn ImageSource>,
    /// What it is.
    pub blob: Descriptor,
}

#[async_trait]
impl Content for Copied {
    async fn open(&self) -> Result<Blob, Error> {
        self.source.blob(&self.blob).await
    }
}

/// The chunks of a blob; a file is read on a thread of its own.
pub(in crate::transport) fn chunks(
    blob: Blob,
    place: String,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let reader = match blob {
        Blob::Stream(stream) => return stream,
        Blob::Reader(reader) => reader,
    };
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || read_into(reader, &sender, &place));
    let next = |mut receiver: mpsc::Receiver<_>| async move {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    };
    stream::unfold(receiver, next).boxed()
}

/// A plain reader of a blob, for a thread that may wait. Must be made where asynchronous work runs.
pub fn reader(blob: Blob, place: String) -> Box<dyn Read + Send> {
    match blob {
        Blob::Reader(reader) => reader,
        blob @ Blob::Stream(_) => {
            let mut stream = chunks(blob, place);
            let (sender, receiver) = mpsc::channel(CHUNKS);
            tokio::spawn(async move {
                while let Some(chunk) = stream.next().await {
                    if sender.send(chunk).await.is_err() {
                        return;
                    }
                }
            });
            let chunk = Bytes::new();
            Box::new(ChannelReader { receiver, chunk })
        }
    }
}

struct ChannelReader {
    receiver: mpsc::Receiver<Result<Bytes, Error>>,
    chunk: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Err(std::io::Error::other(error)),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

fn read_into(
    mut reader: Box<dyn Read + Send>,
    sender: &mpsc::Sender<Result<Bytes, Error>>,
    place: &str,
) {
    loop {
        let mut buffer = vec![0; CHUNK];
        let chunk = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                buffer.truncate(length);
                Ok(Bytes::from(buffer))
            }
            Err(error) => Err(io_error(place, error)),
        };
        let failed = chunk.is_err();
        // Nobody takes it any more where the upload has ended.
        if sender.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}

/// Checks that what is written is what was promised.
#[derive(Debug)]
pub(in crate::transport) struct Check {
    hasher: Sha256,
    digest: Digest,
    size: u64,
    taken: u64,
    place: String,
}

impl Check {
    pub(in crate::transport) fn new(digest: &Digest, size: u64, place: String) -> Self {
        Self {
            hasher: Sha256::new(),
            digest: *digest,
            size,
            taken: 0,
            place,
        }
    }

    /// Takes the next bytes; fails at the first one too many.
    pub(in crate::transport) fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.taken += bytes.len() as u64;
        if self.taken > self.size {
            return Err(self.mismatch(format!("{} bytes", self.size), "more".into()));
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Says at the end whether these were the promised bytes.
    pub(in crate::transport) fn finish(self) -> Result<(), Error> {
        if self.taken < self.size {
            let (expected, found) = (
                format!("{} bytes", self.size),
                format!("{} bytes", self.taken),
            );
            return Err(self.mismatch(expected, found));
        }
        let found = Digest::from_bytes(self.hasher.clone().finalize().into());
        match found == self.digest {
            true => Ok(()),
            false => Err(self.mismatch(self.digest.to_string(), found.to_string())),
        }
    }

    fn mismatch(&self, expected: String, found: String) -> Error {
        Error::Mismatch {
            place: self.place.clone(),
            expected,
            found,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    fn check(bytes: &[&[u8]], promised: &[u8], size: u64) -> Result<(), String> {
        let mut check = Check::new(&Digest::of(promised), size, "x".into());
        for part in bytes {
            check.update(part).map_err(|e| e.to_string())?;
        }
        check.finish().map_err(|e| e.to_string())
    }

    #[test]
    fn only_the_promised_bytes_pass() {
        let other = Digest::of(b"ab");
        let right = Digest::of(b"abc");
        assert_eq!(check(&[b"a", b"bc"], b"abc", 3), Ok(()));
        assert_eq!(check(&[], b"", 0), Ok(()));
        let short = "x is corrupt: expected 3 bytes, got 2 bytes";
        assert_eq!(check(&[b"ab"], b"abc", 3), Err(short.into()));
        let long = "x is corrupt: expected 2 bytes, got more";
        assert_eq!(check(&[b"a", b"bc"], b"abc", 2), Err(long.into()));
        let wrong = format!("x is corrupt: expected {other}, got {right}");
        assert_eq!(check(&[b"abc"], b"ab", 3), Err(wrong));
    }

    #[tokio::test]
    async fn files_come_in_chunks_from_their_beginning_each_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("blob");
        let bytes: Vec<u8> = (0..CHUNK * 3 + 5).map(|n| n as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for _ in 0..2 {
            let blob = path.open().await.unwrap();
            let all: Vec<Bytes> = chunks(blob, "blob".into()).try_collect().await.unwrap();
            assert!(all.len() >= 4);
            assert_eq!(all.concat(), bytes);
        }
        let missing = temp.path().join("none").open().await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    }
}
