//! The merge itself, played through on listings: what libostree will leave in the new `/etc`, and
//! where it would give up. Three trees come in, a tree and conflicts go out. Pure.
//!
//! Local removals are applied to the new defaults first, then what was modified, then what was
//! added. libostree stops at the first conflict; here all of them are found.

use std::fmt;
use std::path::{Path, PathBuf};

use super::diff::merge_diff;
use super::tree::Place;
use super::{Entry, Kind, Tree};

/// Removed by libostree from every new `/etc`, so that systemd notices the update.
const UPDATED_MARK: &str = ".updated";

/// A place at which the merge cannot be done, or would leave `/etc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The local change that cannot be taken over.
    pub path: PathBuf,
    /// Where it meets the new image.
    pub at: PathBuf,
    /// Why.
    pub kind: ConflictKind,
    /// What must be as in the old image for the merge to go through.
    pub undo: PathBuf,
    /// Whether the old image has `undo`; what it has not is moved away instead.
    pub has_default: bool,
}

/// Why a local change cannot be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// It is no directory, but the new image has a directory there.
    NewDirectory,
    /// It lies below what the new image no longer has as a directory.
    NoDirectory,
    /// It lies below a link of the new image that leads out of `/etc`.
    LeavesEtc,
    /// It is a fifo, socket or device in a directory that is copied as a whole.
    SpecialInside,
}

/// What libostree does about a fifo, socket or device in a directory that it copies as a whole.
/// One that it meets by itself is left behind by every version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// From 2024.2 on it is left behind.
    Skipped,
    /// Before, it ended the merge.
    Fatal,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, at) = (self.path.display(), self.at.display());
        match self.kind {
            ConflictKind::NewDirectory => {
                write!(
                    f,
                    "/etc/{path} is no directory here, but the new image has one there"
                )
            }
            ConflictKind::NoDirectory => write!(
                f,
                "/etc/{path} was changed here, but /etc/{at} is no directory in the new image"
            ),
            ConflictKind::LeavesEtc => write!(
                f,
                "/etc/{path} was changed here, but /etc/{at} is a link out of /etc in the new image"
            ),
            ConflictKind::SpecialInside => write!(
                f,
                "/etc/{path} is a fifo, socket or device, which libostree before 2024.2 cannot skip"
            ),
        }
    }
}

/// How a merge ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The new `/etc`; where there are conflicts, without what they are about.
    pub tree: Tree,
    /// Where libostree would give up, one per thing to be undone.
    pub conflicts: Vec<Conflict>,
}

/// Plays the merge through: `current` grew from `old`, and `new` are the new image's defaults.
pub fn merge(old: &Tree, current: &Tree, new: &Tree, specials: Specials) -> Merged {
    let diff = merge_diff(old, current);
    let tree = new.clone();
    let mut merge = Merge {
        specials,
        old,
        current,
        tree,
        conflicts: Vec::new(),
    };
    for path in diff.removed {
        if let Err(obstacle) = merge.take_away(path) {
            merge.refuse(path, path, obstacle);
        }
    }
    for path in diff.modified.into_iter().chain(diff.added) {
        if let Err(obstacle) = merge.copy(path) {
            // Below a directory of ours that the image has not, the directory is in the way.
            let undo = match obstacle.0 {
                ConflictKind::NewDirectory => path.to_owned(),
                _ => obstacle.1.clone(),
            };
            let path = match obstacle.0 {
                ConflictKind::SpecialInside => &undo,
                _ => path,
            };
            merge.refuse(path, &undo, obstacle);
        }
    }
    merge.tree.remove(Path::new(UPDATED_MARK));
    Merged {
        tree: merge.tree,
        conflicts: merge.conflicts,
    }
}

struct Merge<'a> {
    specials: Specials,
    old: &'a Tree,
    current: &'a Tree,
    tree: Tree,
    conflicts: Vec<Conflict>,
}

/// What is in the way, and where.
struct Obstacle(ConflictKind, PathBuf);

impl Merge<'_> {
    fn refuse(&mut self, path: &Path, undo: &Path, Obstacle(kind, at): Obstacle) {
        let known = |c: &Conflict| c.undo == undo && c.kind == kind;
        if self.conflicts.iter().any(known) {
            return;
        }
        self.conflicts.push(Conflict {
            path: path.to_owned(),
            at,
            kind,
            undo: undo.to_owned(),
            has_default: self.old.get(undo).is_some(),
        });
    }

    fn take_away(&mut self, path: &Path) -> Result<(), Obstacle> {
        if let Some(place) = self.place(path, false)? {
            self.tree.remove(&place);
        }
        Ok(())
    }

    /// Takes over one path, with all below it where the new tree has nothing there.
    fn copy(&mut self, path: &Path) -> Result<(), Obstacle> {
        let Some(ours) = self.current.get(path) else {
            return Ok(());
        };
        if let Some(parent) = path.parent().filter(|p| *p != Path::new("")) {
            self.ensure_directory(parent)?;
        }
        let (Place::At(to) | Place::Free(to)) = self.tree.find(path, false) else {
            return Err(Obstacle(ConflictKind::NoDirectory, path.to_owned()));
        };
        match self.tree.get(&to) {
            // Taken for granted by libostree: directories come with what they hold.
            Some(theirs) if theirs.is_dir() && ours.is_dir() => return Ok(()),
            Some(theirs) if theirs.is_dir() => {
                return Err(Obstacle(ConflictKind::NewDirectory, to));
            }
            Some(_) => self.tree.remove(&to),
            None => {}
        }
        let inside = |(from, entry): &(&Path, &Entry)| *from != path && entry.kind == Kind::Special;
        if let Some((special, _)) = self.current.below(path).find(inside) {
            if self.specials == Specials::Fatal {
                return Err(Obstacle(ConflictKind::SpecialInside, special.to_owned()));
            }
        }
        for (from, entry) in self.current.below(path) {
            let rest = from.strip_prefix(path).unwrap_or(from);
            let to = match rest == Path::new("") {
                true => to.clone(),
                false => to.join(rest),
            };
            if entry.kind != Kind::Special {
                self.tree.insert(to, entry.clone());
            }
        }
        Ok(())
    }

    /// Makes a directory like ours, or gives one that is there our owner and mode.
    fn ensure_directory(&mut self, path: &Path) -> Result<(), Obstacle> {
        if self.tree.find(path, false) == Place::NoParent {
            if let Some(parent) = path.parent().filter(|p| *p != Path::new("")) {
                self.ensure_directory(parent)?;
            }
        }
        let dangling = || Obstacle(ConflictKind::NoDirectory, path.to_owned());
        let to = match self.tree.find(path, false) {
            Place::Free(to) => to,
            _ => self.place(path, true)?.ok_or_else(dangling)?,
        };
        if self.tree.get(&to).is_some_and(|theirs| !theirs.is_dir()) {
            return Err(dangling());
        }
        if let Some(ours) = self.current.get(path) {
            let kind = Kind::Directory;
            self.tree.insert(
                to,
                Entry {
                    kind,
                    ..ours.clone()
                },
            );
        }
        Ok(())
    }

    /// Where a path of ours is in the new tree, if anything is there.
    fn place(&self, path: &Path, follow: bool) -> Result<Option<PathBuf>, Obstacle> {
        match self.tree.find(path, follow) {
            Place::At(place) => Ok(Some(place)),
            Place::Free(_) | Place::NoParent => Ok(None),
            Place::NotDirectory(at) => Err(Obstacle(ConflictKind::NoDirectory, at)),
            Place::Outside(at) => Err(Obstacle(ConflictKind::LeavesEtc, at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::tree;
    use super::*;

    fn conflicts(old: &str, current: &str, new: &str) -> Vec<String> {
        let merged = merge(&tree(old), &tree(current), &tree(new), Specials::Skipped);
        merged.conflicts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn local_changes_win_and_untouched_files_follow() {
        for (old, current, new, merged) in [
            ("a=1", "a=1", "a=2", "a=2"),
            ("a=1", "a=3", "a=2", "a=3"),
            ("a=1", "a=3", "", "a=3"),
            ("a=1", "", "a=2", ""),
            ("", "a=3", "a=2", "a=3"),
            ("", "a/ a/b=1", "", "a/ a/b=1"),
            ("a=1", "a=1@600", "a=2", "a=1@600"),
            ("a=1", "a>x", "a=2", "a>x"),
            ("a=1", "a|", "a=2", ""),
            ("", "a/ a/b| a/c=1", "", "a/ a/c=1"),
            ("", ".updated=1", "", ""),
            // Only what is copied into it brings a directory's own change along.
            ("a/", "a/@700", "a/", "a/"),
            ("a/", "a/@700 a/b=1", "a/", "a/@700 a/b=1"),
            ("a/ a/x=1", "a/@700 a/x=1", "", "a/@700 a/x=1"),
            ("a/", "a/ a/b=1", "a/@700", "a/ a/b=1"),
            // A file that became a directory on both sides: the image's wins.
            ("a=1", "a/ a/b=1", "a/ a/c=1", "a/ a/c=1"),
            ("a=1", "a/ a/b=1", "a=2", "a/ a/b=1"),
            // Through a link that stays inside.
            ("a/", "a/ a/x=1", "a>b b/", "a>b b/ b/x=1"),
            ("a/ a/x=1", "a/", "a>b b/ b/x=2", "a>b b/"),
        ] {
            let found = merge(&tree(old), &tree(current), &tree(new), Specials::Skipped);
            assert_eq!(found.tree, tree(merged), "{old} | {current} | {new}");
            assert_eq!(found.conflicts, [], "{old} | {current} | {new}");
        }
    }

    #[test]
    fn conflicts_are_all_found_and_named_once() {
        let new_directory = "/etc/a is no directory here, but the new image has one there";
        for (old, current, new) in [
            ("a=1", "a=2", "a/"),
            ("", "a=2", "a/ a/b=1"),
            ("a/", "a>b", "a/"),
            ("a=1", "a|", "a/"),
        ] {
            assert_eq!(conflicts(old, current, new), [new_directory]);
        }
        let below = "/etc/a/x was changed here, but /etc/a is no directory in the new image";
        for (old, current, new) in [
            ("a/", "a/ a/x=1 a/y=1", "a=1"),
            ("a/", "a/ a/x=1", "a>none"),
            ("a/ a/x=1", "a/", "a=1"),
            ("a/ a/x=1", "a/ a/x=2", "a>b b=1"),
        ] {
            assert_eq!(
                conflicts(old, current, new),
                [below],
                "{old} | {current} | {new}"
            );
        }
        let out = "/etc/a/x was changed here, but /etc/a is a link out of /etc in the new image";
        assert_eq!(conflicts("a/", "a/ a/x=1", "a>/usr/a"), [out]);
        assert_eq!(conflicts("a/ a/x=1", "a/", "a>../usr/a"), [out]);
        assert_eq!(conflicts("a/ b=1", "a/ a/x=1 b=2", "a=1 b/").len(), 2);
    }

    #[test]
    fn old_libostree_stumbles_over_specials_in_new_directories() {
        let current = tree("a/ a/b/ a/b/p| c/ c/p| p|");
        for (specials, conflicts) in [
            (Specials::Skipped, vec![]),
            (Specials::Fatal, vec!["a/b/p"]),
        ] {
            let merged = merge(&tree("c/"), &current, &tree("c/"), specials);
            let paths = merged
                .conflicts
                .into_iter()
                .map(|c| c.undo.display().to_string());
            assert_eq!(paths.collect::<Vec<_>>(), conflicts);
        }
    }

    #[test]
    fn undoing_what_a_conflict_names_ends_it() {
        for (old, current, new) in [
            ("a=1", "a=2", "a/ a/b=1"),
            ("", "a=2", "a/"),
            ("a/ a/b=1", "a>c", "a/"),
            ("a/ a/x=1", "a/ a/x=2 a/y=1", "a=1"),
            ("a/ a/x=1 a/z=1", "a/ a/z=1", "a=1"),
            ("a/ a/b/", "a/ a/b/ a/b/c=1", "a>/x"),
        ] {
            let (old, mut current, new) = (tree(old), tree(current), tree(new));
            let conflict = merge(&old, &current, &new, Specials::Skipped)
                .conflicts
                .remove(0);
            current.remove(&conflict.undo);
            for (path, entry) in old.below(&conflict.undo) {
                current.insert(path, entry.clone());
            }
            assert_eq!(
                merge(&old, &current, &new, Specials::Skipped).conflicts,
                [],
                "{conflict}"
            );
            assert_eq!(conflict.has_default, old.get(&conflict.undo).is_some());
        }
    }
}
