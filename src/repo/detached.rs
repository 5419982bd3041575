//! Detached metadata of commits: notes that may change while the commit does not. Dictionaries come in
//! and go out, and are on the disk whole or not at all. What is damaged counts as not there: libostree
//! writes such files without waiting for the disk, so that a power cut leaves them empty or full of
//! zeros, and its dictionaries end the program over such bytes.
//!
//! Shape: libostree, `ostree_repo_write_commit_detached_metadata`, `a{sv}`.

use std::io::{self, Write};

use anyhow::Result;
use fn_error_context::context;
use ostree::glib::{Variant, VariantDict};

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
        let data = match sysfs::read_optional(self.objects(), &path, MAX_SIZE) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(Vec::new()),
            data => data?,
        };
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
        let data = dictionary.normal_form();
        let parent = sysfs::open_dir(self.objects(), &path[..2])?;
        self.replace(parent, &path[3..], |file| file.write_all(data.data()))?;
        Ok(())
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
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(noted(&repo), None, "a directory");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, good).unwrap();
        assert_eq!(noted(&repo), Some((7, 9)));
        let left: Vec<_> = fixture.path().join("tmp").read_dir().unwrap().collect();
        assert!(left.iter().all(|e| {
            let name = e.as_ref().unwrap().file_name();
            !name.to_string_lossy().starts_with("replace-")
        }));
    }
}
