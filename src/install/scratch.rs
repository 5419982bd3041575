//! The directory where a system is put together before anything is written to the disk. A place
//! for it comes in, a locked directory with an empty sysroot goes out. What was fetched into it
//! survives an interruption, and the next installation to the same target goes on with it.
//!
//! ```text
//! SCRATCH/bowline-install-<target>/         locked (flock) while it is in use
//!     sysroot/                              becomes the root file system
//!     esp/                                  becomes the EFI system partition
//!     *.img, *.cfg, *.tar                   images on their way to the disk
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;
use rustix::fs::{Mode, OFlags};

use super::InstallError;
use crate::deploy::DeployError;
use crate::image::Digest;
use crate::pull::Unsuitable;
use crate::repo::{Repo, system_error_kind};
use crate::sys;
use crate::sysroot::{self, LockedSysroot, Sysroot};

/// What is installed does not fit where it is put together.
#[derive(Debug, thiserror::Error)]
#[error("the scratch directory {} has too little room", path.display())]
pub struct ScratchFull {
    path: PathBuf,
    source: anyhow::Error,
}

impl ScratchFull {
    /// The same error, or this one around it where it comes from a lack of room.
    pub(crate) fn or(path: &Path, source: anyhow::Error) -> anyhow::Error {
        match source.chain().any(is_lack_of_space) {
            true => Self {
                path: path.into(),
                source,
            }
            .into(),
            false => source,
        }
    }
}

fn is_lack_of_space(cause: &(dyn std::error::Error + 'static)) -> bool {
    let of_system = cause.downcast_ref().map(std::io::Error::kind);
    let kind = of_system.or_else(|| system_error_kind(cause));
    matches!(cause.downcast_ref(), Some(Unsuitable::Space { .. }))
        || matches!(cause.downcast_ref(), Some(DeployError::NoSpace { .. }))
        || matches!(
            kind,
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        )
}

/// A scratch directory. Dropping it removes it, unless it is to be kept and something was fetched.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
    keep: bool,
}

impl Scratch {
    /// Makes the scratch directory for a target below `place`, or takes up the one that an
    /// interrupted installation left; what was deployed there goes, what was fetched stays.
    #[context("Preparing a scratch directory in {}", place.display())]
    pub fn open(place: &Path, target: &Path) -> Result<Self> {
        if !place.is_dir() {
            return Err(InstallError::NoScratch(place.into()).into());
        }
        // What boots a system is found by absolute paths only.
        let place = fs::canonicalize(place)?;
        let key = Digest::of(target.as_os_str().as_encoded_bytes()).hex();
        let path = place.join(format!("bowline-install-{}", &key[..12]));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| ScratchFull::or(&path, error.into()))?,
        }
        let lock = own_directory(&path)?;
        if !sys::fs::try_lock(&lock)? {
            return Err(InstallError::Busy(path).into());
        }
        let scratch = Self {
            path,
            _lock: lock,
            keep: false,
        };
        scratch.clear()?;
        Ok(scratch)
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// An empty sysroot in it, locked, with what an earlier run fetched.
    #[context("Preparing a sysroot in {}", self.path.display())]
    pub fn sysroot(&self) -> Result<LockedSysroot> {
        let path = self.join("sysroot");
        // One that was cut off while it was made has a configuration, and no more.
        if Repo::open(&path.join("ostree/repo")).is_err() {
            sys::bulk::remove(&path)?;
            fs::DirBuilder::new().mode(0o755).create(&path)?;
            sysroot::initialize(&path)?;
        }
        Repo::keep_little_free(&path.join("ostree/repo"), true)?;
        let (deploy, boot) = (path.join("ostree/deploy"), path.join("boot"));
        for dir in [&deploy, &boot] {
            sys::bulk::remove(dir)?;
            fs::DirBuilder::new().mode(0o755).create(dir)?;
        }
        Sysroot::open_locked(&path)
    }

    /// Gives the sysroot the configuration that it has on the disk.
    pub fn settle(&self) -> Result<()> {
        Repo::keep_little_free(&self.join("sysroot/ostree/repo"), false)
    }

    /// An error of the work in it; where it lacks room, that is said first, and nothing is kept: what
    /// runs on this host may need the room.
    pub fn blame(&mut self, error: anyhow::Error) -> anyhow::Error {
        let error = ScratchFull::or(&self.path, error);
        self.keep &= !error.is::<ScratchFull>();
        error
    }

    /// From now on a failure or an interruption leaves the directory, if anything was fetched into it.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether there are layers, or beginnings of them.
    fn has_fetched(&self) -> bool {
        let repo = self.join("sysroot/ostree/repo");
        let dirs = ["objects", "extensions/bowline/blobs"];
        let mut entries = dirs
            .iter()
            .filter_map(|dir| fs::read_dir(repo.join(dir)).ok());
        entries.any(|mut entries| entries.next().is_some())
    }

    /// Removes the directory: the installation is done.
    #[context("Removing the scratch directory {}", self.path.display())]
    pub fn finish(mut self) -> Result<()> {
        sys::bulk::remove(&self.path)?;
        self.keep = false;
        Ok(())
    }

    /// Removes what earlier runs made besides the sysroot.
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if !path.ends_with("sysroot") {
                sys::bulk::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Opens the directory, if it is ours: its place may be writable for others, who could have put a
/// link or a directory of theirs there.
fn own_directory(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let meta = fs::symlink_metadata(path)?;
    let ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    if !ours || meta.mode() & 0o022 != 0 {
        let text = format!("{} belongs to somebody else: remove it", path.display());
        return Err(InstallError::Options(text).into());
    }
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep && self.has_fetched() {
            // Made anew in any case, and immutable: without it, anybody can remove the directory.
            if let Err(error) = sys::bulk::remove(&self.join("sysroot/ostree/deploy")) {
                tracing::debug!("{error:#}");
            }
            tracing::warn!(
                "what was fetched is kept in {} for the next try; remove it if there is to be none",
                self.path.display()
            );
        } else if self.path.exists() {
            if let Err(error) = sys::bulk::remove(&self.path) {
                tracing::warn!("{} is left: {error:#}", self.path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_space_is_told_wherever_it_is_in_the_chain() {
        let place = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::open(place.path(), Path::new("/dev/x")).unwrap();
        let mut blamed = |error: anyhow::Error| {
            let error = scratch.blame(error.context("Working"));
            error.is::<ScratchFull>()
        };
        let space = Unsuitable::Space {
            image: "x".into(),
            needed: 2,
            available: 1,
            kept: 0,
        };
        assert!(blamed(space.into()));
        assert!(blamed(std::io::Error::from(ErrorKind::StorageFull).into()));
        assert!(!blamed(std::io::Error::from(ErrorKind::NotFound).into()));
    }

    #[test]
    fn what_is_not_ours_is_neither_used_nor_emptied() {
        let place = tempfile::tempdir().unwrap();
        let target = Path::new("/dev/x");
        let scratch = Scratch::open(place.path(), target).unwrap();
        let path = scratch.path.clone();
        let busy = Scratch::open(place.path(), target).unwrap_err();
        assert_eq!(busy.downcast_ref(), Some(&InstallError::Busy(path.clone())));
        drop(scratch);
        assert!(!path.exists());
        let other = place.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "theirs").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let error = Scratch::open(place.path(), target).unwrap_err();
        assert!(matches!(
            error.downcast_ref(),
            Some(InstallError::Options(_))
        ));
        assert!(other.join("file").exists());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).unwrap();
        assert!(Scratch::open(place.path(), target).is_err());
    }

    #[test]
    fn a_place_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["nonexistent", "nonexistent/x", "file"] {
            let place = dir.path().join(name);
            let error = Scratch::open(&place, Path::new("/dev/x")).unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&InstallError::NoScratch(place)));
        }
    }

    #[test]
    fn what_was_fetched_stays_for_the_next_try() {
        let place = tempfile::tempdir().unwrap();
        let target = Path::new("/dev/x");
        let mut scratch = Scratch::open(place.path(), target).unwrap();
        fs::create_dir_all(scratch.join("sysroot/ostree/deploy/x")).unwrap();
        fs::write(scratch.join("root.img"), "").unwrap();
        scratch.keep();
        drop(scratch);
        assert_eq!(place.path().read_dir().unwrap().count(), 0);
        let mut scratch = Scratch::open(place.path(), target).unwrap();
        fs::create_dir_all(scratch.join("sysroot/ostree/deploy/x")).unwrap();
        fs::create_dir_all(scratch.join("sysroot/ostree/repo/objects/ab")).unwrap();
        fs::write(scratch.join("root.img"), "").unwrap();
        scratch.keep();
        drop(scratch);
        let again = Scratch::open(place.path(), target).unwrap();
        assert!(again.join("sysroot/ostree/repo/objects/ab").exists());
        assert!(!again.join("sysroot/ostree/deploy").exists());
        assert!(!again.join("root.img").exists());
        again.finish().unwrap();
        assert_eq!(place.path().read_dir().unwrap().count(), 0);
    }
}
