//! Metadata of loose file objects, in each way a repository stores them. A directory and a name
//! come in, owner, mode, link target, attributes and size go out; and its content, where it is asked for.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::gvariant::{self, Xattrs};
use super::object::FileMeta;
use super::staging::StorageMode;
use crate::sys::fs as sysfs;

/// Largest attribute or list of names, bytes (Linux gives 64 KiB).
const MAX_ATTRIBUTE: usize = 1 << 20;

/// Largest header of an archive object: a link target and attributes, bytes.
pub const MAX_HEADER: usize = 2 << 20;

/// An object in whatever way a repository stores them.
pub fn file(mode: StorageMode, objects: &OwnedFd, name: &str) -> Result<(FileMeta, u64)> {
    match mode {
        StorageMode::Bare => bare(objects, name),
        StorageMode::BareUser => bare_user(objects, name),
        StorageMode::Archive => archive(objects, name, MAX_HEADER),
    }
}

/// A bare object: the file itself.
fn bare(objects: &OwnedFd, name: &str) -> Result<(FileMeta, u64)> {
    let stat = rustix::fs::statat(objects, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let symlink = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let target = match symlink {
        true => rustix::fs::readlinkat(objects, name, Vec::new())?.into_bytes(),
        false => Vec::new(),
    };
    let path = format!("/proc/self/fd/{}/{name}", objects.as_raw_fd());
    let meta = FileMeta {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode,
        target,
        xattrs: xattrs(&path)?,
    };
    Ok((meta, if symlink { 0 } else { stat.st_size as u64 }))
}

/// A bare-user object: metadata in an attribute, a link's target as content.
fn bare_user(objects: &OwnedFd, name: &str) -> Result<(FileMeta, u64)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::openat(objects, name, flags, Mode::empty())?);
    let value = attribute(|buffer| rustix::fs::fgetxattr(&file, "user.ostreemeta", buffer))?;
    let (uid, gid, mode, xattrs) = gvariant::parse_metadata(&value)?;
    let mut meta = FileMeta {
        uid,
        gid,
        mode,
        target: Vec::new(),
        xattrs,
    };
    if !meta.is_symlink() {
        return Ok((meta, file.metadata()?.len()));
    }
    file.take(4096).read_to_end(&mut meta.target)?;
    // libostree writes the final NUL, too, and reads what has none.
    if meta.target.last() == Some(&0) {
        meta.target.pop();
    }
    Ok((meta, 0))
}

/// An archive object: metadata in a header in front of the content.
fn archive(objects: &OwnedFd, name: &str, limit: usize) -> Result<(FileMeta, u64)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(objects, name, flags, Mode::empty())?);
    let header = archive_header(&mut file, limit)?;
    let (size, uid, gid, mode, target, xattrs) = gvariant::parse_archive_header(&header)?;
    Ok((
        FileMeta {
            uid,
            gid,
            mode,
            target,
            xattrs,
        },
        size,
    ))
}

/// Content of a regular file object; nothing of it is verified.
pub fn content(mode: StorageMode, objects: &OwnedFd, name: &str) -> Result<Box<dyn Read + Send>> {
    let file = sysfs::open_optional(objects, name)?;
    let mut file = file.context("there is no such object")?;
    if mode != StorageMode::Archive {
        return Ok(Box::new(file));
    }
    skip_archive_header(&mut file, MAX_HEADER)?;
    Ok(Box::new(flate2::read::DeflateDecoder::new(file)))
}

/// Goes to where the (deflated) content of an archive object begins.
fn skip_archive_header(file: &mut File, limit: usize) -> Result<()> {
    archive_header(file, limit).map(drop)
}

fn archive_header(file: &mut File, limit: usize) -> Result<Vec<u8>> {
    let mut frame = [0; 8];
    file.read_exact(&mut frame).context("reading its frame")?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    ensure!(
        length <= limit,
        "its header has {length} bytes, more than {limit}"
    );
    let mut header = vec![0; length];
    file.read_exact(&mut header).context("reading its header")?;
    Ok(header)
}

/// All extended attributes of a file or link, sorted by name; none where the file system has none.
pub(super) fn xattrs(path: &str) -> Result<Xattrs> {
    let names = match attribute(|buffer| rustix::fs::llistxattr(path, buffer)) {
        Err(error) if error.downcast_ref() == Some(&Errno::NOTSUP) => return Ok(Xattrs::new()),
        names => names?,
    };
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut xattrs = names
        .map(|name| {
            let value = attribute(|buffer| rustix::fs::lgetxattr(path, name, buffer))?;
            Ok((name.to_vec(), value))
        })
        .collect::<Result<Xattrs>>()?;
    xattrs.sort();
    Ok(xattrs)
}

/// Calls a function of the getxattr family with a buffer that is large enough.
fn attribute(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match get(&mut buffer) {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < MAX_ATTRIBUTE => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno.into()),
        }
    }
}
