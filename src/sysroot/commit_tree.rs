//! The tree of a commit as files to read, without checking it out. A commit comes in, names and
//! texts go out. Never follows a link that leads out of the tree.
//!
//! `etc` is found where a commit keeps it, in `usr/etc`.

use std::io;

use anyhow::Result;
use ostree::prelude::*;
use ostree::{gio, glib};

use super::error::{from_glib, io_kind};
use super::handle::NO_CANCEL;
use crate::sys::tree::{EntryKind, FileTree, MAX_ENTRIES, text};

/// The longest chain of links that is followed; the kernel's own limit.
const MAX_LINKS: u32 = 40;
const NOFOLLOW: gio::FileQueryInfoFlags = gio::FileQueryInfoFlags::NOFOLLOW_SYMLINKS;

/// The tree of a commit.
#[derive(Debug)]
pub struct CommitTree {
    repo: ostree::Repo,
    root: gio::File,
    commit: String,
}

impl CommitTree {
    pub(super) fn open(repo: &ostree::Repo, commit: &str) -> Result<Self> {
        let (root, _) = repo.read_commit(commit, NO_CANCEL).map_err(from_glib)?;
        let (repo, commit) = (repo.clone(), commit.into());
        Ok(Self { repo, root, commit })
    }

    /// What a path leads to once all links are followed; `None` where that is nothing.
    fn resolve(&self, path: &str) -> io::Result<Option<(gio::File, gio::FileInfo)>> {
        let mut todo: Vec<String> = components(path);
        if todo.last().is_some_and(|first| first == "etc") {
            todo.push("usr".into());
        }
        let mut here: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            here.push(name);
            let Some((_, info)) = self.look(&here)? else {
                return Ok(None);
            };
            if info.file_type() == gio::FileType::SymbolicLink {
                let target = info.symlink_target().unwrap_or_default();
                let target = target.to_string_lossy().into_owned();
                here.pop();
                if target.starts_with('/') {
                    here.clear();
                }
                todo.extend(components(&target));
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
            }
        }
        self.look(&here)
    }

    /// What is at a path in which no name but the last may be a link.
    fn look(&self, path: &[String]) -> io::Result<Option<(gio::File, gio::FileInfo)>> {
        let file = self.root.resolve_relative_path(path.join("/"));
        let attributes = "standard::type,standard::size,standard::symlink-target";
        match file.query_info(attributes, NOFOLLOW, NO_CANCEL) {
            Ok(info) => Ok(Some((file, info))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(to_io(error)),
        }
    }

    fn kind(&self, path: &str) -> io::Result<EntryKind> {
        if let Some((_, info)) = self.resolve(path)? {
            return Ok(match info.file_type() {
                gio::FileType::Regular => EntryKind::File,
                _ => EntryKind::Other,
            });
        }
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some((dir, _)) = self.resolve(dir)? else {
            return Ok(EntryKind::Other);
        };
        let attributes = "standard::symlink-target";
        let info = dir.child(name).query_info(attributes, NOFOLLOW, NO_CANCEL);
        let target = info.map_err(to_io)?.symlink_target();
        Ok(match target.is_some_and(|t| t.as_os_str() == "/dev/null") {
            true => EntryKind::Hidden,
            false => EntryKind::Other,
        })
    }
}

impl FileTree for CommitTree {
    fn entries(&self, dir: &str) -> io::Result<Vec<(String, EntryKind)>> {
        let found = self.resolve(dir)?;
        let Some((file, _)) = found.filter(|f| f.1.file_type() == gio::FileType::Directory) else {
            return Ok(Vec::new());
        };
        let children = file.enumerate_children("standard::name", NOFOLLOW, NO_CANCEL);
        let mut entries = Vec::new();
        for info in children.map_err(to_io)? {
            let name = info.map_err(to_io)?.name();
            if entries.len() == MAX_ENTRIES {
                let message = format!("{} has more than {MAX_ENTRIES} entries", self.name(dir));
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            if let Some(name) = name.to_str() {
                entries.push((name.to_owned(), self.kind(&format!("{dir}/{name}"))?));
            }
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Option<String>> {
        let found = self.resolve(path)?;
        let Some((file, _)) = found.filter(|f| f.1.file_type() == gio::FileType::Regular) else {
            return Ok(None);
        };
        // `GFile::read` of the bindings insists on a seekable stream, which objects have not.
        let checksum = file.downcast_ref::<ostree::RepoFile>();
        let checksum = checksum.map(|file| file.checksum()).unwrap_or_default();
        let (stream, ..) = self.repo.load_file(&checksum, NO_CANCEL).map_err(to_io)?;
        match stream {
            Some(stream) => text(stream.into_read(), limit).map(Some),
            None => Ok(None),
        }
    }

    fn name(&self, path: &str) -> String {
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        format!("/{} of commit {short}", path.trim_start_matches('/'))
    }
}

/// The names of a path, the last one first.
fn components(path: &str) -> Vec<String> {
    let names = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".");
    names.rev().map(str::to_owned).collect()
}

fn is_absence(error: &glib::Error) -> bool {
    let kind = error.kind::<gio::IOErrorEnum>();
    matches!(
        kind,
        Some(gio::IOErrorEnum::NotFound | gio::IOErrorEnum::NotDirectory)
    )
}

fn to_io(error: glib::Error) -> io::Error {
    let kind = io_kind(&error).unwrap_or(io::ErrorKind::Other);
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_commit_is_read_as_a_directory_would_be() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture
            .commit(
                "file /usr/etc/x.d/a 0 0 644 one\n\
                 link /usr/etc/x.d/b /usr/lib/b\n\
                 link /usr/etc/x.d/c /dev/null\n\
                 link /usr/etc/x.d/d ../../../../../../usr/lib/b\n\
                 link /usr/etc/x.d/e e\n\
                 link /usr/etc/x.d/f nowhere\n\
                 link /usr/share usr/lib\n\
                 link /usr/lib64 lib\n\
                 dir /usr/etc/x.d/sub 0 0 755\n\
                 file /usr/lib/b 0 0 600 two",
            )
            .unwrap();
        let tree = CommitTree::open(fixture.repo(), &commit).unwrap();
        use EntryKind::{File, Hidden, Other};
        let found = tree.entries("etc/x.d").unwrap();
        let kinds: Vec<_> = found.iter().map(|(n, kind)| (n.as_str(), *kind)).collect();
        let expected = [
            ("a", File),
            ("b", File),
            ("c", Hidden),
            ("d", File),
            ("e", Other),
            ("f", Other),
            ("sub", Other),
        ];
        assert_eq!(kinds, expected);
        let read = |path: &str| tree.read(path, 3).unwrap();
        assert_eq!(read("/etc/x.d/a").as_deref(), Some("one"));
        assert_eq!(read("usr/etc/x.d/b").as_deref(), Some("two"));
        assert_eq!(read("etc/x.d/d").as_deref(), Some("two"));
        assert_eq!(read("usr/lib64/b").as_deref(), Some("two"));
        for none in [
            "usr/share/b",
            "etc/x.d/e",
            "etc/x.d/sub",
            "run/x",
            "usr/lib/b/c",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(tree.entries("run/bowline").unwrap(), []);
        let error = tree.read("usr/lib/b", 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
