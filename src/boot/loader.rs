//! libostree's boot entries of a sysroot. A path comes in, entries in boot order go out. Reads
//! only.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::entry::{self, BlsEntry, EntryError};

/// Entries that are read at most; libostree keeps two and what is pinned.
const MAX_ENTRIES: usize = 1000;
/// How often a directory is read that changes meanwhile.
const MAX_LOOKS: u32 = 5;

/// The entries of `boot/loader/entries` with their file names, what boots first at the front. A
/// sysroot without any gives an empty list; a file that is no entry is left out.
#[context("Reading the boot entries of {}", sysroot.display())]
pub fn entries(sysroot: &Path) -> Result<Vec<(String, BlsEntry)>> {
    let mut found = Vec::new();
    for (name, entry) in read_entries(&sysroot.join("boot/loader/entries"))? {
        match entry {
            Ok(entry) => found.push((name, entry)),
            Err(error) => tracing::warn!("boot/loader/entries/{name} is left out: {error}"),
        }
    }
    // What has no version cannot be libostree's: it boots last.
    found.sort_by(|(a, x), (b, y)| y.version().cmp(&x.version()).then_with(|| a.cmp(b)));
    Ok(found)
}

/// The files of entries in any directory with their names, in no order.
pub(super) fn read_entries(dir: &Path) -> Result<Vec<(String, Result<BlsEntry, EntryError>)>> {
    while_names_change(|| read_once(dir))
}

/// Looks and works again where a file was gone when its turn came: systemd-bless-boot renames entries
/// on the ESP, perhaps at this moment.
pub(super) fn while_names_change<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..MAX_LOOKS {
        match work() {
            Err(error) if is_gone(&error) => {}
            done => return done,
        }
    }
    work()
}

fn is_gone(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

fn read_once(dir: &Path) -> Result<Vec<(String, Result<BlsEntry, EntryError>)>> {
    let mut found = Vec::new();
    for path in conf_files(dir)? {
        let what = || path.display().to_string();
        let metadata = match path.metadata() {
            // A link that leads nowhere.
            Err(_) if path.is_symlink() => continue,
            other => other.with_context(what)?,
        };
        if !metadata.is_file() {
            continue;
        }
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        let entry = match size > entry::LIMIT {
            true => Err(EntryError::TooLarge(size)),
            false => BlsEntry::parse(&std::fs::read(&path).with_context(what)?),
        };
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            found.push((name.to_owned(), entry));
        }
    }
    Ok(found)
}

fn conf_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| dir.display().to_string())?,
    };
    let mut files = Vec::new();
    for file in list {
        let path = file.with_context(|| dir.display().to_string())?.path();
        if path.extension().is_some_and(|e| e == "conf") {
            files.push(path);
        }
        anyhow::ensure!(
            files.len() <= MAX_ENTRIES,
            "{} holds too many entries",
            dir.display()
        );
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_has_gone_is_looked_for_again() {
        for (fails, kind, expected, times) in [
            (0, io::ErrorKind::NotFound, Ok(0), 1),
            (2, io::ErrorKind::NotFound, Ok(2), 3),
            (
                9,
                io::ErrorKind::NotFound,
                Err(io::ErrorKind::NotFound),
                MAX_LOOKS,
            ),
            (
                9,
                io::ErrorKind::StorageFull,
                Err(io::ErrorKind::StorageFull),
                1,
            ),
        ] {
            let mut calls = 0;
            let done = while_names_change(|| {
                calls += 1;
                match calls <= fails {
                    true => Err(anyhow::Error::from(io::Error::from(kind)).context("Renaming")),
                    false => Ok(calls - 1),
                }
            });
            let done = done.map_err(|error| error.downcast::<io::Error>().unwrap().kind());
            assert_eq!((done, calls), (expected, times));
        }
    }

    #[test]
    fn what_is_no_file_is_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("a.conf");
        fs::write(&entry, "version 1\n").unwrap();
        fs::create_dir(dir.path().join("b.conf")).unwrap();
        symlink("nowhere", dir.path().join("c.conf")).unwrap();
        symlink("a.conf", dir.path().join("d.conf")).unwrap();
        fs::write(dir.path().join("e.txt"), "version 2\n").unwrap();
        let mut names: Vec<_> = read_entries(dir.path())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.sort();
        assert_eq!(names, ["a.conf", "d.conf"]);
        assert_eq!(read_entries(&dir.path().join("none")).unwrap().len(), 0);
    }
}
