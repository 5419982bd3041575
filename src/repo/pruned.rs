//! How a repository was when it had last been pruned, so that a prune that would find nothing can be spared.
//! A look at the directories of objects and the commits that refs lead to come in, yes or no goes out.
//! A cache: without it, or when in doubt, the answer is no.
//!
//! ```text
//! REPO/extensions/bowline/pruned   16 bytes of magic, 32 that stand for the directories of objects, then
//!                                  the commits that refs led to, 32 bytes each, sorted
//! ```
//!
//! A directory of objects changes with every object that is added or taken away, whoever does it. While
//! none has changed and the same commits are kept, nothing can have become superfluous.

use std::collections::BTreeSet;
use std::io::{self, Write};

use anyhow::{Context, Result};
use ostree::gio;
use rustix::fs::AtFlags;
use sha2::{Digest as _, Sha256};

use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

const MAGIC: &[u8; 16] = b"bowline pruned 1";
const NAME: &str = "pruned";
/// Largest such file that is read: a hundred thousand commits.
const MAX_SIZE: u64 = 32 * 100_000;

impl Repo {
    /// Whether nothing can have become superfluous since the last prune.
    pub(super) fn is_still_pruned(&self) -> Result<bool> {
        let noted = sysfs::read_optional(self.extension_dir()?, NAME, MAX_SIZE)?;
        let Some(noted) = noted else {
            return Ok(false);
        };
        let now = self.state()?;
        let (same, commits) = match noted.split_at_checked(now.fixed.len()) {
            Some((fixed, commits)) => (fixed == now.fixed, commits),
            None => return Ok(false),
        };
        let kept = |commit: &[u8]| now.commits.iter().any(|kept| kept.as_bytes() == commit);
        Ok(same && !self.has_mirrors()? && commits.chunks(32).all(kept))
    }

    /// Notes that nothing superfluous is here.
    pub(super) fn note_pruned(&self) -> Result<()> {
        let state = self.state()?;
        let commits = state.commits.iter().flat_map(|commit| *commit.as_bytes());
        let bytes: Vec<u8> = state.fixed.into_iter().chain(commits).collect();
        self.replace(self.extension_dir()?, NAME, |file| file.write_all(&bytes))?;
        Ok(())
    }

    fn state(&self) -> Result<State> {
        let refs = self.ostree().list_refs(None, gio::Cancellable::NONE);
        let commits = refs.context("Listing refs")?.into_values();
        let commits = commits.map(|commit| Digest::from_hex(&commit));
        let objects = self.objects_state().context("Looking at the objects")?;
        Ok(State {
            fixed: [&MAGIC[..], &objects[..]].concat(),
            commits: commits.collect::<Result<_, _>>()?,
        })
    }

    fn objects_state(&self) -> io::Result<[u8; 32]> {
        let mut hasher = Sha256::new();
        for part in 0..=255u8 {
            match rustix::fs::statat(self.objects(), format!("{part:02x}"), AtFlags::empty()) {
                Ok(stat) => {
                    hasher.update([part]);
                    hasher.update(stat.st_ino.to_be_bytes());
                    hasher.update(stat.st_mtime.to_be_bytes());
                    hasher.update(stat.st_mtime_nsec.to_be_bytes());
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(hasher.finalize().into())
    }

    /// Refs of mirrored collections keep commits, too; nobody has them on a host.
    fn has_mirrors(&self) -> io::Result<bool> {
        let refs = sysfs::open_dir(self.dir(), "refs")?;
        match sysfs::is_dir(&refs, "mirrors") {
            Ok(true) => Ok(!sysfs::list(sysfs::open_dir(&refs, "mirrors")?)?.is_empty()),
            _ => Ok(false),
        }
    }
}

/// What is noted.
struct State {
    fixed: Vec<u8>,
    commits: BTreeSet<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::{Fixture, OS};

    struct Scene {
        fixture: Fixture,
        repo: Repo,
    }

    impl Scene {
        fn new() -> Self {
            let fixture = Fixture::new().unwrap();
            let repo = Repo::open(fixture.path()).unwrap();
            Self { fixture, repo }
        }

        fn commit(&self, more: &str, name: Option<&str>) -> String {
            let commit = self.fixture.commit(&format!("{OS}\n{more}\n")).unwrap();
            if let Some(name) = name {
                self.set(name, Some(&commit));
            }
            commit
        }

        fn set(&self, name: &str, commit: Option<&str>) {
            let repo = self.repo.ostree();
            repo.set_ref_immediate(None, name, commit, gio::Cancellable::NONE)
                .unwrap();
        }

        /// Whether two prunes need not look.
        fn prune_is_spared(&self) -> [bool; 2] {
            [(); 2].map(|()| {
                let spared = self.repo.is_still_pruned().unwrap_or(false);
                self.repo.prune().unwrap();
                spared
            })
        }

        /// Whether a prune need not look, and what it removes then.
        fn prune(&self) -> (bool, u64) {
            let spared = self.repo.is_still_pruned().unwrap();
            (spared, self.repo.prune().unwrap().objects)
        }
    }

    #[test]
    fn a_prune_that_would_find_nothing_is_spared_and_no_other() {
        let scene = Scene::new();
        let one = scene.commit("file /usr/one 0 0 644 1", Some("one"));
        assert!(!scene.prune().0);
        assert_eq!(scene.prune(), (true, 0));
        // Another name for the same, and the first name gone.
        scene.set("more", Some(&one));
        scene.set("one", None);
        assert_eq!(scene.prune(), (true, 0));
        // Objects that no ref leads to, as an interrupted prune leaves them.
        scene.commit("file /usr/two 0 0 644 2", None);
        let (spared, removed) = scene.prune();
        assert!(!spared && removed >= 2, "{removed}");
        assert_eq!(scene.prune(), (true, 0));
        // A commit that is kept no longer.
        scene.commit("file /usr/three 0 0 644 3", Some("three"));
        assert_eq!(scene.prune(), (false, 0));
        scene.set("more", None);
        let (spared, removed) = scene.prune();
        assert!(!spared && removed >= 2, "{removed}");
        assert_eq!(scene.prune(), (true, 0));
    }

    #[test]
    fn a_note_that_is_lost_or_wrong_spares_nothing() {
        let scene = Scene::new();
        scene.commit("", Some("one"));
        scene.prune();
        let path = scene.fixture.path().join("extensions/bowline/pruned");
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), 16 + 32 + 32);
        let mut other = good.clone();
        other[20] ^= 1;
        for bad in [&good[..0], &good[..40], &good[..79], &other, b"x"] {
            std::fs::write(&path, bad).unwrap();
            assert!(!scene.repo.is_still_pruned().unwrap(), "{}", bad.len());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!scene.repo.is_still_pruned().unwrap());
        // What is no file is not waited for, and the next note takes its place.
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        assert!(scene.repo.is_still_pruned().is_err());
        assert_eq!(scene.prune_is_spared(), [false, true]);
        std::fs::write(&path, good).unwrap();
        assert!(scene.repo.is_still_pruned().unwrap());
        let mirrors = scene.fixture.path().join("refs/mirrors/org.example");
        std::fs::create_dir_all(mirrors).unwrap();
        assert!(!scene.repo.is_still_pruned().unwrap());
    }
}
