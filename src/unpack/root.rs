//! The directory that an image is unpacked to. Paths of an archive come in, file operations go out.
//! Every path is resolved by the kernel as if the directory were the root of everything, so that
//! neither `..` nor a link leads out of it; the last name of a path is never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

/// Mode of directories while the image is unpacked; their own comes at the end.
const OPEN_DIR: u32 = 0o700;

/// The root of an image.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    /// Whether files get the image's owners.
    pub(super) owners: bool,
}

/// Owner, mode, time and attributes of something.
#[derive(Debug)]
pub(super) struct Meta<'a> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) mtime: u64,
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// The directory that a name stands in.
#[derive(Debug)]
pub(super) struct Parent(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path, owners: bool) -> io::Result<Self> {
        let fd = crate::sys::fs::open_dir_path(path)?;
        Ok(Self { fd, owners })
    }

    /// Opens a directory, links followed within the root.
    pub(super) fn dir(&self, path: &[OsString]) -> rustix::io::Result<OwnedFd> {
        let joined = join(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.fd, joined.as_os_str(), flags, Mode::empty(), within)
    }

    /// The directory of a name, made with those above it where it is missing.
    pub(super) fn parent(&self, dirs: &[OsString]) -> io::Result<Parent> {
        match self.dir(dirs) {
            Ok(fd) => return Ok(Parent(fd)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        for (index, name) in dirs.iter().enumerate() {
            match self.dir(&dirs[..=index]) {
                Ok(_) => {}
                Err(Errno::NOENT) => {
                    let above = self.dir(&dirs[..index])?;
                    make_dir(&above, name)?;
                    // A dangling link stands there if it still cannot be opened.
                    rustix::fs::chmodat(
                        self.dir(&dirs[..=index])?,
                        ".",
                        0o755.into(),
                        AtFlags::empty(),
                    )?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Parent(self.dir(dirs)?))
    }

    /// Gives an open file or directory what the image says of it.
    pub(super) fn dress(&self, fd: impl AsFd, meta: &Meta<'_>) -> io::Result<()> {
        let mut mode = meta.mode & 0o7777;
        if self.owners {
            rustix::fs::fchown(
                &fd,
                Some(Uid::from_raw(meta.uid)),
                Some(Gid::from_raw(meta.gid)),
            )?;
        } else {
            // They would be set-id for somebody else than the image means.
            mode &= 0o1777;
        }
        for (name, value) in meta.xattrs {
            if self.takes(name) {
                set_xattr(&fd, name, value)?;
            }
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(rustix::fs::futimens(&fd, &times(meta.mtime))?)
    }

    /// Attributes that mean the same in a directory: not labels of another policy, not what file
    /// systems use among themselves.
    fn takes(&self, name: &[u8]) -> bool {
        let own = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        own || (self.owners
            && (name == b"security.capability" || name.starts_with(b"system.posix_acl_")))
    }
}

impl Parent {
    /// What stands at a name; links are not followed.
    pub(super) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens the directory at a name, made anew unless there is one. Anything else there goes.
    pub(super) fn directory(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let is_dir = |stat: &Stat| kind(stat) == FileType::Directory;
        if !self.stat(name)?.as_ref().is_some_and(is_dir) {
            self.clear(name)?;
            make_dir(&self.0, name)?;
        }
        open_dir(&self.0, name)
    }

    /// Makes a new file; what stood there goes.
    pub(super) fn file(&self, name: &OsStr) -> io::Result<File> {
        self.clear(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, name, flags | OFlags::NOFOLLOW, 0o600.into())?;
        Ok(File::from(fd))
    }

    pub(super) fn symlink(
        &self,
        name: &OsStr,
        target: &[u8],
        root: &Root,
        meta: &Meta<'_>,
    ) -> io::Result<()> {
        self.clear(name)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &self.0, name)?;
        self.dress(name, root, meta)
    }

    /// Gives what cannot be opened its owner and time.
    fn dress(&self, name: &OsStr, root: &Root, meta: &Meta<'_>) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if root.owners {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            rustix::fs::chownat(&self.0, name, Some(uid), Some(gid), nofollow)?;
        }
        let times = times(meta.mtime);
        Ok(rustix::fs::utimensat(&self.0, name, &times, nofollow)?)
    }

    /// Another name for a file. `false`: there is no file to link to.
    pub(super) fn hard_link(&self, name: &OsStr, from: (&Self, &OsStr)) -> io::Result<bool> {
        let Some(source) = from.0.stat(from.1)? else {
            return Ok(false);
        };
        if kind(&source) == FileType::Directory {
            return Ok(false);
        }
        if let Some(found) = self.stat(name)? {
            if (found.st_dev, found.st_ino) == (source.st_dev, source.st_ino) {
                return Ok(true);
            }
        }
        self.clear(name)?;
        // Without flags, a link at the end is linked to, not followed.
        rustix::fs::linkat(&from.0.0, from.1, &self.0, name, AtFlags::empty())?;
        Ok(true)
    }

    pub(super) fn fifo(&self, name: &OsStr, root: &Root, meta: &Meta<'_>) -> io::Result<()> {
        self.clear(name)?;
        rustix::fs::mknodat(&self.0, name, FileType::Fifo, 0o600.into(), 0)?;
        let mode = Mode::from_raw_mode(meta.mode & 0o777);
        // Nobody else can have put a link there: directories are the user's own until the end.
        rustix::fs::chmodat(&self.0, name, mode, AtFlags::empty())?;
        self.dress(name, root, meta)
    }

    /// Removes what stands at a name, with everything below it.
    pub(super) fn clear(&self, name: &OsStr) -> io::Result<()> {
        remove_at(&self.0, name, &mut |_| false, &mut Vec::new()).map(drop)
    }

    /// Removes what stands at a name, but for what `stays` of it; its paths begin with `path`.
    pub(super) fn remove(
        &self,
        name: &OsStr,
        path: &mut Vec<OsString>,
        stays: &mut dyn FnMut(&[OsString]) -> bool,
    ) -> io::Result<()> {
        path.push(name.to_owned());
        remove_at(&self.0, name, stays, path)?;
        path.pop();
        Ok(())
    }

    /// The names in the directory.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.0)
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes a directory and what is in it, whatever the modes in it are.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let (parent, name) = (path.parent(), path.file_name());
    let (Some(parent), Some(name)) = (parent, name) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let parent = crate::sys::fs::open_dir_path(parent)?;
    remove_at(&parent, name, &mut |_| false, &mut Vec::new()).map(drop)
}

/// Removes a name and what is below it, but for what `stays`; tells whether all is gone. Directories may be
/// so deep that their paths are too long for the system: each is opened from the one above.
fn remove_at(
    at: &OwnedFd,
    name: &OsStr,
    stays: &mut dyn FnMut(&[OsString]) -> bool,
    path: &mut Vec<OsString>,
) -> io::Result<bool> {
    let own = stays(path);
    let dir = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => kind(&stat) == FileType::Directory,
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(errno.into()),
    };
    if !dir {
        if !own {
            rustix::fs::unlinkat(at, name, AtFlags::empty())?;
        }
        return Ok(!own);
    }
    let dir = open_dir(at, name)?;
    let mut empty = true;
    for child in names(&dir)? {
        path.push(child.clone());
        empty &= remove_at(&dir, &child, stays, path)?;
        path.pop();
    }
    if empty && !own {
        rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)?;
    }
    Ok(empty && !own)
}

fn open_dir(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn make_dir(at: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::mkdirat(at, name, OPEN_DIR.into()) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn join(path: &[OsString]) -> OsString {
    match path {
        [] => ".".into(),
        _ => path.join(OsStr::new("/")),
    }
}

/// A file system without attributes, or without room for this one, does not keep the rest away.
fn set_xattr(fd: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::PERM | Errno::NOSPC | Errno::RANGE | Errno::INVAL) => {
            tracing::debug!("attribute {} is left out", String::from_utf8_lossy(name));
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(mtime).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
