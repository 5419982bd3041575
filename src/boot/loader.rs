//! libostree's boot entries of a sysroot. A path comes in, entries in boot order go out. Reads
//! only.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::entry::{self, BlsEntry, EntryError};

/// Entries that are read at most; libostree keeps two and what is pinned.
const MAX_ENTRIES: usize = 1000;

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
    let mut found = Vec::new();
    for path in conf_files(dir)? {
        let what = || path.display().to_string();
        let size = path.metadata().with_context(what)?.len();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
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
        if path.extension().is_some_and(|e| e == "conf") && path.is_file() {
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
