//! The names of mirrored entries on the ESP, `bowline-GENERATION-INDEX[+LEFT[-DONE]].conf`, and
//! counting by them. The ESP's directory comes in; names change. Never touches what an entry says,
//! nor entries of others.
//!
//! systemd-boot takes one from the first number at each boot, and boots the entry with the highest
//! name that has tries left, or is not counted. The higher generation is the newer one; within it,
//! the higher index boots first.

use std::path::Path;

use anyhow::Result;
use fn_error_context::context;

use super::rename;
use crate::boot::Tries;
use crate::boot::entry::{BlsEntry, EntryName};
use crate::boot::loader::read_entries;
use crate::sys::fs::sync_filesystem;

/// Where entries are, below the ESP.
pub const ENTRIES: &str = "loader/entries";
const PREFIX: &str = "bowline-";

/// The name of a mirrored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MirrorName {
    /// Which writing of the mirror it belongs to; higher is newer.
    pub generation: u64,
    /// Its place in the boot order; higher is earlier.
    pub index: u64,
    /// Its counter.
    pub tries: Option<Tries>,
}

impl MirrorName {
    /// Reads a file's name; `None` for entries that are not ours.
    pub fn parse(name: &str) -> Option<Self> {
        let EntryName { stem, tries } = EntryName::parse(name)?;
        let (generation, index) = stem.strip_prefix(PREFIX)?.split_once('-')?;
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        Some(Self {
            generation: number(generation)?,
            index: number(index)?,
            tries,
        })
    }

    /// Whether its tries are used up: it boots only when nothing else is left.
    pub fn exhausted(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    /// Sorts as systemd-boot does, what boots first being the greatest.
    pub fn rank(&self) -> (bool, u64, u64) {
        (!self.exhausted(), self.generation, self.index)
    }
}

impl std::fmt::Display for MirrorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stem = format!("{PREFIX}{}-{}", self.generation, self.index);
        let tries = self.tries;
        EntryName { stem, tries }.fmt(f)
    }
}

/// Our entries with their names as they are on disk, what boots first at the front.
pub fn list(esp: &Path) -> Result<Vec<(String, MirrorName, BlsEntry)>> {
    let all = read_entries(&esp.join(ENTRIES))?.into_iter();
    // A damaged one is an empty one: its name counts.
    let ours = all.filter_map(|(file, entry)| {
        let name = MirrorName::parse(&file)?;
        Some((file, name, entry.unwrap_or_default()))
    });
    let mut ours: Vec<_> = ours.collect();
    ours.sort_by_key(|(_, name, _)| std::cmp::Reverse(name.rank()));
    Ok(ours)
}

/// Lets the entry that boots next count its boots.
#[context("Counting the boots of the EFI system partition's first entry")]
pub fn arm(esp: &Path, tries: u32) -> Result<()> {
    let Some((file, name, _)) = list(esp)?.into_iter().next() else {
        return Ok(());
    };
    let tries = Some(Tries {
        left: tries,
        done: 0,
    });
    rename_entry(esp, &file, &MirrorName { tries, ..name })
}

/// The tries of the deployment that boots with this `ostree=` value.
pub fn tries(esp: &Path, ostree: &str) -> Result<Option<Tries>> {
    let mut found: Vec<_> = list(esp)?
        .into_iter()
        .filter(|(_, _, entry)| entry.ostree() == Some(ostree))
        .map(|(_, name, _)| name)
        .collect();
    // The newest generation speaks; older ones are about to go.
    found.sort_by_key(|name| std::cmp::Reverse((name.generation, name.index)));
    Ok(found.first().and_then(|name| name.tries))
}

/// The counter of any entry; that of what boots next, if it has one.
pub fn armed(esp: &Path) -> Result<Option<Tries>> {
    Ok(list(esp)?.into_iter().find_map(|(_, name, _)| name.tries))
}

/// Takes the counter from the entries whose `ostree=` value is chosen.
#[context("Taking boot counters from the EFI system partition")]
pub fn uncount(esp: &Path, chosen: impl Fn(Option<&str>) -> bool) -> Result<()> {
    for (file, name, entry) in list(esp)? {
        if name.tries.is_some() && chosen(entry.ostree()) {
            rename_entry(
                esp,
                &file,
                &MirrorName {
                    tries: None,
                    ..name
                },
            )?;
        }
    }
    Ok(())
}

fn rename_entry(esp: &Path, file: &str, to: &MirrorName) -> Result<()> {
    let dir = esp.join(ENTRIES);
    rename(&dir, file, &to.to_string())?;
    Ok(sync_filesystem(&dir)?)
}
