//! File operations relative to a directory handle. Names come in, handles and bytes go out. Never
//! follows a link out of the directory for removal, and never reads a file without a limit.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, StatxFlags,
};
use rustix::io::Errno;

/// Opens a directory below `at`.
pub fn open_dir(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Opens a directory by path, links followed.
pub fn open_dir_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Makes a directory unless it is there already.
pub fn ensure_dir(at: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether something stands at `name`; a link counts itself.
pub fn exists(at: impl AsFd, name: &str) -> io::Result<bool> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a new file for writing; it must not exist.
pub fn create_new(at: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(
        at,
        name,
        flags,
        Mode::from_raw_mode(0o600),
    )?))
}

/// Opens a regular file for reading; `None` when it does not exist. A link is not followed, and a pipe
/// is not waited for.
pub fn open_optional(at: impl AsFd, name: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if file.metadata()?.is_file() {
        return Ok(Some(file));
    }
    let text = format!("{name} is not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// A name that nobody else takes at the same time.
pub fn random_name(prefix: &str) -> String {
    format!("{prefix}{:016x}", RandomState::new().hash_one(prefix))
}

/// Makes a file without a name in a directory, for reading and writing; it goes away when closed.
pub fn unnamed(dir: impl AsFd) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::openat(&dir, ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // The file system knows only files with names: NFS, overlayfs of old kernels.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let name = format!(".bowline-{}", uuid::Uuid::new_v4().simple());
    let flags = flags | OFlags::CREATE | OFlags::EXCL;
    let file = rustix::fs::openat(&dir, &*name, flags, mode)?;
    rustix::fs::unlinkat(&dir, &*name, AtFlags::empty())?;
    Ok(file.into())
}

/// Gives a file without a name one in a directory.
pub fn give_name(file: impl AsFd, dir: impl AsFd, name: &str) -> Result<(), Errno> {
    let own = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::linkat(CWD, own.as_str(), dir, name, AtFlags::SYMLINK_FOLLOW)
}

/// Reads a regular file whole; `None` when it does not exist, an error above `limit` bytes.
pub fn read_optional(at: impl AsFd, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_optional(at, name)? else {
        return Ok(None);
    };
    let mut data = Vec::new();
    file.take(limit + 1).read_to_end(&mut data)?;
    if data.len() as u64 > limit {
        let text = format!("{name} is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(data))
}

/// Reads what a user named, which may be a pipe, whole; `None` above `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut data = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut data)?;
    Ok((data.len() as u64 <= limit).then_some(data))
}

/// Removes `name` and everything below it; no error when it is not there. Links are not followed.
pub fn remove_all(at: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let dir = open_dir(&at, name)?;
    // Once more until nothing is found: names may be left out while others go.
    while each(&dir, |entry| remove_all(&dir, entry))? > 0 {}
    Ok(rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)?)
}

/// Calls `visit` with the names in a directory, without `.` and `..`, as they are read; gives how many
/// there were. Names that are not UTF-8 are an error.
pub fn each(dir: impl AsFd, mut visit: impl FnMut(&str) -> io::Result<()>) -> io::Result<usize> {
    let mut count = 0;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_str();
        let name = name.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if name != "." && name != ".." {
            visit(name)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The names in a directory, without `.` and `..`; names that are not UTF-8 are an error.
pub fn list(dir: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    each(dir, |name| {
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Whether `name` is a directory (a link to one is not).
pub fn is_dir(at: impl AsFd, name: &str) -> io::Result<bool> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for the exclusive lock of an open file or directory.
pub fn lock(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::LockExclusive)?)
}

/// Takes the exclusive lock of an open file or directory; false when somebody else holds it.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Puts a whole file at `path`, durably: a new file beside it, synced, renamed over it, and the
/// directory synced. Interrupted, the old content is there or the new one, and perhaps a leftover
/// whose name ends in `.new`, which the next call replaces.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = dir_of(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, &new, flags, Mode::from_raw_mode(mode))?;
    let mut file = File::from(file);
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

/// Makes a file at `path`, where nothing may be yet, durably: the file is synced, and its directory.
/// Interrupted, a part of it may be there; whoever gets no error finds all of it after a power cut.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(mode))?;
    let mut file = File::from(file);
    file.write_all(content)?;
    file.sync_all()?;
    File::open(dir_of(path))?.sync_all()
}

/// The directory that a path is in, which may be a mere name.
fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        None => Path::new("/"),
        Some(dir) if dir == Path::new("") => Path::new("."),
        Some(dir) => dir,
    }
}

/// Brings all that was written to the file system of `dir` to its disk.
pub fn sync_filesystem(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Copies a file to `to`, durably and in one step, as [`replace`] does it. The directory must exist.
pub fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let dir = dir_of(to);
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    std::fs::copy(from, &new)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, to)?;
    File::open(dir)?.sync_all()
}

/// Opens a file of the tree at `root` for reading and writing, made with `mode` where it is missing.
/// Links are resolved within the tree, absolute ones from its root, so that nothing outside of it is
/// ever opened. With [`OFlags::TRUNC`] it is emptied, with [`OFlags::APPEND`] writing goes to its end.
pub fn open_within(root: &Path, path: &str, flags: OFlags, mode: u32) -> io::Result<File> {
    let flags = flags | OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let root = open_dir_path(root)?;
    let (mode, within) = (Mode::from_raw_mode(mode), ResolveFlags::IN_ROOT);
    let fd = rustix::fs::openat2(root, path, flags, mode, within)?;
    Ok(File::from(fd))
}

/// Makes a directory of the tree at `root` unless it is there; the one above it must be. Links are
/// resolved as in [`open_within`].
pub fn ensure_dir_within(root: &Path, above: &str, name: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (root, mode) = (open_dir_path(root)?, Mode::empty());
    let above = rustix::fs::openat2(root, above, flags, mode, ResolveFlags::IN_ROOT)?;
    ensure_dir(above, name)
}

/// Bytes that an unprivileged user may still write on the file system of `file`.
pub fn available_bytes(file: impl AsFd) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(file)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Number of the mount that a name is on; of the directory itself with no name.
pub fn mount_of(dir: impl AsFd, name: &OsStr) -> io::Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let found = rustix::fs::statx(dir, name, flags, StatxFlags::MNT_ID)?;
    // Kernels before 5.8 do not tell mounts; the device does nearly as well.
    let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let device = (u64::from(found.stx_dev_major) << 32) | u64::from(found.stx_dev_minor);
    Ok(if told { found.stx_mnt_id } else { device })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn new_files_are_written_over_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"one", 0o600).unwrap();
        let error = write_new(&path, b"two", 0o644).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("other"), &link).unwrap();
        assert!(write_new(&link, b"two", 0o600).is_err());
    }

    #[test]
    fn each_path_is_in_a_directory() {
        for (path, dir) in [
            ("/a/b", "/a"),
            ("/a", "/"),
            ("a/b", "a"),
            ("a", "."),
            ("/", "/"),
        ] {
            assert_eq!(dir_of(Path::new(path)), Path::new(dir), "{path}");
        }
    }
}
