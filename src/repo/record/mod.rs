//! What a layer's tar stream has beside the content of objects: kept with the layer, so that the
//! stream can be put together again, byte for byte. Bytes of a stream come in while they are
//! imported, a file goes out; later the file and the repository's objects come in, and the stream
//! goes out. Keeps no content that the repository has, and holds no more than a few blocks.
//!
//! ```text
//! REPO/extensions/bowline/records/HEX    for the layer with this diff_id
//!
//! magic, 16 bytes          length of the first part, u64 little-endian
//! first part, zstd         tokens, in the order of the stream
//! second part, zstd        content of objects that did not stay in the repository (see below)
//! ```
//!
//! Tokens are one byte and what belongs to it; numbers are LEB128:
//!
//! ```text
//! 0 length bytes           these bytes
//! 1 mask words             a header: where bit n of the u64 mask is set, the n-th eight bytes come from the
//!                          words, elsewhere from the header before
//! 2 length                 so many zeros
//! 3 kind checksum          the content of an object
//! 4 kind                   the content of the object that the last header names
//! 5 checksum count pieces  pieces of a file object, offset and length each
//! ```
//!
//! The second part has, for each token 3 to 5 whose object the filter of paths dropped, in order: 32 bytes
//! of checksum, the length as u64, and the bytes. What tokens refer to is found by its checksum, so
//! that the record is good for as long as the layer's commit is.

mod rebuild;
mod tape;
mod tokens;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::object::ObjectKind;
use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

pub(super) use rebuild::add_dropped;
pub use rebuild::{NoRecord, RebuildError};
pub(super) use tape::{Tape, Taped};

const DIR: &str = "records";
pub(super) const MAGIC: &[u8; 16] = b"bowline record 1";
/// Bytes in front of the first part.
pub(super) const HEADER: u64 = 24;

/// The name of a layer's record among its staged objects.
pub(super) const STAGED: &str = "record";

/// Names an object whose content a token stands for.
pub(super) type Object = (Digest, ObjectKind);

impl Repo {
    /// The record of a layer; `None` where the layer was imported without one.
    pub(super) fn open_record(&self, diff_id: &Digest) -> io::Result<Option<File>> {
        match self.records() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            dir => sysfs::open_optional(dir?, &diff_id.hex()),
        }
    }

    /// Whether a layer can be put together again.
    pub fn has_record(&self, diff_id: &Digest) -> io::Result<bool> {
        Ok(self.open_record(diff_id)?.is_some())
    }

    fn records(&self) -> io::Result<OwnedFd> {
        sysfs::open_dir(self.found_extension_dir()?, DIR)
    }

    /// Removes the record of a layer, if there is one.
    pub(super) fn remove_record(&self, diff_id: &Digest) -> io::Result<()> {
        match self.records() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            dir => sysfs::remove_all(dir?, &diff_id.hex()),
        }
    }

    /// Removes the records of all layers but these.
    pub(super) fn keep_records(&self, needed: &BTreeSet<Digest>) -> io::Result<()> {
        let dir = match self.records() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            dir => dir?,
        };
        for name in sysfs::list(&dir)? {
            let is_needed = Digest::from_hex(&name).is_ok_and(|id| needed.contains(&id));
            if !is_needed {
                sysfs::remove_all(&dir, &name)?;
            }
        }
        Ok(())
    }
}

/// Gives a staged record its name, beside the layers of `repo`.
pub(super) fn publish(repo: &OwnedFd, staged: &OwnedFd, diff_id: &Digest) -> io::Result<()> {
    let mut dir = repo.try_clone()?;
    for name in ["extensions", "bowline", DIR] {
        sysfs::ensure_dir(&dir, name)?;
        dir = sysfs::open_dir(&dir, name)?;
    }
    Ok(rustix::fs::renameat(staged, STAGED, dir, diff_id.hex())?)
}

#[cfg(test)]
mod tests;
