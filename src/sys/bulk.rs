//! Whole directory trees: how large they are, and removing them. Paths come in. Never follows a
//! link, never leaves the tree.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{IFlags, Mode, OFlags};

/// Removes a file or a tree, immutable directories included; no error when it is not there.
pub fn remove(path: &Path) -> Result<()> {
    let what = || format!("Removing {}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(what),
        Ok(meta) if !meta.is_dir() => return fs::remove_file(path).with_context(what),
        Ok(_) => {}
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    // libostree makes the top directory of each deployment immutable.
    clear_immutable(path).with_context(what)?;
    fs::remove_dir_all(path).with_context(what)
}

/// Takes the immutable flag off every directory of a tree.
pub fn clear_immutable(path: &Path) -> io::Result<()> {
    set_immutable(path, false)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clear_immutable(&entry.path())?;
        }
    }
    Ok(())
}

/// Sets or takes the immutable flag of a directory, where its file system has such flags.
pub fn set_immutable(path: &Path, immutable: bool) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty())?;
    let Ok(mut flags) = rustix::fs::ioctl_getflags(&dir) else {
        return Ok(());
    };
    if flags.contains(IFlags::IMMUTABLE) == immutable {
        return Ok(());
    }
    flags.set(IFlags::IMMUTABLE, immutable);
    Ok(rustix::fs::ioctl_setflags(&dir, flags)?)
}

/// What a tree takes on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, each file rounded up to whole blocks of 4096 bytes and counted once.
    pub bytes: u64,
    /// Files and directories, each counted once.
    pub files: u64,
}

/// Adds up a tree; files with several names count once.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let mut seen = BTreeSet::new();
    let mut usage = Usage::default();
    add(path, &mut seen, &mut usage)?;
    Ok(usage)
}

fn add(path: &Path, seen: &mut BTreeSet<(u64, u64)>, usage: &mut Usage) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.nlink() > 1 && !meta.is_dir() && !seen.insert((meta.dev(), meta.ino())) {
        return Ok(());
    }
    usage.files += 1;
    usage.bytes += meta.len().div_ceil(4096) * 4096;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            add(&entry?.path(), seen, usage)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::write(path.join("a"), vec![0; 5000]).unwrap();
        fs::hard_link(path.join("a"), path.join("b")).unwrap();
        fs::write(path.join("c"), "x").unwrap();
        let top = path.metadata().unwrap().len().div_ceil(4096) * 4096;
        let expected = Usage {
            bytes: top + 8192 + 4096,
            files: 3,
        };
        assert_eq!(usage(path).unwrap(), expected);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("d")).unwrap();
        fs::write(dir.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink("../../kept", tree.join("d/link")).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(dir.path().join("kept").exists());
        remove(&tree).unwrap();
    }
}
