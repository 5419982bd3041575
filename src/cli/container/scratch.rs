//! A directory for what a command makes on the way: the place comes in, a new directory that only its
//! owner may look into goes out, and goes away with the work. What a run that was killed has left in the
//! same place goes with the next one. Never touches what belongs to another user or is in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;
use rustix::fs::{Mode, OFlags};

use crate::sys::fs::{random_name, try_lock};

const PREFIX: &str = "bowline-build-";

/// The directory; dropping it removes it.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Scratch {
    /// Makes one below `place`.
    #[context("Making a directory for the work in {}", place.display())]
    pub(super) fn new(place: &Path) -> Result<Self> {
        remove_abandoned(place)?;
        loop {
            let path = place.join(random_name(PREFIX));
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            // Another run may have taken it for an abandoned one before it was locked.
            if let Some(lock) = lock(&path)? {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Removes the directories of this user that nobody holds the lock of.
fn remove_abandoned(place: &Path) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_own = is_named && entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == own);
        if !is_own {
            continue;
        }
        let path = entry.path();
        if let Some(_lock) = lock(&path)? {
            tracing::info!("removing {}, which an interrupted run left", path.display());
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// The locked directory; `None` where somebody else holds the lock or it is gone.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(path, flags, Mode::empty()) else {
        return Ok(None);
    };
    let dir = File::from(dir);
    let is_free = try_lock(&dir)?;
    let opened = dir.metadata()?;
    let is_there = fs::symlink_metadata(path)
        .is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino()));
    Ok((is_free && is_there).then_some(dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_nobody_uses_goes_and_the_rest_stays() {
        let place = tempfile::tempdir().unwrap();
        let in_use = Scratch::new(place.path()).unwrap();
        let left = place.path().join("bowline-build-left");
        fs::create_dir_all(left.join("repo/objects")).unwrap();
        let other = place.path().join("other");
        fs::create_dir(&other).unwrap();
        symlink(&other, place.path().join("bowline-build-link")).unwrap();
        fs::write(place.path().join("bowline-build-file"), "").unwrap();

        let new = Scratch::new(place.path()).unwrap();
        let mode = fs::metadata(new.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(!left.exists() && in_use.path().exists() && other.exists());
        let (first, second) = (in_use.path().to_owned(), new.path().to_owned());
        drop((in_use, new));
        assert!(!first.exists() && !second.exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_place_that_is_not_there_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let error = Scratch::new(&place.path().join("none")).unwrap_err();
        assert!(format!("{error:#}").contains("Making a directory for the work in"));
    }
}
