//! A tree of files to read settings from: that of a running system, a mounted image, or a commit
//! that is not checked out. Paths relative to its root come in, names and texts go out. Never
//! follows a link out of the tree, and never reads a file without a limit.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// More entries than any directory of settings has.
pub const MAX_ENTRIES: usize = 10_000;

/// What a name in a directory is to somebody who reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, or a link to one.
    File,
    /// A link to `/dev/null`, by which administrators hide a file of the same name elsewhere.
    Hidden,
    /// Anything else.
    Other,
}

/// Read access to a tree. Links are resolved within it, absolute ones from its root.
pub trait FileTree {
    /// Names in a directory with what they are, sorted by name; none where there is no such
    /// directory. Names that are not UTF-8 are left out.
    fn entries(&self, dir: &str) -> io::Result<Vec<(String, EntryKind)>>;

    /// The text of a regular file; `None` where there is none. More than `limit` bytes, and bytes
    /// that are not UTF-8, are an error of kind `InvalidData`.
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<String>>;

    /// How messages name a path of this tree.
    fn name(&self, path: &str) -> String;
}

/// The tree below a directory.
#[derive(Debug)]
pub struct DirTree {
    root: OwnedFd,
    path: PathBuf,
}

impl DirTree {
    /// Opens the tree whose root is the directory `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            root: super::fs::open_dir_path(path)?,
            path: path.into(),
        })
    }

    fn open_in(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let path = match path.trim_start_matches('/') {
            "" => ".",
            path => path,
        };
        rustix::fs::openat2(
            &self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    }

    fn kind(&self, path: &str) -> io::Result<EntryKind> {
        match self.open_in(path, OFlags::PATH) {
            Ok(fd) if file_type(&fd)? == FileType::RegularFile => return Ok(EntryKind::File),
            Ok(_) | Err(Errno::NOENT | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let link = self.open_in(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new());
        Ok(match target {
            Ok(target) if target.as_bytes() == b"/dev/null" => EntryKind::Hidden,
            _ => EntryKind::Other,
        })
    }
}

impl FileTree for DirTree {
    fn entries(&self, dir: &str) -> io::Result<Vec<(String, EntryKind)>> {
        let fd = match self.open_in(dir, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            if found.len() == MAX_ENTRIES {
                return Err(too_many(&self.name(dir)));
            }
            found.push((name.to_owned(), self.kind(&format!("{dir}/{name}"))?));
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Option<String>> {
        // A FIFO must not make us wait for a writer.
        let fd = match self.open_in(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => other?,
        };
        if file_type(&fd)? != FileType::RegularFile {
            return Ok(None);
        }
        text(File::from(fd), limit).map(Some)
    }

    fn name(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        self.path.join(path).display().to_string()
    }
}

fn file_type(fd: &OwnedFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn too_many(dir: &str) -> io::Error {
    let message = format!("{dir} has more than {MAX_ENTRIES} entries");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads a stream whole as UTF-8; more than `limit` bytes are an error of kind `InvalidData`.
pub fn text(stream: impl io::Read, limit: u64) -> io::Result<String> {
    let mut data = Vec::new();
    stream.take(limit + 1).read_to_end(&mut data)?;
    if data.len() as u64 > limit {
        let message = format!("larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    String::from_utf8(data).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.utf8_error()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn links_stay_in_the_tree() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("etc/x.d/sub")).unwrap();
        fs::write(outer.path().join("secret"), "outside").unwrap();
        fs::write(root.join("etc/real"), "inside").unwrap();
        for (name, target) in [
            ("a", "/etc/real"),
            ("b", "../../../secret"),
            ("c", "/dev/null"),
            ("d", "d"),
        ] {
            symlink(target, root.join("etc/x.d").join(name)).unwrap();
        }
        fs::write(root.join("etc/x.d/e"), "own").unwrap();
        let tree = DirTree::open(&root).unwrap();
        use EntryKind::{File, Hidden, Other};
        let found = tree.entries("etc/x.d").unwrap();
        let kinds: Vec<_> = found.iter().map(|(n, kind)| (n.as_str(), *kind)).collect();
        assert_eq!(
            kinds,
            [
                ("a", File),
                ("b", Other),
                ("c", Hidden),
                ("d", Other),
                ("e", File),
                ("sub", Other)
            ]
        );
        let read = |name: &str| tree.read(&format!("etc/x.d/{name}"), 100).unwrap();
        assert_eq!(read("a").as_deref(), Some("inside"));
        assert_eq!(read("b"), None);
        assert_eq!(read("e").as_deref(), Some("own"));
        assert_eq!(read("sub"), None);
        assert_eq!(read("none"), None);
        assert_eq!(tree.entries("etc/none").unwrap(), []);
        assert_eq!(tree.entries("etc/real").unwrap(), []);
    }

    #[test]
    fn texts_have_a_limit_and_are_utf8() {
        assert_eq!(text(&b"abc"[..], 3).unwrap(), "abc");
        let error = text(&b"abcd"[..], 3).unwrap_err();
        assert_eq!(error.to_string(), "larger than 3 bytes");
        assert_eq!(
            text(&b"\xff"[..], 3).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_fifo_is_no_file_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let tree = DirTree::open(dir.path()).unwrap();
        assert_eq!(tree.entries("").unwrap(), [("x".into(), EntryKind::Other)]);
        assert_eq!(tree.read("x", 1).unwrap(), None);
    }
}
