//! What a commit says beside its tree, for whoever writes it into something else. A commit comes in, its
//! bytes and typed members go out. Never looks into the tree.
//!
//! Shape: libostree, ostree-core.h, `OSTREE_COMMIT_GVARIANT_STRING`.

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::glib::variant::FromVariant;
use ostree::glib::{Bytes, Variant, VariantTy};

use super::commit::{self, detached_dictionary};
use super::object::ObjectKind;
use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// Largest detached metadata that are read, bytes: what readers of layers take.
const MAX_DETACHED: u64 = 10 << 20;

/// A commit without its tree.
#[derive(Debug, Clone)]
pub struct CommitFacts {
    /// Its checksum.
    pub checksum: Digest,
    /// The object.
    pub bytes: Vec<u8>,
    /// Its detached metadata (`a{sv}`), which holds signatures.
    pub detached: Option<Vec<u8>>,
    /// The commit before it.
    pub parent: Option<Digest>,
    /// One line; may be empty.
    pub subject: String,
    /// More lines; may be empty.
    pub body: String,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The dirtree of its root.
    pub tree: Digest,
    /// The dirmeta of its root.
    pub meta: Digest,
    metadata: Variant,
}

/// Nothing in the repository has the name that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("there is no such ref or commit; `ostree refs` lists the refs")]
pub struct NoSuchCommit;

impl Repo {
    /// The commit that a ref, a checksum or an abbreviated checksum means.
    #[context("Finding {rev} in the repository")]
    pub fn commit_of(&self, rev: &str) -> Result<Digest> {
        match self.resolve_ref(rev)? {
            Some(commit) => Ok(Digest::from_hex(&commit)?),
            None => Err(NoSuchCommit.into()),
        }
    }

    /// What a commit says beside its tree.
    #[context("Reading commit {checksum}")]
    pub fn commit_facts(&self, checksum: Digest) -> Result<CommitFacts> {
        let bytes = self.metadata_object(checksum, ObjectKind::Commit)?;
        commit::validate(&bytes)?;
        let shape = VariantTy::new("(a{sv}aya(say)sstayay)")?;
        let commit = Variant::from_bytes_with_type(&Bytes::from(&bytes), shape);
        let sum = |index| {
            let sum: Option<[u8; 32]> = commit.child_value(index).data().try_into().ok();
            sum.map(Digest::from_bytes)
        };
        let text = |index| commit.child_value(index).get().unwrap_or_default();
        let path = self.loose_path(checksum, ObjectKind::CommitMeta);
        let detached = sysfs::read_optional(self.objects(), &path, MAX_DETACHED)?;
        Ok(CommitFacts {
            checksum,
            detached: detached.filter(|data| detached_dictionary(data).is_some()),
            parent: sum(1),
            subject: text(3),
            body: text(4),
            timestamp: u64::from_be(commit.child_value(5).get().context("Reading its time")?),
            tree: sum(6).context("Reading its root")?,
            meta: sum(7).context("Reading its root")?,
            metadata: commit.child_value(0),
            bytes,
        })
    }
}

impl CommitFacts {
    /// A text in its metadata; an error where the key holds something else.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        self.value(key, "a text")
    }

    /// A truth value in its metadata; an error where the key holds something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.value(key, "a boolean")
    }

    /// A number of 64 bits in its metadata, its bytes as they are; an error where the key holds
    /// something else.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        self.value(key, "a number")
    }

    /// A list of texts in its metadata; an error where the key holds something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.value(key, "a list of texts")
    }

    /// Everything in its metadata in its order, each value as a serialised `v`.
    pub fn metadata(&self) -> Vec<(String, Vec<u8>)> {
        let entries = self.metadata.iter().filter_map(|entry| {
            let key = entry.child_value(0).str()?.to_owned();
            Some((key, entry.child_value(1).data().to_vec()))
        });
        entries.collect()
    }

    fn value<T: FromVariant>(&self, key: &str, what: &str) -> Result<Option<T>> {
        let Some(value) = self.lookup(key) else {
            return Ok(None);
        };
        let found = value.get();
        let found = found.with_context(|| format!("the commit's metadata {key} is not {what}"))?;
        Ok(Some(found))
    }

    fn lookup(&self, key: &str) -> Option<Variant> {
        let mut entries = self.metadata.iter();
        let entry = entries.find(|entry| entry.child_value(0).str() == Some(key))?;
        entry.child_value(1).as_variant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::{EPOCH, Fixture, OS};

    #[test]
    fn a_commit_says_what_was_written_into_it() {
        let fixture = Fixture::new().unwrap();
        let written = fixture.commit(OS).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        assert!(repo.commit_of("no/such").is_err());
        let checksum = repo.commit_of(&written[..12]).unwrap();
        let facts = repo.commit_facts(checksum).unwrap();
        assert_eq!(facts.checksum.hex(), written);
        assert_eq!(Digest::of(&facts.bytes), checksum);
        assert_eq!(
            (facts.subject.as_str(), facts.timestamp),
            ("fixture", EPOCH)
        );
        assert_eq!((facts.parent, facts.detached.as_ref()), (None, None));
        assert_eq!(facts.text("version").unwrap().as_deref(), Some("1"));
        assert_eq!(facts.flag("ostree.bootable").unwrap(), Some(true));
        assert_eq!(facts.texts("none").unwrap(), None);
        let error = facts.text("ostree.bootable").unwrap_err().to_string();
        assert_eq!(error, "the commit's metadata ostree.bootable is not a text");
        let root = repo.commit_root(&written).unwrap();
        assert_eq!((facts.tree, facts.meta), root);
    }
}
