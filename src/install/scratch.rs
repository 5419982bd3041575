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
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;

use super::InstallError;
use crate::image::Digest;
use crate::sys;
use crate::sysroot::{self, LockedSysroot, Sysroot};

/// A scratch directory. Dropping it removes it, unless something worth keeping was fetched.
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
        let key = Digest::of(target.as_os_str().as_encoded_bytes()).hex();
        let path = place.join(format!("bowline-install-{}", &key[..12]));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let lock = File::from(sys::fs::open_dir_path(&path)?);
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
    pub fn sysroot(&self) -> Result<LockedSysroot> {
        let path = self.join("sysroot");
        if !path.join("ostree/repo/config").exists() {
            sys::bulk::remove(&path)?;
            fs::DirBuilder::new().mode(0o755).create(&path)?;
            sysroot::initialize(&path)?;
        }
        let (deploy, boot) = (path.join("ostree/deploy"), path.join("boot"));
        for dir in [&deploy, &boot] {
            sys::bulk::remove(dir)?;
            fs::DirBuilder::new().mode(0o755).create(dir)?;
        }
        Sysroot::open_locked(&path)
    }

    /// From now on an interruption leaves the directory.
    pub fn keep(&mut self) {
        self.keep = true;
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

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
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
