//! Whether what lies in the repository is what its names say: a commit comes in, every object of its
//! tree is read and hashed again. For images whose signature is asked for: a signature vouches for
//! bytes, and somebody may have changed those on the disk since they were verified. Repairs nothing.

use std::collections::HashSet;

use anyhow::{Context, Result};
use fn_error_context::context;
use thiserror::Error;

use super::dirtree::{DirTree, Entry};
use super::object::ObjectKind;
use super::store::Repo;
use crate::image::Digest;

/// An object whose content is not what its name says.
#[derive(Debug, Error)]
#[error("object {object} in the repository was changed or damaged on the disk")]
pub struct Damaged {
    /// Its name, as below `objects/`.
    pub object: String,
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

    fn damaged(&self, checksum: Digest, kind: ObjectKind) -> Damaged {
        Damaged {
            object: self.loose_path(checksum, kind),
        }
    }
}
