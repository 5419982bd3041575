//! The file objects of a layer. Metadata and content come in, checksums go out; what the repository or
//! another layer of the pull has is hashed and not written. Never touches a final name.

use std::fs::File;
use std::io;

use super::{Chunks, LayerStage};
use crate::image::Digest;
use crate::repo::LayerError;
use crate::repo::alike::{SoFar, Unlike};
use crate::repo::object::{FileMeta, ObjectKind};
use crate::repo::object_file;
use crate::repo::staging::StorageMode;
use crate::sys::fs as sysfs;

/// Files up to this size are hashed in memory first, so that one that exists costs no write.
const IN_MEMORY: u64 = 256 << 10;

impl LayerStage {
    /// Takes one file and gives its checksum. With `expected`, another checksum is an error and
    /// nothing of the file is kept. A file that the repository has costs no write, nor does one that
    /// another layer has staged.
    pub fn file(
        &mut self,
        meta: &FileMeta,
        size: u64,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        let known = expected
            .map(|e| self.has(e, ObjectKind::File))
            .transpose()?;
        if known == Some(true) {
            return self.hash_only(meta, expected, content);
        }
        match size {
            0..=IN_MEMORY => self.small_file(meta, expected, content),
            _ => self.big_file(meta, size, expected, None, content),
        }
    }

    /// The same with a file of an ordinary layer, which stands there under `path`.
    pub fn file_at(
        &mut self,
        path: &[String],
        meta: &FileMeta,
        size: u64,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        let alike = self.alike.as_ref().filter(|_| size > IN_MEMORY);
        match alike.and_then(|alike| alike.find(path, size)) {
            None => self.file(meta, size, None, content),
            like => self.big_file(meta, size, None, like, content),
        }
    }

    /// The checksum of a file that is not written.
    pub(in crate::repo) fn hash_only(
        &self,
        meta: &FileMeta,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        use sha2::Digest as _;
        let mut hasher = meta.hasher();
        while let Some(chunk) = content.chunk()? {
            hasher.update(chunk);
        }
        check(Digest::from_bytes(hasher.finalize().into()), expected)
    }

    fn small_file(
        &mut self,
        meta: &FileMeta,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        while let Some(chunk) = content.chunk()? {
            buffer.extend_from_slice(chunk);
        }
        let checksum = check(meta.checksum(&buffer), expected)?;
        // What was expected has been looked for before its content was read.
        if expected.is_some() || !self.has(checksum, ObjectKind::File)? {
            self.write_small(meta, checksum, &buffer)?;
        }
        self.buffer = buffer;
        Ok(checksum)
    }

    fn write_small(&mut self, meta: &FileMeta, checksum: Digest, data: &[u8]) -> io::Result<()> {
        let object = (checksum, ObjectKind::File);
        self.once(object, data.len() as u64, |stage, name| {
            stage.claim(data.len() as u64)?;
            object_file::write(&stage.dir, name, stage.mode, meta, data)
        })
    }

    /// Two layers may write the same big file at the same time, since nobody knows that before its end;
    /// one of them is kept.
    fn big_file(
        &mut self,
        meta: &FileMeta,
        size: u64,
        expected: Option<Digest>,
        like: Option<File>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        if self.mode == StorageMode::Archive {
            let file = self.big(size)?;
            let checksum = object_file::write_archived(file, meta, size, content)?;
            self.keep_big(check(checksum, expected)?, ObjectKind::File, size)?;
            return Ok(checksum);
        }
        let mut out = Unlike::new(like, || self.big(size));
        let checksum = object_file::write_hashed(meta, content, &mut out)?;
        let written = out.finish();
        check(checksum, expected)?;
        let file = match written {
            SoFar::New(file) => file,
            SoFar::Same(_) if self.has(checksum, ObjectKind::File)? => return Ok(checksum),
            // Content that is here, with other metadata.
            SoFar::Same(mut beginning) => {
                let mut file = self.big(size)?;
                beginning.copy_to(&mut file)?;
                file
            }
            SoFar::Nothing => self.big(size)?,
        };
        object_file::seal(&file, self.mode, meta)?;
        self.keep_big(checksum, ObjectKind::File, size)?;
        Ok(checksum)
    }

    /// The file of a big object that is being written.
    fn big(&mut self, size: u64) -> io::Result<File> {
        self.claim(size)?;
        sysfs::remove_all(&self.dir, "big")?;
        sysfs::create_new(&self.dir, "big")
    }
}

fn check(found: Digest, expected: Option<Digest>) -> Result<Digest, LayerError> {
    match expected {
        Some(expected) if expected != found => Err(LayerError::Checksum {
            name: expected.hex(),
            found,
        }),
        _ => Ok(found),
    }
}
