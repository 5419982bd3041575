//! The names of mirrored entries on the ESP, `bowline-GENERATION-INDEX[+LEFT[-DONE]].conf`, and
//! counting by them. The ESP's directory comes in; names change. Never touches what an entry says,
//! nor entries of others.
//!
//! systemd-boot takes one from the first number at each boot, and boots the entry with the highest
//! name that has tries left, or is not counted. The higher generation is the newer one; within it,
//! the higher index boots first.

use std::io;
use std::path::Path;

use anyhow::Result;
use fn_error_context::context;

use super::rename;
use crate::boot::Tries;
use crate::boot::entry::{BlsEntry, EntryName};
use crate::boot::loader::{read_entries, while_names_change};
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
    let tries = Some(Tries {
        left: tries,
        done: 0,
    });
    rename_all(esp, || {
        let first = list(esp)?.into_iter().next();
        let renaming = first.map(|(file, name, _)| (file, MirrorName { tries, ..name }));
        Ok(renaming.into_iter().collect())
    })
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
    rename_all(esp, || {
        let counted = list(esp)?.into_iter();
        let counted =
            counted.filter(|(_, name, entry)| name.tries.is_some() && chosen(entry.ostree()));
        let renamings = counted.map(|(file, name, _)| {
            (
                file,
                MirrorName {
                    tries: None,
                    ..name
                },
            )
        });
        Ok(renamings.collect())
    })
}

/// Renames what `wanted` says. systemd-bless-boot takes counters away, too, perhaps at this moment:
/// where a name has gone, `wanted` is asked again about the names that are there now.
fn rename_all(esp: &Path, wanted: impl Fn() -> Result<Vec<(String, MirrorName)>>) -> Result<()> {
    let mut gone = Vec::new();
    while_names_change(|| {
        let renamings = wanted()?;
        check_still_there(esp, &gone)?;
        gone.clone_from(&renamings);
        Ok(rename_each(&esp.join(ENTRIES), &renamings)?)
    })
}

fn rename_each(dir: &Path, renamings: &[(String, MirrorName)]) -> io::Result<()> {
    for (file, to) in renamings {
        rename(dir, file, &to.to_string())?;
    }
    match renamings.is_empty() {
        true => Ok(()),
        false => sync_filesystem(dir),
    }
}

/// Whoever else renamed an entry left it there, under another name.
fn check_still_there(esp: &Path, renamings: &[(String, MirrorName)]) -> Result<()> {
    let there = list(esp)?;
    for (file, to) in renamings {
        let same = |name: &MirrorName| (name.generation, name.index) == (to.generation, to.index);
        anyhow::ensure!(
            there.iter().any(|(_, name, _)| same(name)),
            "{file} went away, and no other name of that entry is there: `bowline boot mirror` writes \
             it again"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    fn esp(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(ENTRIES)).unwrap();
        for file in files {
            fs::write(dir.path().join(ENTRIES).join(file), "options ostree=/o\n").unwrap();
        }
        dir
    }

    fn files(esp: &Path) -> Vec<String> {
        let found = list(esp).unwrap().into_iter();
        found.map(|(file, _, _)| file).collect()
    }

    /// What would be done without counters, as it was seen before somebody else was faster.
    fn uncounted(files: &[&str]) -> Vec<(String, MirrorName)> {
        let renaming = |file: &&str| {
            let name = MirrorName::parse(file).unwrap();
            (
                (*file).to_owned(),
                MirrorName {
                    tries: None,
                    ..name
                },
            )
        };
        files.iter().map(renaming).collect()
    }

    #[test]
    fn what_somebody_else_renamed_is_done() {
        for (there, seen, now, after) in [
            // Blessed meanwhile: nothing is left to do.
            (
                &["bowline-4-2.conf", "bowline-4-1.conf"][..],
                &["bowline-4-2+2-1.conf"][..],
                &[][..],
                &["bowline-4-2.conf", "bowline-4-1.conf"][..],
            ),
            // Another one of the list still counts, and one has another count.
            (
                &["bowline-4-2.conf", "bowline-4-1+0-3.conf"],
                &["bowline-4-2+2-1.conf", "bowline-4-1+1-2.conf"],
                &["bowline-4-1+0-3.conf"],
                &["bowline-4-2.conf", "bowline-4-1.conf"],
            ),
        ] {
            let esp = esp(there);
            let looks = Cell::new(0);
            rename_all(esp.path(), || {
                let first = looks.replace(looks.get() + 1) == 0;
                Ok(uncounted(if first { seen } else { now }))
            })
            .unwrap();
            assert_eq!(
                (files(esp.path()), looks.get()),
                (after.iter().map(|f| (*f).into()).collect(), 2)
            );
        }
    }

    #[test]
    fn an_entry_that_is_gone_altogether_is_an_error() {
        let esp = esp(&["bowline-4-1.conf"]);
        let error =
            rename_all(esp.path(), || Ok(uncounted(&["bowline-4-2+2-1.conf"]))).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("bowline-4-2+2-1.conf went away"),
            "{error:#}"
        );
        assert_eq!(files(esp.path()), ["bowline-4-1.conf"]);
    }

    #[test]
    fn names_that_never_rest_are_an_error_too() {
        let esp = esp(&["bowline-4-2.conf"]);
        let error =
            rename_all(esp.path(), || Ok(uncounted(&["bowline-4-2+2-1.conf"]))).unwrap_err();
        let kind = error.downcast::<io::Error>().unwrap().kind();
        assert_eq!(kind, io::ErrorKind::NotFound);
    }
}
