//! What takes long to make, kept by the hash of all that goes into it: a name and a key in, a finished
//! directory out. A directory appears under its final name when it is complete; one process makes it,
//! others wait. Older directories of the same name are removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::place;

/// A hash of everything that a cached thing is made from.
#[derive(Debug, Clone, Default)]
pub struct Key(Sha256);

impl Key {
    /// A key of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds some text.
    pub fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds the content of a file.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("Reading {}", path.display()))?;
        let length = std::io::copy(&mut file, &mut self.0)?;
        self.0.update(length.to_le_bytes());
        Ok(self)
    }

    /// The key as a word for file names.
    pub fn word(&self) -> String {
        let hash = self.0.clone().finalize();
        hash.iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The directory of a name and a key, made by the function if it is not there.
pub fn get(name: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = place::directory("cache")?;
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let path = cache.join(format!("{name}-{}", key.word()));
    if path.is_dir() {
        return Ok(path);
    }
    forget(&cache, name)?;
    let unfinished = cache.join(format!("{name}-unfinished"));
    fs::create_dir(&unfinished)?;
    make(&unfinished).with_context(|| format!("Making {name} for the boot tests"))?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

/// Removes what is there under the name, whatever its key.
fn forget(cache: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let key = file_name
            .to_str()
            .and_then(|n| n.strip_prefix(name)?.strip_prefix('-'));
        let ours = key.is_some_and(|k| k == "unfinished" || is_word(k));
        if ours && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn is_word(key: &str) -> bool {
    key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit())
}
