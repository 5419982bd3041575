//! What directories get when everything is unpacked: an image may make one read-only and still put
//! something into it, and each new name changes its time. Directories come in, in a file and not in
//! memory; at the end each gets its mode and time, if it is still the same one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{Mode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::root::Root;

/// Directories that wait.
#[derive(Debug)]
pub(super) struct Later(BufWriter<File>);

impl Later {
    /// Keeps them in a file without a name on the file system of `dir`.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let dir = crate::sys::fs::open_dir_path(dir)?;
        Ok(Self(BufWriter::new(crate::sys::fs::unnamed(dir)?)))
    }

    /// Notes what a directory is to get. The last word counts.
    pub(super) fn directory(
        &mut self,
        path: &[OsString],
        stat: &Stat,
        (mode, mtime): (u32, u64),
    ) -> io::Result<()> {
        let path = path.join(OsStr::new("/"));
        let length = u32::try_from(path.len()).map_err(io::Error::other)?;
        let out = &mut self.0;
        out.write_all(&stat.st_ino.to_le_bytes())?;
        out.write_all(&mode.to_le_bytes())?;
        out.write_all(&mtime.to_le_bytes())?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(path.as_bytes())
    }

    /// Gives all directories what they are to get, those that nobody may enter any more last.
    pub(super) fn carry_out(self, root: &Root) -> io::Result<()> {
        let mut file = self
            .0
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        for locking in [false, true] {
            file.seek(SeekFrom::Start(0))?;
            let mut input = BufReader::new(&file);
            while let Some((inode, mode, mtime, path)) = read(&mut input)? {
                let locks = mode & 0o700 != 0o700;
                if locks == locking {
                    give(root, inode, (mode, mtime), path)?;
                }
            }
        }
        Ok(())
    }
}

type Noted = (u64, u32, u64, OsString);

fn read(input: &mut impl io::Read) -> io::Result<Option<Noted>> {
    let mut inode = [0; 8];
    if input.read(&mut inode[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut inode[1..])?;
    let (mut mode, mut mtime, mut length) = ([0; 4], [0; 8], [0; 4]);
    input.read_exact(&mut mode)?;
    input.read_exact(&mut mtime)?;
    input.read_exact(&mut length)?;
    let mut path = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut path)?;
    Ok(Some((
        u64::from_le_bytes(inode),
        u32::from_le_bytes(mode),
        u64::from_le_bytes(mtime),
        OsString::from_vec(path),
    )))
}

fn give(root: &Root, inode: u64, (mode, mtime): (u32, u64), path: OsString) -> io::Result<()> {
    let components: Vec<OsString> = match path.is_empty() {
        true => Vec::new(),
        false => path
            .as_bytes()
            .split(|b| *b == b'/')
            .map(|c| OsStr::from_bytes(c).into())
            .collect(),
    };
    let dir = match root.dir(&components) {
        Ok(dir) => dir,
        // A later layer removed it, or put something else there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        // It is in a directory that is locked already.
        Err(Errno::ACCESS) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if rustix::fs::fstat(&dir)?.st_ino != inode {
        return Ok(());
    }
    let time = Timespec {
        tv_sec: i64::try_from(mtime).unwrap_or(0),
        tv_nsec: 0,
    };
    rustix::fs::futimens(
        &dir,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )?;
    Ok(rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?)
}
