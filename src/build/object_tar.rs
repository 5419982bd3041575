//! Objects of an ostree repository as tar entries. Checksums come in, entries go out, the same bytes each
//! time and the same that ostree-ext 0.15 writes. Every content is hashed on its way: one that is not what
//! its name says ends the work. Never decides which object stands where.
//!
//! Layout: docs of ostree-ext, "tar format"; extended attributes in its generation 1.

use std::collections::HashSet;
use std::io::{self, Read as _, Write};

use anyhow::{Context, Result, ensure};
use tar::{Builder, EntryType, Header};

use super::checked::{CheckedContent, DamagedObject};
use crate::image::Digest;
use crate::repo::object::{FileMeta, S_IFMT};
use crate::repo::{ObjectKind, Repo, gvariant};

const REPO: &str = "sysroot/ostree/repo";
const CONFIG: &[u8] = b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n";
/// Directories of a repository behind those of its objects.
const OTHER_DIRS: [&str; 8] = [
    "extensions",
    "refs",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "state",
    "tmp",
    "tmp/cache",
];
/// Bytes of the field for a link's target in a header.
const LINK_FIELD: usize = 100;
/// Bytes of content that are copied at once.
const COPY_BUFFER: usize = 64 << 10;

/// Takes objects and writes a tar stream.
pub struct ObjectTar<'a, W: Write> {
    repo: &'a Repo,
    tar: Builder<W>,
    carriers: HashSet<Digest>,
    buffer: Vec<u8>,
}

/// A file object that has been written, for the links to it.
#[derive(Debug)]
pub struct WrittenObject {
    path: String,
    /// As it was written. Links begin with a copy: where their paths are shorter, the rest of the object's path
    /// stays behind the NUL, which is part of the bytes that others write.
    header: Header,
    empty: bool,
}

impl<W: Write> std::fmt::Debug for ObjectTar<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectTar")
    }
}

impl<'a, W: Write> ObjectTar<'a, W> {
    /// Starts a stream.
    pub fn new(repo: &'a Repo, out: W) -> Self {
        Self {
            repo,
            tar: Builder::new(out),
            carriers: HashSet::new(),
            buffer: vec![0; COPY_BUFFER],
        }
    }

    /// Ends the stream.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    /// Writes the directories and the configuration of an empty repository.
    pub fn skeleton(&mut self) -> io::Result<()> {
        let objects = format!("{REPO}/objects");
        for path in ["sysroot", "sysroot/ostree", REPO, objects.as_str()] {
            self.plain_dir(path)?;
        }
        for part in 0..=255u8 {
            self.plain_dir(&format!("{objects}/{part:02x}"))?;
        }
        for name in OTHER_DIRS {
            self.plain_dir(&format!("{REPO}/{name}"))?;
        }
        self.plain_file(&format!("{REPO}/config"), CONFIG)
    }

    fn plain_dir(&mut self, path: &str) -> io::Result<()> {
        self.dir(path, (0, 0, 0o755))
    }

    /// Writes a directory with owner, group and mode.
    pub fn dir(&mut self, path: &str, (uid, gid, mode): (u32, u32, u32)) -> io::Result<()> {
        let mut header = header(uid, gid, mode);
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        self.tar.append_data(&mut header, path, io::empty())
    }

    fn plain_file(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        let mut header = header(0, 0, 0o644);
        header.set_entry_type(EntryType::Regular);
        header.set_size(data.len() as u64);
        self.tar.append_data(&mut header, path, data)
    }

    /// Writes an object that is no file.
    pub fn metadata(&mut self, kind: ObjectKind, name: Digest, data: &[u8]) -> io::Result<()> {
        self.plain_file(&object_path(name, kind.extension(false)), data)
    }

    /// Writes a file object with its extended attributes in front.
    pub fn content(&mut self, name: Digest) -> Result<WrittenObject> {
        let (mut written, meta) = self.described(name)?;
        self.carrier(name, &meta)?;
        let result = match meta.is_symlink() {
            true => self.symlink(&mut written, &meta, name),
            false => self.regular(&mut written, &meta, name),
        };
        result.with_context(|| format!("Writing file object {name}"))?;
        Ok(written)
    }

    /// A file object that this stream has already, for more links to it.
    pub fn again(&self, name: Digest) -> Result<WrittenObject> {
        let (mut written, _) = self.described(name)?;
        if written.empty {
            // The old way to say that it is a regular file, which others write here.
            written.header.as_old_mut().linkflag = [0];
        }
        Ok(written)
    }

    fn described(&self, name: Digest) -> Result<(WrittenObject, FileMeta)> {
        let (meta, size) = self.repo.file_meta(name)?;
        let mut header = header(meta.uid, meta.gid, meta.mode);
        let (kind, size) = match meta.is_symlink() {
            true => (EntryType::Symlink, 0),
            false => (EntryType::Regular, size),
        };
        header.set_entry_type(kind);
        header.set_size(size);
        let written = WrittenObject {
            path: object_path(name, "file"),
            header,
            empty: kind == EntryType::Regular && size == 0,
        };
        Ok((written, meta))
    }

    /// The attributes of the object that follows: a link to a set that stands in the stream once.
    fn carrier(&mut self, name: Digest, meta: &FileMeta) -> io::Result<()> {
        let mut data = Vec::new();
        gvariant::push_xattrs(&mut data, &meta.xattrs);
        let set = Digest::of(&data);
        let path = object_path(set, "file-xattrs");
        if self.carriers.insert(set) {
            self.plain_file(&path, &data)?;
        }
        let mut header = header(0, 0, 0o644);
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        self.tar
            .append_link(&mut header, object_path(name, "file-xattrs-link"), path)
    }

    fn regular(
        &mut self,
        written: &mut WrittenObject,
        meta: &FileMeta,
        name: Digest,
    ) -> Result<()> {
        let size = written.header.size()?;
        let mut content = CheckedContent::open(self.repo, name, meta, size)?;
        let (tar, header) = (self.tar.get_mut(), &mut written.header);
        header.set_path(&written.path)?;
        header.set_cksum();
        tar.write_all(header.as_bytes())?;
        let mut left = size;
        while left > 0 {
            let length = content.read(&mut self.buffer)?;
            ensure!(length > 0, DamagedObject(name));
            tar.write_all(&self.buffer[..length])?;
            left -= length as u64;
        }
        tar.write_all(&[0; 512][..(size.next_multiple_of(512) - size) as usize])?;
        content.finish()
    }

    /// Writes a link with its target as it is, which must not be normalized: it is part of the checksum.
    fn symlink(
        &mut self,
        written: &mut WrittenObject,
        meta: &FileMeta,
        name: Digest,
    ) -> Result<()> {
        ensure!(meta.checksum(&[]) == name, DamagedObject(name));
        let (header, target) = (&mut written.header, &meta.target[..]);
        if target.len() <= LINK_FIELD {
            header.set_link_name_literal(target)?;
        } else {
            self.long_target(header, target)?;
        }
        Ok(self.tar.append_data(header, &written.path, io::empty())?)
    }

    /// A target that does not fit stands in an entry of its own (GNU tar, type `K`). What the header says
    /// beside it nobody reads; it is what the `tar` crate leaves there.
    fn long_target(&mut self, header: &mut Header, target: &[u8]) -> Result<()> {
        let target = std::str::from_utf8(target).context("the target of a link is not text")?;
        if header.set_link_name(target).is_ok() {
            header.set_link_name_literal(&target.as_bytes()[..LINK_FIELD])?;
        }
        let mut long = Header::new_gnu();
        let name = b"././@LongLink";
        long.as_mut_bytes()[..name.len()].copy_from_slice(name);
        long.set_mode(0o644);
        long.set_uid(0);
        long.set_gid(0);
        long.set_size(target.len() as u64 + 1);
        long.set_entry_type(EntryType::GNULongLink);
        long.set_cksum();
        Ok(self.tar.append(&long, target.as_bytes().chain(&[0][..]))?)
    }

    /// Writes a path of a file object: a hard link to it. An empty file stands there once more, since a
    /// container that writes to it would otherwise change the object.
    pub fn link(&mut self, object: &WrittenObject, path: &str) -> io::Result<()> {
        let mut header = object.header.clone();
        header.set_size(0);
        if !object.empty {
            header.set_entry_type(EntryType::Link);
            header.set_link_name(&object.path)?;
        }
        self.tar.append_data(&mut header, path, io::empty())
    }
}

fn header(uid: u32, gid: u32, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mode(mode & !S_IFMT);
    header
}

fn object_path(name: Digest, extension: &str) -> String {
    let hex = name.hex();
    format!("{REPO}/objects/{}/{}.{extension}", &hex[..2], &hex[2..])
}
