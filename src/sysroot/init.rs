//! Turning an empty directory into a sysroot, as `ostree admin init-fs --modern` does. Never
//! touches a directory that holds anything else.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use ostree::gio;

use super::SysrootError;
use super::error::from_glib;
use super::handle::NO_CANCEL;

/// Names that an interrupted initialisation, or a new file system, may have at its top.
const OWN: [&str; 3] = ["boot", "lost+found", "ostree"];

/// Makes the empty directory `path` a sysroot: `boot`, and `ostree` with an empty repository.
///
/// An interruption leaves a directory that still counts as empty; the next call finishes it.
#[context("Initialising a sysroot in {}", path.display())]
pub fn initialize(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return Err(SysrootError::NoDirectory(path.into()).into());
    }
    if !is_blank(path)? {
        return Err(SysrootError::NotEmpty(path.into()).into());
    }
    let boot = path.join("boot");
    match fs::DirBuilder::new().mode(0o755).create(&boot) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => other.with_context(|| format!("Creating {}", boot.display()))?,
    }
    let sysroot = ostree::Sysroot::new(Some(&gio::File::for_path(path)));
    sysroot.ensure_initialized(NO_CANCEL).map_err(from_glib)
}

/// Makes a directory that may hold another system a sysroot, beside what is there. Changes nothing
/// in one that is a sysroot already.
#[context("Initialising a sysroot in {}", path.display())]
pub fn initialize_beside(path: &Path) -> Result<()> {
    fs::create_dir_all(path.join("boot"))?;
    let sysroot = ostree::Sysroot::new(Some(&gio::File::for_path(path)));
    sysroot.ensure_initialized(NO_CANCEL).map_err(from_glib)
}

/// Whether nothing is lost when `path` becomes a sysroot: no file anywhere, and at the top no
/// directory that is not ours.
pub(super) fn is_blank(path: &Path) -> Result<bool> {
    let what = || format!("Reading {}", path.display());
    for entry in fs::read_dir(path).with_context(what)? {
        let entry = entry.with_context(what)?;
        let ours = entry.file_name().to_str().is_some_and(|n| OWN.contains(&n));
        if !ours || !has_no_files(&entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_no_files(path: &Path) -> Result<bool> {
    let what = || format!("Reading {}", path.display());
    if !fs::symlink_metadata(path).with_context(what)?.is_dir() {
        // An interrupted initialisation may have written the lock or a temporary file of it.
        return Ok(path.ends_with("ostree/lock"));
    }
    for entry in fs::read_dir(path).with_context(what)? {
        if !has_no_files(&entry.with_context(what)?.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_no_file_is_blank() {
        let blank = |paths: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            for path in paths {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                if path.to_str().unwrap().ends_with('/') {
                    fs::create_dir_all(path).unwrap();
                } else {
                    fs::write(path, "").unwrap();
                }
            }
            is_blank(dir.path()).unwrap()
        };
        assert!(blank(&[]));
        assert!(blank(&[
            "boot/",
            "lost+found/",
            "ostree/repo/objects/",
            "ostree/lock"
        ]));
        assert!(!blank(&["home/"]));
        assert!(!blank(&["boot/vmlinuz"]));
        assert!(!blank(&["ostree"]));
        assert!(!blank(&["ostree/repo/config"]));
    }
}
