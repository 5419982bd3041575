//! One layer onto what the layers below it left (image-spec, layer.md). Entries of a tar stream come in,
//! file operations within the root go out. Whiteouts take away what layers below have, never what
//! this layer brings, in whatever order they come.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context, Result};

use super::UnpackError;
use super::later::Later;
use super::root::{Meta, Root};
use crate::repo::tar_stream::{Entry, Kind, TarStream};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Deepest directory.
const MAX_DEPTH: usize = 512;
/// Zeros in a row that are left out as a hole, bytes.
const HOLE: usize = 4096;

/// What came of a layer.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Devices that were left out.
    pub(super) devices: u64,
}

/// Unpacks a layer whole.
pub(super) fn layer<R: BufRead>(
    mut tar: TarStream<R>,
    root: &Root,
    later: &mut Later,
) -> Result<Applied> {
    let mut apply = Apply {
        root,
        later,
        own: Own::default(),
        applied: Applied::default(),
    };
    while let Some(entry) = tar.next_entry()? {
        let work = apply.entry(&entry, &mut tar);
        work.with_context(|| format!("Unpacking {:?}", entry.display()))?;
    }
    tar.drain()?;
    Ok(apply.applied)
}

/// The paths that a layer has brought, as numbers: which two paths get the same one nobody can know
/// beforehand.
#[derive(Debug, Default)]
struct Own {
    paths: HashSet<u64>,
    numbers: RandomState,
}

impl Own {
    /// Takes a path and the directories it is in.
    fn add(&mut self, path: &[OsString]) {
        for length in (1..=path.len()).rev() {
            // Those above were taken with the first path below them.
            if !self.paths.insert(self.numbers.hash_one(&path[..length])) {
                return;
            }
        }
    }

    fn has(&self, path: &[OsString]) -> bool {
        self.paths.contains(&self.numbers.hash_one(path))
    }
}

struct Apply<'a> {
    root: &'a Root,
    later: &'a mut Later,
    own: Own,
    applied: Applied,
}

impl Apply<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, tar: &mut TarStream<R>) -> Result<()> {
        let path = components(&entry.path).map_err(|reason| refuse(entry, reason))?;
        let Some((name, dirs)) = path.split_last() else {
            return self.top(entry);
        };
        if let Some(gone) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(entry, dirs, (name, OsStr::from_bytes(gone)));
        }
        let meta = Meta {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            mtime: entry.mtime,
            xattrs: &entry.xattrs,
        };
        match entry.kind {
            Kind::Directory => self.directory(&path, &meta)?,
            Kind::Regular => {
                let file = self.root.parent(dirs)?.file(name)?;
                write(&file, entry.size, tar)?;
                self.root.dress(&file, &meta)?;
            }
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(refuse(entry, "is a symbolic link to nothing"));
                }
                let parent = self.root.parent(dirs)?;
                parent.symlink(name, &entry.link, self.root, &meta)?;
            }
            Kind::HardLink => self.hard_link(entry, dirs, name)?,
            Kind::Fifo => {
                let parent = self.root.parent(dirs)?;
                parent.fifo(name, self.root, &meta)?;
            }
            Kind::Device => {
                self.applied.devices += 1;
                return Ok(());
            }
        }
        self.own.add(&path);
        Ok(())
    }

    /// The root's own entry: its mode is not taken, since set-id programs below it are nobody else's.
    fn top(&mut self, entry: &Entry) -> Result<()> {
        match entry.kind {
            Kind::Directory => Ok(()),
            _ => Err(refuse(entry, "is the root but not a directory")),
        }
    }

    fn directory(&mut self, path: &[OsString], meta: &Meta<'_>) -> Result<()> {
        let Some((name, dirs)) = path.split_last() else {
            return Ok(());
        };
        let fd = self.root.parent(dirs)?.directory(name)?;
        let open = Meta {
            mode: 0o700,
            ..*meta
        };
        self.root.dress(fd.as_fd(), &open)?;
        let mode = match self.root.owners {
            true => meta.mode & 0o7777,
            false => meta.mode & 0o1777,
        };
        let stat = rustix::fs::fstat(&fd)?;
        self.later.directory(path, &stat, (mode, meta.mtime))?;
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, dirs: &[OsString], name: &OsStr) -> Result<()> {
        let target = components(&entry.link);
        let target = target.map_err(|_| refuse(entry, "is a hard link to a place outside"))?;
        let Some((from, above)) = target.split_last() else {
            return Err(refuse(entry, "is a hard link to the root"));
        };
        let parent = self.root.parent(dirs)?;
        let done = match self.root.dir(above) {
            Ok(_) => parent.hard_link(name, (&self.root.parent(above)?, from))?,
            Err(_) => false,
        };
        match done {
            true => Ok(()),
            false => Err(refuse(entry, "is a hard link to what is not there")),
        }
    }

    /// Takes away what layers below have.
    fn whiteout(
        &mut self,
        entry: &Entry,
        dirs: &[OsString],
        (name, gone): (&OsStr, &OsStr),
    ) -> Result<()> {
        if matches!(gone.as_bytes(), b"" | b"." | b"..") {
            return Err(refuse(entry, "is a whiteout of no name"));
        }
        let Ok(_) = self.root.dir(dirs) else {
            return Ok(());
        };
        let (parent, mut path) = (self.root.parent(dirs)?, dirs.to_vec());
        let own = &self.own;
        let mut stays = |path: &[OsString]| own.has(path);
        if name.as_bytes() == OPAQUE {
            for child in parent.names()? {
                parent.remove(&child, &mut path, &mut stays)?;
            }
            return Ok(());
        }
        // What aufs keeps for itself is none of an image's files.
        if gone.as_bytes().starts_with(WHITEOUT) {
            return Ok(());
        }
        Ok(parent.remove(gone, &mut path, &mut stays)?)
    }
}

/// Writes a file's content; long stretches of zeros become holes.
fn write<R: BufRead>(mut file: &std::fs::File, size: u64, tar: &mut TarStream<R>) -> Result<()> {
    while let Some(chunk) = tar.chunk()? {
        match chunk.len() >= HOLE && chunk.iter().all(|byte| *byte == 0) {
            true => drop(file.seek(SeekFrom::Current(chunk.len() as i64))?),
            false => file.write_all(chunk)?,
        }
    }
    Ok(file.set_len(size)?)
}

/// The components of a path; `Err` says why it is none within the root.
fn components(path: &[u8]) -> Result<Vec<OsString>, &'static str> {
    let mut components = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("leads out of its directory"),
            _ if part.contains(&0) => return Err("has a NUL in its name"),
            _ => components.push(OsStr::from_bytes(part).to_owned()),
        }
    }
    match components.len() {
        0..=MAX_DEPTH => Ok(components),
        _ => Err("is deeper than directories are"),
    }
}

fn refuse(entry: &Entry, reason: &'static str) -> anyhow::Error {
    let path = entry.display();
    UnpackError::Entry { path, reason }.into()
}
