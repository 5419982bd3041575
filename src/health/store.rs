//! The file that keeps the [`Record`]. A directory comes in; the record as it was last written
//! goes out, and is replaced as a whole, durably. Never locks: whoever changes the record holds the
//! sysroot's lock or is the only one at that point of a boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::Record;
use super::record::LIMIT;
use crate::sys;

/// Below `/var`, or what becomes `/var`.
const DIRECTORY: &str = "lib/bowline";
const FILE: &str = "boot-state.json";

/// Where the record of a system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store below a `var` directory: `/var` of the running system, or that of a stateroot.
    pub fn in_var(var: &Path) -> Self {
        Self {
            dir: var.join(DIRECTORY),
        }
    }

    /// The store of the system in the sysroot at `root`: below `/var` of the running one, else
    /// below that of a stateroot.
    pub fn of(root: &Path, booted: bool, stateroot: &str) -> Self {
        match booted {
            true => Self::in_var(Path::new("/var")),
            false => Self::in_var(&root.join("ostree/deploy").join(stateroot).join("var")),
        }
    }

    /// The file that holds the record.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The record. No file is an empty record; so is a damaged one, with a warning, because a host
    /// must find its way without it.
    #[context("Reading {}", self.path().display())]
    pub fn read(&self) -> Result<Record> {
        let dir = match sys::fs::open_dir_path(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            other => other?,
        };
        let bytes = match sys::fs::read_optional(&dir, FILE, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("{}: {error}; it counts as empty", self.path().display());
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(bytes) = bytes else {
            return Ok(Record::default());
        };
        Ok(Record::parse(&bytes).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; it counts as empty", self.path().display());
            Record::default()
        }))
    }

    /// Replaces the record. Interrupted, the old one is there or the new one.
    #[context("Writing {}", self.path().display())]
    pub fn write(&self, record: &Record) -> Result<()> {
        fs::create_dir_all(&self.dir).context("Making the directory")?;
        sys::fs::replace(&self.path(), record.print().as_bytes(), 0o644)?;
        Ok(())
    }

    /// Changes the record; nothing is written where nothing changes.
    pub fn change(&self, edit: impl FnOnce(&mut Record)) -> Result<()> {
        let before = self.read()?;
        let mut after = before.clone();
        edit(&mut after);
        match after == before {
            true => Ok(()),
            false => self.write(&after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Trial, TrialImage};

    #[test]
    fn a_record_stays_until_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_var(dir.path());
        assert_eq!(store.read().unwrap(), Record::default());
        store.change(|_| ()).unwrap();
        assert!(!store.path().exists(), "written for nothing");
        let trial = Trial {
            image: TrialImage::default(),
            tries: 3,
            ..Trial::default()
        };
        store.change(|r| r.trial = Some(trial.clone())).unwrap();
        assert_eq!(store.path(), dir.path().join("lib/bowline/boot-state.json"));
        assert_eq!(store.read().unwrap().trial, Some(trial));
    }

    #[test]
    fn damage_counts_as_nothing_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_var(dir.path());
        store.write(&Record::default()).unwrap();
        let huge = " ".repeat(usize::try_from(LIMIT).unwrap() + 1);
        for damage in ["", "\0\0\0", "{\"trial\": 7}", &huge] {
            fs::write(store.path(), damage).unwrap();
            assert_eq!(store.read().unwrap(), Record::default());
        }
        store.write(&Record::default()).unwrap();
        assert_eq!(
            fs::read_dir(dir.path().join("lib/bowline"))
                .unwrap()
                .count(),
            1
        );
    }
}
