//! The file of a blob: bytes come in and are hashed and counted; a reader of them goes out, as often as
//! needed. The file has no name, so that nothing is left of it when the program ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::image::Digest;
use crate::transport::{Blob, Error, push::Content};

/// A blob that is being written.
#[derive(Debug)]
pub struct HashedFile {
    file: File,
    hash: Sha256,
    size: u64,
}

impl HashedFile {
    /// Writes into an empty file.
    pub fn new(file: File) -> Self {
        Self {
            file,
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// The blob, its digest and its size.
    pub fn finish(self) -> (BlobFile, Digest, u64) {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        (BlobFile(Arc::new(self.file)), digest, self.size)
    }
}

impl Write for HashedFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.size += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that has been written.
#[derive(Debug, Clone)]
pub struct BlobFile(Arc<File>);

impl BlobFile {
    /// Reads it from the beginning.
    pub fn reader(&self) -> impl Read + Send + use<> {
        FromStart {
            file: self.0.clone(),
            position: 0,
        }
    }
}

#[async_trait]
impl Content for BlobFile {
    async fn open(&self) -> Result<Blob, Error> {
        Ok(Blob::Reader(Box::new(self.reader())))
    }

    fn nameless(&self) -> Option<&File> {
        Some(&self.0)
    }
}

struct FromStart {
    file: Arc<File>,
    position: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}
