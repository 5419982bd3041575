//! A scratch sysroot: an initialised, empty `/sysroot` in a temporary directory. Nothing comes in,
//! a path goes out. Needs root, as deployments belong to it. Never touches the running host.

use std::path::Path;

use anyhow::Result;
use fn_error_context::context;
use rustix::fs::{IFlags, Mode, OFlags};
use tempfile::TempDir;

const NONE: Option<&ostree::gio::Cancellable> = None;

/// The temporary directory of a sysroot. Dropping it removes it, immutable deployments included.
#[derive(Debug)]
pub struct ScratchSysroot {
    dir: TempDir,
}

impl ScratchSysroot {
    /// Makes a sysroot with the stateroot `default` and a `/boot` directory.
    #[context("Making a scratch sysroot")]
    pub fn new() -> Result<Self> {
        // Not /tmp: it may be a tmpfs, which has no user.* attributes before Linux 6.6.
        let dir = TempDir::with_prefix_in("bowline-sysroot-", "/var/tmp")?;
        let file = ostree::gio::File::for_path(dir.path());
        let sysroot = ostree::Sysroot::new(Some(&file));
        std::fs::create_dir(dir.path().join("boot"))?;
        sysroot.ensure_initialized(NONE)?;
        sysroot.load(NONE)?;
        sysroot.init_osname("default", NONE)?;
        Ok(Self { dir })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ScratchSysroot {
    fn drop(&mut self) {
        let Ok(stateroots) = self.path().join("ostree/deploy").read_dir() else {
            return;
        };
        let deploys = stateroots.flatten().map(|s| s.path().join("deploy"));
        let trees = deploys
            .filter_map(|d| d.read_dir().ok())
            .flatten()
            .flatten();
        trees.for_each(|tree| clear_immutable(&tree.path()));
    }
}

/// Takes the immutable flag off a directory. What cannot be cleared stays, and so does the
/// directory: there is nobody to tell while dropping.
fn clear_immutable(path: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    if let Ok(dir) = rustix::fs::open(path, flags, Mode::empty()) {
        let _ = rustix::fs::ioctl_setflags(&dir, IFlags::empty());
    }
}
