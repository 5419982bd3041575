//! Whether what lies in the repository is what its names say: a commit comes in, every object of its
//! tree is read and hashed again. For images whose signature is asked for: a signature vouches for
//! bytes, and somebody may have changed those on the disk since they were verified. Also files that
//! become part of new objects, whose names would else vouch for whatever was read. Repairs nothing.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::io::{self, Read as _};

use anyhow::{Context, Result};
use fn_error_context::context;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::dirtree::{DirTree, Entry};
use super::layer_stage::Chunks;
use super::object::{FileMeta, ObjectKind};
use super::selinux;
use super::staging::StorageMode;
use super::store::{CONTENT_PART, FileContent, Repo};
use super::tar_stream::TarError;
use crate::image::Digest;

/// An object whose content is not what its name says.
#[derive(Debug, Error)]
#[error("object {object} in the repository was changed or damaged on the disk")]
pub struct Damaged {
    /// Its name, as below `objects/`.
    pub object: String,
}

impl Damaged {
    /// Whether an error is one, or one that has passed a reader.
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let passed = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        let passed = passed.and_then(|error| error.downcast_ref());
        error.downcast_ref().or(passed)
    }
}

/// Content of a regular file object, slice by slice. Whoever has taken all of it learns whether it is
/// what the object's name says.
#[derive(Debug)]
pub(super) struct SoundContent {
    inner: FileContent,
    hashers: Vec<Sha256>,
    checksum: Digest,
    damaged: Damaged,
}

impl SoundContent {
    /// Says whether what was taken is the object.
    pub fn finish(self) -> Result<(), Damaged> {
        let mut hashes = self.hashers.into_iter().map(|hasher| hasher.finalize());
        match hashes.any(|hash| Digest::from_bytes(hash.into()) == self.checksum) {
            true => Ok(()),
            false => Err(self.damaged),
        }
    }
}

impl Chunks for SoundContent {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        let part = self.inner.chunk()?;
        if let Some(part) = part {
            self.hashers
                .iter_mut()
                .for_each(|hasher| hasher.update(part));
        }
        Ok(part)
    }
}

impl Repo {
    /// Reads a commit and all it refers to. An error of the type [`Damaged`] for the first object that
    /// is not what it should be.
    #[context("Verifying the stored content of commit {commit}")]
    pub fn require_sound(&self, commit: &str) -> Result<()> {
        self.require_sound_metadata(Digest::from_hex(commit)?, ObjectKind::Commit)?;
        let (root, meta) = self.commit_root(commit)?;
        self.require_sound_metadata(meta, ObjectKind::DirMeta)?;
        let mut seen = HashSet::from([root, meta]);
        let mut pending = vec![root];
        while let Some(tree) = pending.pop() {
            let data = self.require_sound_metadata(tree, ObjectKind::DirTree)?;
            let entries = DirTree::parse(&data);
            let entries = entries.with_context(|| format!("Reading directory tree {tree}"))?;
            for entry in entries.entries() {
                match entry {
                    Entry::File(_, file) => {
                        let file = Digest::from_bytes(*file);
                        if seen.insert(file) {
                            self.require_sound_file(file)?;
                        }
                    }
                    Entry::Dir(_, tree, meta) => {
                        let meta = Digest::from_bytes(*meta);
                        if seen.insert(meta) {
                            self.require_sound_metadata(meta, ObjectKind::DirMeta)?;
                        }
                        let tree = Digest::from_bytes(*tree);
                        if seen.insert(tree) {
                            pending.push(tree);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn require_sound_metadata(&self, checksum: Digest, kind: ObjectKind) -> Result<Vec<u8>> {
        match self.object_bytes(checksum, kind)? {
            Some(data) if Digest::of(&data) == checksum => Ok(data),
            _ => Err(self.damaged(checksum, kind).into()),
        }
    }

    fn require_sound_file(&self, checksum: Digest) -> Result<()> {
        // What cannot be read is not what it should be either.
        match self.is_sound(checksum) {
            Ok(true) => Ok(()),
            _ => Err(self.damaged(checksum, ObjectKind::File).into()),
        }
    }

    /// Whether the bytes of a file object give its name.
    pub fn is_sound(&self, checksum: Digest) -> Result<bool> {
        let (meta, _) = self.file_meta(checksum)?;
        for meta in self.named_by(&meta) {
            if self.name_of(&meta, checksum)? == checksum {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The name that the content of a file object has with this metadata.
    fn name_of(&self, meta: &FileMeta, checksum: Digest) -> Result<Digest> {
        let mut hasher = meta.hasher();
        if !meta.is_symlink() {
            let mut content = self.file_reader(checksum)?;
            let mut buffer = vec![0; CONTENT_PART];
            loop {
                match content.read(&mut buffer)? {
                    0 => break,
                    length => hasher.update(&buffer[..length]),
                }
            }
        }
        Ok(Digest::from_bytes(hasher.finalize().into()))
    }

    /// Content of a file object with this metadata, to be verified at its end.
    pub(super) fn sound_content(&self, checksum: Digest, meta: &FileMeta) -> Result<SoundContent> {
        let metas = self.named_by(meta);
        Ok(SoundContent {
            inner: self.open_content(checksum)?,
            hashers: metas.iter().map(FileMeta::hasher).collect(),
            checksum,
            damaged: self.damaged(checksum, ObjectKind::File),
        })
    }

    /// What may have named a file object with this metadata. A kernel with SELinux gives a label to
    /// every file of a bare repository, also where the object has none.
    fn named_by(&self, meta: &FileMeta) -> Vec<FileMeta> {
        let mut plain = meta.clone();
        plain.xattrs.retain(|(name, _)| name != selinux::XATTR);
        let labelled = self.mode() == StorageMode::Bare && plain != *meta;
        let plain = labelled.then_some(plain);
        [meta.clone()].into_iter().chain(plain).collect()
    }

    pub(super) fn damaged(&self, checksum: Digest, kind: ObjectKind) -> Damaged {
        Damaged {
            object: self.loose_path(checksum, kind),
        }
    }
}
