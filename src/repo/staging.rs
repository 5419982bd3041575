//! Objects on their way into a repository. File metadata and content come in; objects go into a
//! staging directory, and only what has been synced is renamed to its final name.
//!
//! ```text
//! REPO/tmp/bowline-PID-N/          one per pull, locked with flock for as long as it is in use
//!     L/HEX.file HEX.dirtree ...   objects of layer L
//!     L/big                        a file whose checksum is not known yet
//!     refs/N                       refs that move when their objects are durable
//! ```
//!
//! An interruption leaves such a directory behind; the next pull removes it. Never writes under a
//! final name, because libostree takes an object that exists for a valid one.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::LayerError;
use super::gvariant;
use super::object::{FileMeta, ObjectKind};
use super::tar_stream::TarError;
use crate::image::Digest;
use crate::sys::fs as sysfs;

const PREFIX: &str = "bowline-";
/// Files up to this size are hashed in memory first, so that one that exists costs no write.
const IN_MEMORY: u64 = 256 << 10;
/// Deflate level of archive repositories: libostree's default.
const ARCHIVE_LEVEL: Compression = Compression::new(6);

/// How a repository stores files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageMode {
    /// As they are; needs root for any owner but oneself.
    Bare,
    /// Content as a plain file, metadata in an extended attribute.
    BareUser,
    /// Compressed, metadata in a header.
    Archive,
}

/// The staging directory of one pull.
#[derive(Debug)]
pub struct Staging {
    repo: OwnedFd,
    objects: OwnedFd,
    tmp: OwnedFd,
    /// Locked; closing it releases the lock.
    dir: OwnedFd,
    name: String,
    mode: StorageMode,
    sync: bool,
}

impl Staging {
    /// Makes a staging directory and removes those that interrupted pulls left behind.
    pub fn new(repo: OwnedFd, mode: StorageMode, sync: bool) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let tmp = sysfs::open_dir(&repo, "tmp")?;
        remove_abandoned(&tmp)?;
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let pid = rustix::process::getpid().as_raw_nonzero();
        let name = format!("{PREFIX}{pid}-{count}");
        sysfs::remove_all(&tmp, &name)?;
        rustix::fs::mkdirat(&tmp, &name, Mode::from_raw_mode(0o700))?;
        let dir = sysfs::open_dir(&tmp, &name)?;
        if !sysfs::try_lock(&dir)? {
            return Err(io::Error::other(
                "the new staging directory is locked already",
            ));
        }
        let objects = sysfs::open_dir(&repo, "objects")?;
        Ok(Self {
            repo,
            objects,
            tmp,
            dir,
            name,
            mode,
            sync,
        })
    }

    /// A place for the objects of one layer.
    pub fn layer(&self, name: &str) -> io::Result<LayerStage> {
        sysfs::remove_all(&self.dir, name)?;
        sysfs::ensure_dir(&self.dir, name)?;
        Ok(LayerStage {
            dir: sysfs::open_dir(&self.dir, name)?,
            objects: self.objects.try_clone()?,
            mode: self.mode,
            staged: Vec::new(),
            names: HashSet::new(),
            buffer: Vec::new(),
            bytes: 0,
        })
    }

    /// Makes the objects of finished layers durable, then visible, and moves `refs` to them last.
    ///
    /// Interrupted anywhere, the repository has whole objects only, and no ref to what is not
    /// there. `refs` are names below `refs/heads/` and the commits they shall point to.
    pub fn publish(&self, layers: Vec<LayerStage>, refs: &[(String, String)]) -> io::Result<()> {
        sysfs::remove_all(&self.dir, "refs")?;
        sysfs::ensure_dir(&self.dir, "refs")?;
        let staged_refs = sysfs::open_dir(&self.dir, "refs")?;
        for (number, (_, commit)) in refs.iter().enumerate() {
            let mut file = sysfs::create_new(&staged_refs, &number.to_string())?;
            file.write_all(format!("{commit}\n").as_bytes())?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        }
        self.sync()?;
        for layer in layers {
            self.publish_objects(layer)?;
        }
        self.sync()?;
        for (number, (name, _)) in refs.iter().enumerate() {
            self.publish_ref(&staged_refs, &number.to_string(), name)?;
        }
        // libostree's own readers notice changed refs by the time of the repository directory.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        rustix::fs::futimens(
            &self.repo,
            &Timestamps {
                last_access: now,
                last_modification: now,
            },
        )?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        match self.sync {
            true => Ok(rustix::fs::syncfs(&self.repo)?),
            false => Ok(()),
        }
    }

    fn publish_objects(&self, mut layer: LayerStage) -> io::Result<()> {
        // Commits last: one that is there with nothing below it would look damaged.
        layer
            .staged
            .sort_by_key(|(_, kind)| *kind >= ObjectKind::Commit);
        for (checksum, kind) in &layer.staged {
            let hex = checksum.hex();
            let extension = kind.extension(self.mode == StorageMode::Archive);
            let staged = format!("{hex}.{extension}");
            let name = format!("{}/{}.{extension}", &hex[..2], &hex[2..]);
            match rustix::fs::renameat(&layer.dir, &staged, &self.objects, &name) {
                Err(rustix::io::Errno::NOENT) => {
                    sysfs::ensure_dir(&self.objects, &hex[..2])?;
                    rustix::fs::renameat(&layer.dir, &staged, &self.objects, &name)?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn publish_ref(&self, staged: &OwnedFd, from: &str, name: &str) -> io::Result<()> {
        let heads = sysfs::open_dir(&self.repo, "refs")?;
        let mut dir = sysfs::open_dir(&heads, "heads")?;
        let (parents, last) = name.rsplit_once('/').unwrap_or(("", name));
        for component in parents.split('/').filter(|c| !c.is_empty()) {
            sysfs::ensure_dir(&dir, component)?;
            dir = sysfs::open_dir(&dir, component)?;
        }
        Ok(rustix::fs::renameat(staged, from, dir, last)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = sysfs::remove_all(&self.tmp, &self.name) {
            tracing::debug!("leaving staging directory {} behind: {error}", self.name);
        }
    }
}

/// Removes staging directories that nobody holds the lock of.
fn remove_abandoned(tmp: &OwnedFd) -> io::Result<()> {
    for name in sysfs::list(tmp)? {
        if !name.starts_with(PREFIX) || !sysfs::is_dir(tmp, &name)? {
            continue;
        }
        let Ok(dir) = sysfs::open_dir(tmp, &name) else {
            continue;
        };
        if sysfs::try_lock(&dir)? {
            tracing::info!("removing {name}, which an interrupted pull left behind");
            sysfs::remove_all(tmp, &name)?;
        }
    }
    Ok(())
}

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

/// Content that is in memory.
#[derive(Debug)]
pub struct Whole<'a>(pub Option<&'a [u8]>);

impl Chunks for Whole<'_> {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        Ok(self.0.take())
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
}

impl LayerStage {
    /// Bytes written so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets file objects that `needed` does not name; they are not published.
    pub fn retain_files(&mut self, needed: &HashSet<Digest>) {
        self.staged
            .retain(|(name, kind)| *kind != ObjectKind::File || needed.contains(name));
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

    /// Takes the detached metadata of `commit`.
    pub fn detached_metadata(&mut self, commit: Digest, data: &[u8]) -> io::Result<()> {
        self.write_plain(commit, ObjectKind::CommitMeta, data)
    }

    fn write_plain(&mut self, name: Digest, kind: ObjectKind, data: &[u8]) -> io::Result<()> {
        let file_name = self.file_name(name, kind);
        sysfs::remove_all(&self.dir, &file_name)?;
        let mut file = sysfs::create_new(&self.dir, &file_name)?;
        file.write_all(data)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        self.bytes += data.len() as u64;
        self.note(name, kind);
        Ok(())
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
        let mut name = self.file_name(checksum, kind);
        name.insert(2, '/');
        sysfs::exists(&self.objects, &name)
    }

    fn hash_only(
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
        if !self.has(checksum, ObjectKind::File)? {
            self.write_small(meta, checksum, &buffer)?;
        }
        self.buffer = buffer;
        Ok(checksum)
    }

    fn write_small(&mut self, meta: &FileMeta, checksum: Digest, data: &[u8]) -> io::Result<()> {
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
        if self.has(checksum, ObjectKind::File)? {
            sysfs::remove_all(&self.dir, "big")?;
            return Ok(checksum);
        }
        let name = self.file_name(checksum, ObjectKind::File);
        rustix::fs::renameat(&self.dir, "big", &self.dir, &name).map_err(io::Error::from)?;
        self.bytes += size;
        self.note(checksum, ObjectKind::File);
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
            let path = format!("/proc/self/fd/{}/{name}", raw(&self.dir));
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

fn raw(fd: impl AsFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_fd().as_raw_fd()
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
