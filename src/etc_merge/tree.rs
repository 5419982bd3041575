//! A directory tree as plain data: paths with what stands there, and finding a path in it as the
//! kernel would. Entries come in, places go out. Never touches a disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::image::Digest;

/// Links that the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Digest of its content; `None` where nobody needs to know ([`super::list_beside`]).
        content: Option<Digest>,
    },
    /// A symbolic link and where it points.
    Link(PathBuf),
    /// A fifo, socket or device.
    Special,
}

impl Kind {
    /// Whether both are of one type, whatever they hold.
    pub fn same_type(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// A noun for people.
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File { .. } => "file",
            Self::Link(_) => "symbolic link",
            Self::Special => "fifo, socket or device",
        }
    }
}

/// One entry. Extended attributes are no part of it: the merge does not look at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky; 0o777 for a link.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}

/// All entries below a directory by their path relative to it; a parent comes before what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Something is there, under this path without links.
    At(PathBuf),
    /// The directory is there, the last name is free.
    Free(PathBuf),
    /// A directory on the way is missing.
    NoParent,
    /// This part of the path is no directory, nor a link to one.
    NotDirectory(PathBuf),
    /// This part of the path is a link that leaves the tree.
    Outside(PathBuf),
}

impl Tree {
    /// Adds or replaces an entry; its parents are the caller's business.
    pub fn insert(&mut self, path: impl Into<PathBuf>, entry: Entry) {
        self.0.insert(path.into(), entry);
    }

    /// The entry at a path, no link followed.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.0.get(path)
    }

    /// All entries, a parent before what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// An entry and all below it.
    pub fn below<'a>(&'a self, top: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Entry)> {
        let rest = self.0.range(top.to_path_buf()..);
        let rest = rest.map(|(path, entry)| (path.as_path(), entry));
        rest.take_while(move |(path, _)| path.starts_with(top))
    }

    /// Removes an entry and all below it.
    pub(super) fn remove(&mut self, top: &Path) {
        let paths: Vec<_> = self.below(top).map(|(path, _)| path.to_owned()).collect();
        for path in paths {
            self.0.remove(&path);
        }
    }

    /// Follows a path as the kernel does; the last name's link only with `follow`.
    pub(super) fn find(&self, path: &Path, follow: bool) -> Place {
        let own = |part: Component<'_>| (part.as_os_str().to_owned(), true);
        let mut todo: Vec<(OsString, bool)> = path.components().rev().map(own).collect();
        let (mut here, mut seen, mut links) = (PathBuf::new(), PathBuf::new(), 0);
        while let Some((name, is_own)) = todo.pop() {
            if is_own {
                seen.push(&name);
            }
            if name == ".." {
                if !here.pop() {
                    return Place::Outside(seen);
                }
                continue;
            }
            let next = here.join(&name);
            match self.get(&next).map(|entry| &entry.kind) {
                None if todo.is_empty() => return Place::Free(next),
                None => return Place::NoParent,
                Some(Kind::Directory) => here = next,
                Some(Kind::Link(target)) if follow || !todo.is_empty() => {
                    links += 1;
                    if target.is_absolute() {
                        return Place::Outside(seen);
                    } else if links > MAX_LINKS {
                        return Place::NotDirectory(seen);
                    }
                    let parts = target
                        .components()
                        .filter(|part| *part != Component::CurDir);
                    let parts: Vec<_> = parts.collect();
                    let parts = parts.iter().rev();
                    todo.extend(parts.map(|part| (part.as_os_str().to_owned(), false)));
                }
                Some(_) if todo.is_empty() => return Place::At(next),
                Some(_) => return Place::NotDirectory(seen),
            }
        }
        Place::At(here)
    }
}

impl FromIterator<(PathBuf, Entry)> for Tree {
    fn from_iter<T: IntoIterator<Item = (PathBuf, Entry)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tree from words: `a/` is a directory, `a>b` a link, `a=text` a file, `a|` special; a
    /// mode may follow as `@700`.
    pub fn tree(text: &str) -> Tree {
        let entry = |word: &str| {
            let (word, mode) = word.split_once('@').unwrap_or((word, ""));
            let mode = u32::from_str_radix(mode, 8).ok();
            let (name, kind, default) = if let Some(name) = word.strip_suffix('/') {
                (name, Kind::Directory, 0o755)
            } else if let Some(name) = word.strip_suffix('|') {
                (name, Kind::Special, 0o644)
            } else if let Some((name, target)) = word.split_once('>') {
                (name, Kind::Link(target.into()), 0o777)
            } else {
                let (name, text) = word.split_once('=').unwrap();
                let content = Some(Digest::of(text.as_bytes()));
                (name, Kind::File { content }, 0o644)
            };
            let mode = mode.unwrap_or(default);
            let (uid, gid) = (0, 0);
            let entry = Entry {
                kind,
                mode,
                uid,
                gid,
            };
            (PathBuf::from(name), entry)
        };
        text.split_whitespace().map(entry).collect()
    }

    #[test]
    fn paths_are_followed_as_the_kernel_does() {
        let tree =
            tree("d/ d/f=x l>d up>.. abs>/x d/back>../l loop>loop dangling>none s>d/f t>d/./f");
        let at = |path: &str| Place::At(path.into());
        for (path, follow, place) in [
            ("d/f", false, at("d/f")),
            ("l", false, at("l")),
            ("l", true, at("d")),
            ("l/f", false, at("d/f")),
            ("d/back/f", false, at("d/f")),
            ("s", true, at("d/f")),
            ("t", true, at("d/f")),
            ("l/new", false, Place::Free("d/new".into())),
            ("no/new", false, Place::NoParent),
            ("dangling", true, Place::Free("none".into())),
            ("dangling/x", false, Place::NoParent),
            ("d/f/x", false, Place::NotDirectory("d/f".into())),
            ("s/x", false, Place::NotDirectory("s".into())),
            ("loop/x", false, Place::NotDirectory("loop".into())),
            ("up/x", false, Place::Outside("up".into())),
            ("abs/x/y", false, Place::Outside("abs".into())),
            ("abs", false, at("abs")),
        ] {
            assert_eq!(tree.find(Path::new(path), follow), place, "{path}");
        }
    }

    #[test]
    fn below_is_the_entry_and_what_it_holds() {
        let mut tree = tree("a/ a/b/ a/b/c=1 a-b=2 b=3");
        let names = |tree: &Tree, top: &str| -> Vec<String> {
            let below = tree.below(Path::new(top));
            below.map(|(path, _)| path.display().to_string()).collect()
        };
        assert_eq!(names(&tree, "a"), ["a", "a/b", "a/b/c"]);
        tree.remove(Path::new("a"));
        assert_eq!(tree, super::tests::tree("a-b=2 b=3"));
    }
}
