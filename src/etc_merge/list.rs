//! A directory on disk as a [`Tree`]. A path comes in, a listing with digests goes out. Follows no
//! link and changes nothing; what vanishes while it looks was not there.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fn_error_context::context;
use sha2::{Digest as _, Sha256};

use super::{Entry, Kind, Tree};
use crate::image::Digest;

/// Deepest nesting of directories that is followed.
const MAX_DEPTH: usize = 512;
/// Entries that one `/etc` may have.
const MAX_ENTRIES: usize = 1_000_000;

/// Lists everything below `root`; a directory that does not exist is empty.
pub fn list(root: &Path) -> Result<Tree> {
    list_where(root, &|_| true)
}

/// Lists everything below `root` to compare it with `other`: the content of a file is read only
/// where `other` has a file, too.
pub fn list_beside(root: &Path, other: &Tree) -> Result<Tree> {
    let is_file = |entry: &Entry| matches!(entry.kind, Kind::File { .. });
    list_where(root, &|path| other.get(path).is_some_and(is_file))
}

#[context("Listing {}", root.display())]
fn list_where(root: &Path, reads: &dyn Fn(&Path) -> bool) -> Result<Tree> {
    let mut listing = Listing {
        root,
        reads,
        entries: Vec::new(),
    };
    listing.directory(Path::new(""), 0)?;
    Ok(listing.entries.into_iter().collect())
}

struct Listing<'a> {
    root: &'a Path,
    /// Whether the content of a file is wanted.
    reads: &'a dyn Fn(&Path) -> bool,
    entries: Vec<(PathBuf, Entry)>,
}

impl Listing<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH || self.entries.len() > MAX_ENTRIES {
            bail!("there are more than {MAX_ENTRIES} entries, or more than {MAX_DEPTH} levels");
        }
        let what = || format!("Reading directory {}", self.root.join(path).display());
        let Some(names) = present(fs::read_dir(self.root.join(path))).with_context(what)? else {
            return Ok(());
        };
        let names = names.map(|entry| Ok(entry?.file_name()));
        let names: Vec<_> = names.collect::<io::Result<_>>().with_context(what)?;
        for name in names {
            let path = path.join(name);
            let what = || format!("Reading {}", self.root.join(&path).display());
            let Some(entry) = present(self.entry(&path)).with_context(what)? else {
                continue;
            };
            let is_dir = entry.is_dir();
            self.entries.push((path.clone(), entry));
            if is_dir {
                self.directory(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let found = fs::symlink_metadata(self.root.join(path))?;
        Ok(Entry {
            mode: match found.is_symlink() {
                true => 0o777,
                false => found.mode() & 0o7777,
            },
            kind: self.kind(path, &found)?,
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    fn kind(&self, path: &Path, found: &Metadata) -> io::Result<Kind> {
        let (kind, full) = (found.file_type(), self.root.join(path));
        Ok(if kind.is_dir() {
            Kind::Directory
        } else if kind.is_symlink() {
            Kind::Link(fs::read_link(full)?)
        } else if kind.is_file() {
            let content = (self.reads)(path).then(|| digest(&full));
            Kind::File {
                content: content.transpose()?,
            }
        } else {
            Kind::Special
        })
    }
}

fn digest(path: &Path) -> io::Result<Digest> {
    // What became a fifo in this moment must not make us wait.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let mut file: File = File::options().read(true).custom_flags(flags).open(path)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn everything_is_listed_and_nothing_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/f"), "text").unwrap();
        fs::set_permissions(at("d/f"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("..", at("d/up")).unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"\xff");
        fs::write(dir.path().join(odd), "").unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("p"), fifo, 0o600.into(), 0).unwrap();

        let tree = list(dir.path()).unwrap();
        let found: Vec<_> = tree
            .iter()
            .map(|(p, e)| (p.to_owned(), e.kind.clone(), e.mode))
            .collect();
        let file = |text: &str| Kind::File {
            content: Some(Digest::of(text.as_bytes())),
        };
        let mode = |path: &str| fs::metadata(at(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            found,
            [
                ("d".into(), Kind::Directory, mode("d")),
                ("d/f".into(), file("text"), 0o4750),
                ("d/up".into(), Kind::Link("..".into()), 0o777),
                ("p".into(), Kind::Special, mode("p")),
                (PathBuf::from(odd), file(""), 0o644),
            ]
        );
        assert_eq!(list(&at("none")).unwrap(), Tree::default());
        let error = list(&at("d/f")).unwrap_err();
        assert!(error.to_string().starts_with("Listing "), "{error}");
    }

    #[test]
    fn what_nothing_is_compared_with_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("both"), "x").unwrap();
        for name in ["added", "retyped"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let found = list_beside(
            dir.path(),
            &super::super::tree::tests::tree("both=y retyped/"),
        );
        let found = found.unwrap();
        let content = |name: &str| found.get(Path::new(name)).unwrap().kind.clone();
        let content_of = |text: &str| Kind::File {
            content: Some(Digest::of(text.as_bytes())),
        };
        assert_eq!(content("both"), content_of("x"));
        assert_eq!(content("added"), Kind::File { content: None });
        assert_eq!(content("retyped"), Kind::File { content: None });
    }
}
