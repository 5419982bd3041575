//! Bytes of blobs that an interrupted pull has fetched, for the next one to go on from. Pieces of
//! blobs come in, open files go out. What is in them is not verified: whoever goes on from them checks
//! what comes of it. Nothing but plain files is ever opened here, and links are not followed.
//!
//! ```text
//! REPO/extensions/bowline/blobs/HEX         the first bytes of a blob, locked with flock while in use
//! REPO/extensions/bowline/blobs/HEX.RANGES  the first bytes of these ranges of a blob
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

const DIR: &str = "blobs";
/// So many times a piece's size must be free for it to be kept: the layer in it needs room first.
const ROOM: u64 = 4;

/// What of a blob is fetched: all of it, or some ranges one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    name: String,
    /// Bytes.
    pub size: u64,
}

impl Piece {
    /// A blob of `size` bytes.
    pub fn whole(blob: &Digest, size: u64) -> Self {
        let name = blob.hex();
        Self { name, size }
    }

    /// Ranges of a blob.
    pub fn ranges(blob: &Digest, ranges: &[Range<u64>]) -> Self {
        let text: String = ranges
            .iter()
            .map(|r| format!("{}-{},", r.start, r.end))
            .collect();
        Self {
            name: format!("{}.{}", blob.hex(), Digest::of(text.as_bytes()).hex()),
            size: ranges.iter().map(|r| r.end - r.start).sum(),
        }
    }
}

/// Where the first bytes of pieces are kept.
#[derive(Debug)]
pub struct KeptBlobs {
    dir: OwnedFd,
    /// Bytes of the file system that stay free in any case.
    reserve: u64,
}

/// The first bytes of a piece. Nobody else has them.
#[derive(Debug)]
pub struct KeptBlob {
    file: File,
    /// Bytes that must be free.
    room: u64,
}

impl KeptBlob {
    /// How many there are.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The file, to read them from its beginning.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Adds the next ones. On an error, such as too little room, nothing is kept any more.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.try_append(bytes).inspect_err(|_| {
            // What cannot be emptied is removed with the layer, as if it were whole.
            let _ = self.file.set_len(0);
        })
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let free = sysfs::available_bytes(&self.file)?;
        if free < self.room {
            let text = format!("{free} bytes are free, {} are wanted", self.room);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        self.file.write_all(bytes)
    }
}

impl Repo {
    /// Where the first bytes of this repository's blobs are kept; made when missing.
    pub fn kept_blobs(&self) -> io::Result<KeptBlobs> {
        sysfs::ensure_dir(self.extension_dir()?, DIR)?;
        self.found_blobs()
    }

    /// The same where it is there already, for those who only look.
    pub fn found_blobs(&self) -> io::Result<KeptBlobs> {
        let dir = sysfs::open_dir(self.found_extension_dir()?, DIR)?;
        let reserve = self.reserve().map_err(io::Error::other)?;
        Ok(KeptBlobs { dir, reserve })
    }
}

impl KeptBlobs {
    /// How many bytes are kept of a piece, as far as a look from outside tells.
    pub fn length(&self, piece: &Piece) -> u64 {
        let found = rustix::fs::statat(&self.dir, &piece.name, AtFlags::SYMLINK_NOFOLLOW);
        let file = found
            .ok()
            .filter(|s| FileType::from_raw_mode(s.st_mode).is_file());
        let length = file.and_then(|stat| u64::try_from(stat.st_size).ok());
        length.filter(|length| *length <= piece.size).unwrap_or(0)
    }

    /// What is kept of a piece; `None` where that is nothing, or somebody else uses it.
    pub fn find(&self, piece: &Piece) -> io::Result<Option<KeptBlob>> {
        let kept = match self.open(&piece.name, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => file?,
        };
        let kept = kept.map(|file| self.kept(file, piece));
        let fits = |kept: &KeptBlob| kept.length().is_ok_and(|n| n > 0 && n <= piece.size);
        Ok(kept.filter(fits))
    }

    /// A new place for a piece; `None` while somebody else uses it.
    pub fn create(&self, piece: &Piece) -> io::Result<Option<KeptBlob>> {
        let file = self.open(&piece.name, OFlags::CREATE)?;
        file.as_ref().map(|file| file.set_len(0)).transpose()?;
        Ok(file.map(|file| self.kept(file, piece)))
    }

    fn kept(&self, file: File, piece: &Piece) -> KeptBlob {
        let room = self.reserve.saturating_add(piece.size.saturating_mul(ROOM));
        KeptBlob { file, room }
    }

    /// Opens and locks a plain file; `None` while somebody else has the lock.
    fn open(&self, name: &str, flags: OFlags) -> io::Result<Option<File>> {
        // Not even a FIFO makes this wait.
        let flags = flags | OFlags::RDWR | OFlags::APPEND | OFlags::NONBLOCK;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file = File::from(rustix::fs::openat(&self.dir, name, flags, mode)?);
        if !file.metadata()?.is_file() {
            let text = format!("{name} is not a file");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(sysfs::try_lock(&file)?.then_some(file))
    }

    /// Removes what is kept of a piece, for it is not what it should be.
    pub fn remove(&self, piece: &Piece) -> io::Result<()> {
        sysfs::remove_all(&self.dir, &piece.name)
    }

    /// Removes what is kept of these blobs: their layers are in the repository.
    pub fn forget(&self, blobs: &[Digest]) -> io::Result<()> {
        self.remove_where(|blob| is_one_of(blob, blobs))
    }

    /// Removes what is kept of all blobs but these, and whatever else there may be.
    pub fn keep_only(&self, blobs: &[Digest]) -> io::Result<()> {
        self.remove_where(|blob| !is_one_of(blob, blobs))
    }

    /// What somebody uses stays. What cannot be removed is in nobody's way.
    fn remove_where(&self, unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in sysfs::list(&self.dir)? {
            let blob = name.split_once('.').map_or(&*name, |(blob, _)| blob);
            if !unwanted(blob) || matches!(self.open(&name, OFlags::empty()), Ok(None)) {
                continue;
            }
            if let Err(error) = sysfs::remove_all(&self.dir, &name) {
                tracing::debug!("leaving {name} among the kept bytes: {error}");
            }
        }
        Ok(())
    }
}

fn is_one_of(name: &str, blobs: &[Digest]) -> bool {
    blobs.iter().any(|blob| blob.hex() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, KeptBlobs) {
        let dir = tempfile::tempdir().unwrap();
        let opened = sysfs::open_dir_path(dir.path()).unwrap();
        let kept = KeptBlobs {
            dir: opened,
            reserve: 0,
        };
        (dir, kept)
    }

    #[test]
    fn where_room_is_short_nothing_is_kept() {
        let (_dir, place) = place();
        let small = Piece::whole(&Digest::of(b"small"), 8);
        let mut kept = place.create(&small).unwrap().unwrap();
        kept.append(b"1234").unwrap();
        assert_eq!(place.length(&small), 4);
        kept.room = u64::MAX;
        kept.append(b"5").unwrap_err();
        assert_eq!(place.length(&small), 0);
        drop(kept);
        assert!(place.find(&small).unwrap().is_none());
        let huge = Piece::whole(&Digest::of(b"huge"), u64::MAX);
        let mut kept = place.create(&huge).unwrap().unwrap();
        kept.append(b"1").unwrap_err();
    }

    #[test]
    fn what_somebody_uses_is_neither_taken_nor_removed() {
        let (_dir, place) = place();
        let blob = Digest::of(b"blob");
        let piece = Piece::ranges(&blob, &[3..5, 7..9]);
        assert_eq!(piece.size, 4);
        let mut kept = place.create(&piece).unwrap().unwrap();
        kept.append(b"12").unwrap();
        assert!(place.find(&piece).unwrap().is_none());
        assert!(place.create(&piece).unwrap().is_none());
        place.keep_only(&[]).unwrap();
        assert_eq!(place.length(&piece), 2);
        drop(kept);
        place.keep_only(&[blob]).unwrap();
        assert!(place.find(&piece).unwrap().is_some());
        assert!(
            place
                .find(&Piece::ranges(&blob, &[3..4, 7..9]))
                .unwrap()
                .is_none()
        );
        place.forget(&[blob]).unwrap();
        assert!(place.find(&piece).unwrap().is_none());
    }
}
