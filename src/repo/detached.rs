//! Detached metadata of commits: notes that may change while the commit does not. Dictionaries come in
//! and go out, and are on the disk whole or not at all. What is damaged counts as not there: libostree
//! writes such files without waiting for the disk, so that a power cut leaves them empty or full of
//! zeros, and its dictionaries end the program over such bytes.
//!
//! Shape: libostree, `ostree_repo_write_commit_detached_metadata`, `a{sv}`.

use std::io::Write;

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::glib::{Variant, VariantDict};
use rustix::fs::Mode;

use super::commit;
use super::object::ObjectKind;
use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// Largest dictionary that is read, bytes.
const MAX_SIZE: u64 = 32 << 20;

impl Repo {
    /// The detached metadata of a commit; empty where there is none, or none that can be read.
    #[context("Reading what is noted about commit {commit}")]
    pub fn detached(&self, commit: &str) -> Result<VariantDict> {
        let path = self.loose_path(Digest::from_hex(commit)?, ObjectKind::CommitMeta);
        let data = sysfs::read_optional(self.objects(), &path, MAX_SIZE)?;
        let dictionary = data.as_deref().and_then(commit::detached_dictionary);
        if data.is_some() && dictionary.is_none() {
            tracing::info!("what is noted about commit {commit} is damaged, and ignored");
        }
        Ok(VariantDict::new(dictionary.as_ref()))
    }

    /// Replaces the detached metadata of a commit. Interrupted anywhere, the old or the new is there.
    #[context("Noting something about commit {commit}")]
    pub fn set_detached(&self, commit: &str, dictionary: &Variant) -> Result<()> {
        let path = self.loose_path(Digest::from_hex(commit)?, ObjectKind::CommitMeta);
        let tmp = sysfs::open_dir(self.dir(), "tmp").context("Opening the directory tmp")?;
        let new = format!("{commit}.commitmeta-new");
        sysfs::remove_all(&tmp, &new)?;
        let mut file = sysfs::create_new(&tmp, &new)?;
        file.write_all(dictionary.normal_form().data())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        file.sync_all()?;
        rustix::fs::renameat(&tmp, &new, self.objects(), &path)?;
        let parent = sysfs::open_dir(self.objects(), &path[..2])?;
        Ok(rustix::fs::fsync(parent)?)
    }
}

#[cfg(test)]
mod tests {
    use ostree::glib::prelude::*;

    use super::*;
    use crate::testing::fixture::{Fixture, OS};

    #[test]
    fn what_a_power_cut_leaves_is_as_if_nothing_had_been_noted() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture.commit(OS).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        let noted = |repo: &Repo| {
            let dictionary = repo.detached(&commit).unwrap();
            dictionary.lookup::<(u64, u64)>("key").unwrap()
        };
        assert_eq!(noted(&repo), None);
        let dictionary = VariantDict::new(None);
        dictionary.insert_value("key", &(7u64, 9u64).to_variant());
        repo.set_detached(&commit, &dictionary.end()).unwrap();
        assert_eq!(noted(&repo), Some((7, 9)));
        let path = repo.loose_path(Digest::from_hex(&commit).unwrap(), ObjectKind::CommitMeta);
        let path = fixture.path().join("objects").join(path);
        let good = std::fs::read(&path).unwrap();
        for length in 0..good.len() {
            for bytes in [vec![0; length + 1], good[..length].to_vec()] {
                std::fs::write(&path, &bytes).unwrap();
                assert_eq!(noted(&repo), None, "{bytes:?}");
            }
        }
        std::fs::write(&path, good).unwrap();
        assert_eq!(noted(&repo), Some((7, 9)));
    }
}
