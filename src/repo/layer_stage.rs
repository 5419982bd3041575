//! Writes the objects of one layer into its staging directory, in the form the repository's mode
//! asks for. File metadata and content come in, checksums go out. Never touches a final name and
//! never writes a file that the repository has.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::LayerError;
use super::gvariant;
use super::hashing::Hashing;
use super::loose;
use super::object::{FileMeta, ObjectKind};
use super::staging::StorageMode;
use super::tar_stream::TarError;
use super::tree::TreeStore;
use crate::image::Digest;
use crate::sys::amount::bytes;
use crate::sys::fs as sysfs;

/// Files up to this size are hashed in memory first, so that one that exists costs no write.
const IN_MEMORY: u64 = 256 << 10;
/// Bytes that are written between two looks at the free space.
const CLAIM_STEP: u64 = 16 << 20;
/// What a file costs the file system beside its content, bytes.
const CLAIM_FILE: u64 = 512;
/// Bytes of a streamed object that are hashed and written at once.
const STREAM_BUFFER: usize = 64 << 10;
/// Largest directory tree that is read back, bytes.
const MAX_TREE: u64 = 128 << 20;
/// Deflate level of archive repositories: libostree's default.
const ARCHIVE_LEVEL: Compression = Compression::new(6);

/// Gives the content of a file slice by slice.
pub trait Chunks {
    /// The next slice, `None` at the end.
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError>;
}

impl<R: io::BufRead> Chunks for super::tar_stream::TarStream<R> {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        Self::chunk(self)
    }
}

/// What a symbolic link has beside its target.
#[derive(Debug)]
pub(super) struct NoContent;

impl Chunks for NoContent {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        Ok(None)
    }
}

/// Objects of one layer. One thread writes them.
#[derive(Debug)]
pub struct LayerStage {
    dir: OwnedFd,
    objects: OwnedFd,
    mode: StorageMode,
    staged: Vec<(Digest, ObjectKind)>,
    names: HashSet<(Digest, ObjectKind)>,
    buffer: Vec<u8>,
    bytes: u64,
    reserve: u64,
    claimed: u64,
    /// File objects that are in the repository and damaged.
    pub(super) damaged: HashSet<Digest>,
}

impl LayerStage {
    /// Writes into `dir`; `objects` are those of the repository, and `reserve` bytes stay free.
    pub(super) fn new(dir: OwnedFd, objects: OwnedFd, mode: StorageMode, reserve: u64) -> Self {
        Self {
            dir,
            objects,
            mode,
            staged: Vec::new(),
            names: HashSet::new(),
            buffer: Vec::new(),
            bytes: 0,
            reserve,
            claimed: 0,
            damaged: HashSet::new(),
        }
    }

    /// The directory, and the objects in it that are to be published.
    pub(super) fn into_objects(self) -> (OwnedFd, Vec<(Digest, ObjectKind)>) {
        (self.dir, self.staged)
    }

    /// A directory for anything else; it goes away with the staging directory.
    pub(super) fn scratch(&self) -> io::Result<OwnedFd> {
        sysfs::remove_all(&self.dir, "scratch")?;
        sysfs::ensure_dir(&self.dir, "scratch")?;
        sysfs::open_dir(&self.dir, "scratch")
    }

    /// Bytes written so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A file without a name, for anything else.
    pub(super) fn unnamed(&self) -> io::Result<File> {
        sysfs::unnamed(&self.dir)
    }

    /// Forgets objects; they are not published.
    pub fn forget(&mut self, objects: &BTreeSet<(Digest, ObjectKind)>) {
        self.staged.retain(|object| !objects.contains(object));
    }

    /// Metadata of a file object that is staged; `None` for any other.
    pub fn staged_file(&self, checksum: Digest) -> anyhow::Result<Option<FileMeta>> {
        let name = self.file_name(checksum, ObjectKind::File);
        match sysfs::exists(&self.dir, &name)? {
            true => Ok(Some(loose::file(self.mode, &self.dir, &name)?.0)),
            false => Ok(None),
        }
    }

    /// The file objects that this layer brings or refers to and that are here, staged or before.
    pub fn has_file(&self, checksum: Digest) -> io::Result<bool> {
        self.has(checksum, ObjectKind::File)
    }

    /// Takes one file and gives its checksum. With `expected`, another checksum is an error and
    /// nothing of the file is kept. A file that the repository has costs no write.
    pub fn file(
        &mut self,
        meta: &FileMeta,
        size: u64,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        let known = expected
            .map(|e| self.has(e, ObjectKind::File))
            .transpose()?;
        if known == Some(true) {
            return self.hash_only(meta, expected, content);
        }
        match size {
            0..=IN_MEMORY => self.small_file(meta, expected, content),
            _ => self.big_file(meta, size, expected, content),
        }
    }

    /// Takes one metadata object; its name is the hash of its bytes.
    pub fn metadata(&mut self, kind: ObjectKind, data: &[u8]) -> io::Result<Digest> {
        let checksum = Digest::of(data);
        if !self.has(checksum, kind)? {
            self.write_plain(checksum, kind, data)?;
        }
        Ok(checksum)
    }

    /// Takes a metadata object that is written piece by piece.
    pub fn stream<E: From<io::Error>>(
        &mut self,
        kind: ObjectKind,
        write: impl FnOnce(&mut BufWriter<Hashing<File>>) -> Result<(), E>,
    ) -> Result<Digest, E> {
        sysfs::remove_all(&self.dir, "big")?;
        let file = Hashing::new(sysfs::create_new(&self.dir, "big")?);
        let mut out = BufWriter::with_capacity(STREAM_BUFFER, file);
        write(&mut out)?;
        let out = out.into_inner().map_err(io::Error::from)?;
        let (checksum, size, file) = out.finish();
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(io::Error::from)?;
        self.keep_big(checksum, kind, size)?;
        Ok(checksum)
    }

    /// Gives the file `big` its name, unless the object is here.
    fn keep_big(&mut self, checksum: Digest, kind: ObjectKind, size: u64) -> io::Result<()> {
        if self.has(checksum, kind)? {
            return sysfs::remove_all(&self.dir, "big");
        }
        let name = self.file_name(checksum, kind);
        rustix::fs::renameat(&self.dir, "big", &self.dir, &name)?;
        self.bytes += size;
        self.note(checksum, kind);
        Ok(())
    }

    /// Takes the detached metadata of `commit`.
    pub fn detached_metadata(&mut self, commit: Digest, data: &[u8]) -> io::Result<()> {
        self.write_plain(commit, ObjectKind::CommitMeta, data)
    }

    fn write_plain(&mut self, name: Digest, kind: ObjectKind, data: &[u8]) -> io::Result<()> {
        self.claim(data.len() as u64)?;
        let file_name = self.file_name(name, kind);
        sysfs::remove_all(&self.dir, &file_name)?;
        let mut file = sysfs::create_new(&self.dir, &file_name)?;
        file.write_all(data)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        self.bytes += data.len() as u64;
        self.note(name, kind);
        Ok(())
    }

    /// Refuses to write `size` bytes more where they would not leave enough free.
    fn claim(&mut self, size: u64) -> io::Result<()> {
        self.claimed += size + CLAIM_FILE;
        if self.claimed < CLAIM_STEP {
            return Ok(());
        }
        let wanted = std::mem::take(&mut self.claimed);
        let free = sysfs::available_bytes(&self.dir)?;
        if free.saturating_sub(self.reserve) >= wanted {
            return Ok(());
        }
        let text = format!(
            "{} are free, of which the repository's min-free-space keeps {}",
            bytes(free),
            bytes(self.reserve)
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    fn note(&mut self, checksum: Digest, kind: ObjectKind) {
        if self.names.insert((checksum, kind)) {
            self.staged.push((checksum, kind));
        }
    }

    fn file_name(&self, checksum: Digest, kind: ObjectKind) -> String {
        format!(
            "{}.{}",
            checksum.hex(),
            kind.extension(self.mode == StorageMode::Archive)
        )
    }

    /// Whether the object is in the repository or staged here.
    fn has(&self, checksum: Digest, kind: ObjectKind) -> io::Result<bool> {
        if self.names.contains(&(checksum, kind)) {
            return Ok(true);
        }
        if kind == ObjectKind::File && self.damaged.contains(&checksum) {
            return Ok(false);
        }
        let mut name = self.file_name(checksum, kind);
        name.insert(2, '/');
        sysfs::exists(&self.objects, &name)
    }

    /// The checksum of a file that is not written.
    pub(super) fn hash_only(
        &self,
        meta: &FileMeta,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        use sha2::Digest as _;
        let mut hasher = meta.hasher();
        while let Some(chunk) = content.chunk()? {
            hasher.update(chunk);
        }
        check(Digest::from_bytes(hasher.finalize().into()), expected)
    }

    fn small_file(
        &mut self,
        meta: &FileMeta,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        while let Some(chunk) = content.chunk()? {
            buffer.extend_from_slice(chunk);
        }
        let checksum = check(meta.checksum(&buffer), expected)?;
        // What was expected has been looked for before its content was read.
        if expected.is_some() || !self.has(checksum, ObjectKind::File)? {
            self.write_small(meta, checksum, &buffer)?;
        }
        self.buffer = buffer;
        Ok(checksum)
    }

    fn write_small(&mut self, meta: &FileMeta, checksum: Digest, data: &[u8]) -> io::Result<()> {
        self.claim(data.len() as u64)?;
        let name = self.file_name(checksum, ObjectKind::File);
        if meta.is_symlink() && self.mode == StorageMode::Bare {
            self.bare_symlink(meta, &name)?;
        } else {
            let mut file = sysfs::create_new(&self.dir, &name)?;
            match self.mode {
                StorageMode::Archive => {
                    write_archive_header(&mut file, meta, data.len() as u64)?;
                    // A link has a header and nothing else.
                    if !meta.is_symlink() {
                        let mut encoder = DeflateEncoder::new(file, ARCHIVE_LEVEL);
                        encoder.write_all(data)?;
                        encoder.finish()?;
                    }
                }
                _ => {
                    let link = meta.is_symlink();
                    file.write_all(if link { &meta.target } else { data })?;
                    self.seal(&file, meta)?;
                }
            }
        }
        self.bytes += data.len() as u64;
        self.note(checksum, ObjectKind::File);
        Ok(())
    }

    fn big_file(
        &mut self,
        meta: &FileMeta,
        size: u64,
        expected: Option<Digest>,
        content: &mut impl Chunks,
    ) -> Result<Digest, LayerError> {
        self.claim(size)?;
        sysfs::remove_all(&self.dir, "big")?;
        let mut file = sysfs::create_new(&self.dir, "big")?;
        let checksum = match self.mode {
            StorageMode::Archive => {
                write_archive_header(&mut file, meta, size)?;
                let mut encoder = DeflateEncoder::new(file, ARCHIVE_LEVEL);
                let checksum = copy_hashed(meta, content, &mut encoder)?;
                encoder.finish()?;
                checksum
            }
            _ => {
                let checksum = copy_hashed(meta, content, &mut file)?;
                self.seal(&file, meta)?;
                checksum
            }
        };
        let checksum = check(checksum, expected)?;
        self.keep_big(checksum, ObjectKind::File, size)?;
        Ok(checksum)
    }

    fn bare_symlink(&self, meta: &FileMeta, name: &str) -> io::Result<()> {
        rustix::fs::symlinkat(&meta.target[..], &self.dir, name)?;
        if (meta.uid, meta.gid) != (0, 0) || !rustix::process::geteuid().is_root() {
            let owner = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&self.dir, name, Some(owner.0), Some(owner.1), flags)?;
        }
        for (key, value) in &meta.xattrs {
            let path = format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd());
            rustix::fs::lsetxattr(path, &key[..], value, XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Gives a written file its owner, mode, attributes and time, as libostree does.
    fn seal(&self, file: &File, meta: &FileMeta) -> io::Result<()> {
        if self.mode == StorageMode::BareUser {
            let value = gvariant::metadata(meta.uid, meta.gid, meta.mode, &meta.xattrs);
            rustix::fs::fsetxattr(file, "user.ostreemeta", &value, XattrFlags::empty())?;
            let mode = if meta.is_symlink() {
                0o644
            } else {
                (meta.mode & 0o775) | 0o400
            };
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
        } else {
            if (meta.uid, meta.gid) != (0, 0) || !rustix::process::geteuid().is_root() {
                let owner = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
                rustix::fs::fchown(file, Some(owner.0), Some(owner.1))?;
            }
            rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode & 0o7777))?;
            for (key, value) in &meta.xattrs {
                rustix::fs::fsetxattr(file, &key[..], value, XattrFlags::empty())?;
            }
        }
        let omit = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        };
        let epoch = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: omit,
            last_modification: epoch,
        };
        Ok(rustix::fs::futimens(file, &times)?)
    }
}

impl TreeStore for LayerStage {
    fn read_tree(&self, tree: Digest) -> io::Result<Vec<u8>> {
        let mut name = self.file_name(tree, ObjectKind::DirTree);
        let staged = sysfs::read_optional(&self.dir, &name, MAX_TREE)?;
        if let Some(data) = staged {
            return Ok(data);
        }
        name.insert(2, '/');
        let data = sysfs::read_optional(&self.objects, &name, MAX_TREE)?;
        data.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is missing")))
    }

    fn write_tree(&mut self, data: &[u8]) -> io::Result<Digest> {
        self.metadata(ObjectKind::DirTree, data)
    }
}

fn check(found: Digest, expected: Option<Digest>) -> Result<Digest, LayerError> {
    match expected {
        Some(expected) if expected != found => Err(LayerError::Checksum {
            name: expected.hex(),
            found,
        }),
        _ => Ok(found),
    }
}

fn copy_hashed(
    meta: &FileMeta,
    content: &mut impl Chunks,
    out: &mut impl Write,
) -> Result<Digest, LayerError> {
    use sha2::Digest as _;
    let mut hasher = meta.hasher();
    while let Some(chunk) = content.chunk()? {
        hasher.update(chunk);
        out.write_all(chunk)?;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// The framed header of an archive object; raw deflate of the content follows.
fn write_archive_header(file: &mut File, meta: &FileMeta, size: u64) -> io::Result<()> {
    let ids = (meta.uid, meta.gid);
    let header = gvariant::archive_header(size, ids, meta.mode, &meta.target, &meta.xattrs);
    file.write_all(&(header.len() as u32).to_be_bytes())?;
    file.write_all(&[0; 4])?;
    file.write_all(&header)?;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(0o644))?)
}
