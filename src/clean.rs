//! What must not be in an image is taken out of its root file system, as the last step of a build. A
//! root comes in; `/run`, `/tmp`, `/var/tmp` and `/var/cache` are empty afterwards. Never follows a link,
//! and never enters what is mounted: a build mounts caches and secrets there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sys::fs as sysfs;

/// Directories whose content no host sees: others are mounted there, or it is made anew.
pub const EMPTIED: [&str; 4] = ["run", "tmp", "var/tmp", "var/cache"];

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Names that were removed, directories included.
    pub removed: u64,
    /// Mounts that were left alone.
    pub mounts: u64,
}

/// Whether a service manager runs on this root: then it is a host, whose `/run` is in use.
pub fn is_booted(root: &Path) -> io::Result<bool> {
    root.join("run/systemd/system").try_exists()
}

/// Empties the directories in the file system below `root`.
#[context("Cleaning {}", root.display())]
pub fn run(root: &Path) -> Result<Cleaned> {
    let root = sysfs::open_dir_path(root)?;
    let mut cleaned = Cleaned::default();
    for name in EMPTIED {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let dir = match rustix::fs::openat2(&root, name, flags, Mode::empty(), within) {
            Ok(dir) => dir,
            Err(Errno::XDEV) => {
                cleaned.mounts += 1;
                continue;
            }
            // /var/tmp may well be a link to /tmp.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => continue,
            Err(errno) => return Err(errno).context(format!("Opening /{name}")),
        };
        let mount = sysfs::mount_of(&dir, OsStr::new(""))?;
        empty(&dir, mount, &mut cleaned).with_context(|| format!("Emptying /{name}"))?;
    }
    Ok(cleaned)
}

/// Removes what is in a directory; tells whether all of it is gone.
fn empty(dir: &OwnedFd, mount: u64, cleaned: &mut Cleaned) -> io::Result<bool> {
    let mut all = true;
    for name in names(dir)? {
        let found = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if sysfs::mount_of(dir, &name)? != mount {
            cleaned.mounts += 1;
            all = false;
            continue;
        }
        let flags = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(dir, &name, flags, Mode::empty())?;
                if !empty(&below, mount, cleaned)? {
                    all = false;
                    continue;
                }
                AtFlags::REMOVEDIR
            }
            _ => AtFlags::empty(),
        };
        rustix::fs::unlinkat(dir, &name, flags)?;
        cleaned.removed += 1;
    }
    Ok(all)
}

fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::samples;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            samples::write(dir.path(), file, "x").unwrap();
        }
        dir
    }

    #[test]
    fn empties_what_no_host_sees_and_nothing_else() {
        let tree = tree(&[
            "run/systemd/resolve/stub",
            "tmp/a/b/c",
            "tmp/d",
            "var/tmp/x",
            "var/cache/apt/y",
            "var/lib/z",
            "usr/bin/sh",
            "etc/fstab",
        ]);
        let root = tree.path();
        symlink("/etc/passwd", root.join("tmp/link")).unwrap();
        let done = run(root).unwrap();
        assert_eq!(
            done,
            Cleaned {
                removed: 11,
                mounts: 0
            }
        );
        for empty in EMPTIED {
            assert_eq!(root.join(empty).read_dir().unwrap().count(), 0, "{empty}");
        }
        for kept in ["var/lib/z", "usr/bin/sh", "etc/fstab"] {
            assert!(root.join(kept).exists(), "{kept}");
        }
        assert_eq!(run(root).unwrap(), Cleaned::default());
    }

    #[test]
    fn links_are_not_followed() {
        let outside = tree(&["tmp/kept", "kept"]);
        let tree = tree(&["etc/x"]);
        symlink(outside.path(), tree.path().join("var")).unwrap();
        symlink(outside.path(), tree.path().join("run")).unwrap();
        fs::create_dir(tree.path().join("tmp")).unwrap();
        symlink(outside.path(), tree.path().join("tmp/link")).unwrap();
        assert_eq!(run(tree.path()).unwrap().removed, 1);
        assert!(outside.path().join("tmp/kept").exists());
        assert!(outside.path().join("kept").exists());
    }
}
