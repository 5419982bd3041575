//! One file object as a file, in the form the repository's mode asks for. Metadata and content come in,
//! a file with owner, mode, attributes and time as libostree sets them goes out. Never names an object.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::LayerError;
use super::gvariant;
use super::layer_stage::Chunks;
use super::object::FileMeta;
use super::staging::StorageMode;
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// Deflate level of archive repositories: libostree's default.
const ARCHIVE_LEVEL: Compression = Compression::new(6);

/// Writes a file object whose whole content is at hand into a directory.
pub fn write(
    dir: &OwnedFd,
    name: &str,
    mode: StorageMode,
    meta: &FileMeta,
    data: &[u8],
) -> io::Result<()> {
    if meta.is_symlink() && mode == StorageMode::Bare {
        return bare_symlink(dir, meta, name);
    }
    let mut file = sysfs::create_new(dir, name)?;
    match mode {
        StorageMode::Archive => {
            write_archive_header(&mut file, meta, data.len() as u64)?;
            // A link has a header and nothing else.
            if !meta.is_symlink() {
                let mut encoder = DeflateEncoder::new(file, ARCHIVE_LEVEL);
                encoder.write_all(data)?;
                encoder.finish()?;
            }
            Ok(())
        }
        _ => {
            let link = meta.is_symlink();
            file.write_all(if link { &meta.target } else { data })?;
            seal(&file, mode, meta)
        }
    }
}

/// Writes a regular file of `size` bytes as an archive keeps it, and gives the object's checksum.
pub fn write_archived(
    mut file: File,
    meta: &FileMeta,
    size: u64,
    content: &mut impl Chunks,
) -> Result<Digest, LayerError> {
    write_archive_header(&mut file, meta, size)?;
    let mut encoder = DeflateEncoder::new(file, ARCHIVE_LEVEL);
    let checksum = write_hashed(meta, content, &mut encoder)?;
    encoder.finish()?;
    Ok(checksum)
}

fn bare_symlink(dir: &OwnedFd, meta: &FileMeta, name: &str) -> io::Result<()> {
    rustix::fs::symlinkat(&meta.target[..], dir, name)?;
    if (meta.uid, meta.gid) != (0, 0) || !rustix::process::geteuid().is_root() {
        let owner = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(dir, name, Some(owner.0), Some(owner.1), flags)?;
    }
    for (key, value) in &meta.xattrs {
        let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
        rustix::fs::lsetxattr(path, &key[..], value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Gives a written file its owner, mode, attributes and time, as libostree does.
pub fn seal(file: &File, mode: StorageMode, meta: &FileMeta) -> io::Result<()> {
    if mode == StorageMode::BareUser {
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

/// Writes the content of a regular file as it is, and gives the object's checksum.
pub fn write_hashed(
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
