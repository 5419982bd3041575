//! Finding and reading files of settings in layers of directories. A tree and directories come
//! in; paths in the order in which they count, and parsed texts go out. Knows no key.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::ConfigError;
use crate::sys::parse;
use crate::sys::tree::{EntryKind, FileTree};

/// The largest file of settings that is read, in bytes; real ones have a few hundred.
const MAX_BYTES: u64 = 256 << 10;
/// More files than any system's settings have.
const MAX_FILES: usize = 256;

/// The files below `dirs` that end in `.suffix`: directory by directory, sorted by name.
///
/// A link to `/dev/null` hides the files of its name in the directories before. Names that start
/// with a dot do not count.
pub(super) fn files(tree: &dyn FileTree, dirs: &[&str], suffix: &str) -> Result<Vec<String>> {
    let mut found: Vec<(String, String)> = Vec::new();
    for dir in dirs {
        for (name, kind) in entries(tree, dir, suffix)? {
            match kind {
                EntryKind::File => found.push((format!("{dir}/{name}"), name)),
                EntryKind::Hidden => found.retain(|(_, other)| *other != name),
                EntryKind::Other => {}
            }
        }
    }
    check_count(found.len(), dirs)?;
    Ok(found.into_iter().map(|(path, _)| path).collect())
}

/// The files below `dirs` that end in `.suffix`, sorted by name alone; of several files of one
/// name the one in the last directory counts. This is the rule of systemd's drop-ins.
pub(super) fn drop_ins(tree: &dyn FileTree, dirs: &[&str], suffix: &str) -> Result<Vec<String>> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for dir in dirs {
        for (name, kind) in entries(tree, dir, suffix)? {
            match kind {
                EntryKind::File => drop(found.insert(name.clone(), format!("{dir}/{name}"))),
                EntryKind::Hidden => drop(found.remove(&name)),
                EntryKind::Other => {}
            }
        }
    }
    check_count(found.len(), dirs)?;
    Ok(found.into_values().collect())
}

fn entries(tree: &dyn FileTree, dir: &str, suffix: &str) -> Result<Vec<(String, EntryKind)>> {
    let found = tree.entries(dir);
    let mut found = found.with_context(|| format!("Reading {}", tree.name(dir)))?;
    found.retain(|(name, _)| {
        let stem = name.strip_suffix(suffix).and_then(|s| s.strip_suffix('.'));
        stem.is_some() && !name.starts_with('.')
    });
    Ok(found)
}

fn check_count(count: usize, dirs: &[&str]) -> Result<(), ConfigError> {
    if count > MAX_FILES {
        let problem = format!("{count} files of settings; at most {MAX_FILES} are read");
        return Err(ConfigError::file(&dirs.join(", "), problem));
    }
    Ok(())
}

/// The text of a file that [`files`] found.
pub(super) fn read(tree: &dyn FileTree, path: &str) -> Result<String> {
    let name = tree.name(path);
    match tree.read(path, MAX_BYTES) {
        // Removed since it was found: as if it had never been there.
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(ConfigError::file(&name, error.to_string()).into())
        }
        Err(error) => Err(error).with_context(|| format!("Reading {name}")),
    }
}

/// Parses YAML; a text without any value is the default.
pub(super) fn yaml<T: DeserializeOwned + Default>(
    file: &str,
    text: &str,
) -> Result<T, ConfigError> {
    let parsed: Result<Option<T>, _> = parse::yaml(text);
    let parsed = parsed.map_err(|mistake| ConfigError::text(file, mistake))?;
    Ok(parsed.unwrap_or_default())
}
