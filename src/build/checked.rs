//! The content of a file object on its way out of a repository: it is hashed, and one that is not what its
//! name says is an error once all of it has passed.

use std::io::{self, Read};

use anyhow::{Result, ensure};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::image::Digest;
use crate::repo::Repo;
use crate::repo::object::FileMeta;

/// A file object whose content is not what its name says.
#[derive(Debug, Error)]
#[error("file object {0} in the repository is damaged")]
pub struct DamagedObject(pub Digest);

/// Reads the content of a regular file.
pub struct CheckedContent {
    name: Digest,
    inner: io::Take<Box<dyn Read + Send>>,
    hasher: Sha256,
}

impl CheckedContent {
    /// Opens the content of an object, of which no more than `size` bytes are read.
    pub fn open(repo: &Repo, name: Digest, meta: &FileMeta, size: u64) -> Result<Self> {
        Ok(Self {
            name,
            inner: repo.file_reader(name)?.take(size),
            hasher: meta.hasher(),
        })
    }

    /// Says whether what was read is the object.
    pub fn finish(self) -> Result<()> {
        let found = Digest::from_bytes(self.hasher.finalize().into());
        ensure!(found == self.name, DamagedObject(self.name));
        Ok(())
    }
}

impl Read for CheckedContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
