//! A root that holds something already becomes a sysroot: what is there is looked at, removed, or
//! left beside. A mounted root comes in; an opened sysroot without deployments goes out. The files
//! of another system stay as they are unless their removal was asked for.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use rustix::fs::{CWD, RenameFlags};

use super::request::Existing;
use super::{InstallError, mounts};
use crate::sys::bulk;
use crate::sys::fs::sync_filesystem;
use crate::sysroot::{self, LockedSysroot, Sysroot};

/// There while an installation is under way, below the root.
const MARK: &str = "ostree/bowline/unfinished";
/// Names at the top, and below `boot`, that a new file system, mount points, or we have.
const OURS: [&str; 5] = ["boot", "efi", "lost+found", "ostree", "loader"];

/// There on every host that ostree booted.
const BOOTED_MARK: &str = "/run/ostree-booted";

/// Refuses the root of a running system that boots from an image already.
pub fn refuse_booted(root: &Path) -> Result<(), InstallError> {
    match root == Path::new("/") && Path::new(BOOTED_MARK).exists() {
        true => Err(InstallError::Options(
            "this system boots from an image already: `bowline rebase IMAGE` changes which".into(),
        )),
        false => Ok(()),
    }
}

/// Refuses to remove the files of the system that runs: what installs is among them.
pub fn refuse_wiping_itself(root: &Path, existing: Existing) -> Result<(), InstallError> {
    match root == Path::new("/") && existing == Existing::Wipe {
        true => Err(InstallError::Options(
            "this system runs from /, so that cannot be wiped: `bowline install to-existing-root` \
             takes it over, and leaves its files beside the new system"
                .into(),
        )),
        false => Ok(()),
    }
}

/// Opens the sysroot at `root`, which becomes one if it is none.
#[context("Preparing {}", root.display())]
pub fn open(root: &Path, existing: Existing) -> Result<LockedSysroot> {
    if !root.join(MARK).exists() {
        make_room(root, existing)?;
    }
    // Before libostree looks at it.
    keep_entries(&root.join("boot"))?;
    sysroot::initialize_beside(root)?;
    let mark = root.join(MARK);
    fs::create_dir_all(mark.with_file_name(""))?;
    File::create(&mark)?.sync_all()?;
    let sysroot = Sysroot::open_locked(root)?;
    if !sysroot.deployments()?.is_empty() {
        // Of the interrupted run: nothing else can be here.
        sysroot.write_boot_order(&[])?;
        sysroot.clean_deployments()?;
    }
    Ok(sysroot)
}

/// The installation is complete.
pub fn finish(root: &Path) -> Result<()> {
    let mark = root.join(MARK);
    fs::remove_file(&mark).with_context(|| format!("Removing {}", mark.display()))
}

/// Refuses, removes or leaves what is in the root.
fn make_room(root: &Path, existing: Existing) -> Result<()> {
    let deployments = root.join("ostree/deploy");
    let deployed = deployments
        .read_dir()
        .is_ok_and(|mut dir| dir.next().is_some());
    if deployed && existing != Existing::Wipe {
        return Err(InstallError::Deployed(root.into()).into());
    }
    let found = contents(root)?;
    match existing {
        Existing::Refuse if !found.is_empty() => {
            let path = root.into();
            Err(InstallError::NotEmpty { path, found }.into())
        }
        Existing::Wipe => clear(root, root, &mounts_below(root)?),
        Existing::Refuse | Existing::Keep => Ok(()),
    }
}

/// What is in a root besides empty directories of ours: names, a few of them.
fn contents(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for dir in ["", "boot"] {
        for entry in read_dir(&root.join(dir))? {
            let name = entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !OURS.contains(&name.as_str()) {
                found.push(format!("{}", Path::new("/").join(dir).join(name).display()));
            }
        }
    }
    found.sort();
    found.truncate(5);
    Ok(found)
}

/// Places of mounts below a root.
fn mounts_below(root: &Path) -> Result<Vec<PathBuf>> {
    let places = mounts::table()?.into_iter().map(|mount| mount.place);
    Ok(places
        .filter(|p| p != root && p.starts_with(root))
        .collect())
}

/// Removes everything below `dir` but what is mounted there, however deep; of what is mounted,
/// `boot` alone. `mounts` are the places of mounts below `root`.
fn clear(root: &Path, dir: &Path, mounts: &[PathBuf]) -> Result<()> {
    for path in read_dir(dir)? {
        let is_dir = fs::symlink_metadata(&path)?.is_dir();
        let is_boot = is_dir && path == root.join("boot");
        let is_mount = mounts.contains(&path);
        let is_above = mounts.iter().any(|m| *m != path && m.starts_with(&path));
        if is_boot || (is_above && !is_mount) {
            clear(root, &path, mounts)?;
        } else if !is_mount && !path.ends_with("lost+found") {
            bulk::remove(&path)?;
        }
    }
    Ok(())
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("Reading {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(what)?,
    };
    entries
        .map(|entry| Ok(entry.with_context(what)?.path()))
        .collect()
}

/// libostree wants `boot/loader` to be a link that it can switch; on some systems it is a
/// directory with boot entries. They stay in force, by way of the link, until there are new ones.
#[context("Keeping the boot entries in {}", boot.display())]
fn keep_entries(boot: &Path) -> Result<()> {
    let loader = boot.join("loader");
    match fs::symlink_metadata(&loader) {
        Ok(meta) if meta.is_dir() => {}
        _ => return Ok(()),
    }
    let first = boot.join("loader.0");
    copy(&loader, &first)?;
    let link = boot.join("loader.before-bowline");
    bulk::remove(&link)?;
    std::os::unix::fs::symlink("loader.0", &link)?;
    sync_filesystem(boot)?;
    // In one step: there is always something at this name, with the same entries.
    rustix::fs::renameat_with(CWD, &link, CWD, &loader, RenameFlags::EXCHANGE)?;
    Ok(sync_filesystem(boot)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in read_dir(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy(&path, &target)?,
            false => drop(fs::copy(&path, &target)?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::samples;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let files: Vec<_> = paths.iter().map(|path| (*path, "x")).collect();
        samples::files(&files).unwrap()
    }

    #[test]
    fn what_a_root_holds_is_told() {
        let dir = tree(&[
            "lost+found/x",
            "boot/efi/EFI/x",
            "efi/x",
            "ostree/repo/config",
        ]);
        assert_eq!(contents(dir.path()).unwrap(), [""; 0]);
        let dir = tree(&["etc/x", "boot/vmlinuz", "home/x"]);
        assert_eq!(
            contents(dir.path()).unwrap(),
            ["/boot/vmlinuz", "/etc", "/home"]
        );
    }

    #[test]
    fn a_root_is_cleared_but_for_what_is_not_its_own() {
        let dir = tree(&["etc/x", "boot/grub/x", "lost+found/x"]);
        clear(dir.path(), dir.path(), &[]).unwrap();
        assert_eq!(contents(dir.path()).unwrap(), [""; 0]);
        assert!(dir.path().join("lost+found/x").exists());
        assert!(dir.path().join("boot").exists());
    }

    #[test]
    fn other_file_systems_stay_wherever_they_are_mounted() {
        let kept = [
            "boot/efi/EFI/x",
            "srv/x",
            "var/lib/db/data/x",
            "var/lib/db/data/y/z",
        ];
        let own = [
            "boot/vmlinuz",
            "etc/x",
            "var/lib/x",
            "var/lib/db/x",
            "var/x",
        ];
        let dir = tree(&[&kept[..], &own].concat());
        let root = dir.path();
        let mounts = ["boot", "boot/efi", "srv", "var/lib/db/data"].map(|place| root.join(place));
        clear(root, root, &mounts).unwrap();
        for path in kept {
            assert!(root.join(path).exists(), "{path}");
        }
        for path in own {
            assert!(!root.join(path).exists(), "{path}");
        }
    }

    #[test]
    fn a_link_at_boot_is_not_followed() {
        let (dir, other) = (tree(&["etc/x"]), tree(&["vmlinuz"]));
        std::os::unix::fs::symlink(other.path(), dir.path().join("boot")).unwrap();
        clear(dir.path(), dir.path(), &[]).unwrap();
        assert!(other.path().join("vmlinuz").exists());
        assert!(fs::symlink_metadata(dir.path().join("boot")).is_err());
    }

    #[test]
    fn a_running_system_is_not_wiped() {
        let refused = |root: &str, existing| refuse_wiping_itself(Path::new(root), existing);
        assert!(refused("/", Existing::Wipe).is_err());
        assert_eq!(refused("/", Existing::Keep), Ok(()));
        assert_eq!(refused("/mnt", Existing::Wipe), Ok(()));
    }

    #[test]
    fn a_directory_of_entries_becomes_a_link_to_the_same() {
        let dir = tree(&["loader/entries/fedora.conf", "loader/loader.conf"]);
        let boot = dir.path();
        keep_entries(boot).unwrap();
        assert_eq!(
            fs::read_link(boot.join("loader")).unwrap(),
            Path::new("loader.0")
        );
        assert!(boot.join("loader/entries/fedora.conf").exists());
        assert!(boot.join("loader.before-bowline/loader.conf").exists());
        keep_entries(boot).unwrap();
        assert!(boot.join("loader.before-bowline/loader.conf").exists());
    }
}
