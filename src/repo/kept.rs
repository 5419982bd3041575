//! Bytes of blobs that an interrupted pull has fetched, for the next one to go on from. Digests come
//! in, open files go out. What is in them is not verified: whoever goes on from them checks the
//! whole blob.
//!
//! ```text
//! REPO/extensions/bowline/blobs/HEX     the first bytes of a blob, locked with flock while in use
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

const DIR: &str = "blobs";

/// Where the first bytes of blobs are kept.
#[derive(Debug)]
pub struct KeptBlobs {
    dir: OwnedFd,
}

/// The first bytes of a blob. Nobody else has them.
#[derive(Debug)]
pub struct KeptBlob {
    file: File,
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

    /// Adds the next ones.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

impl Repo {
    /// Where the first bytes of this repository's blobs are kept.
    pub fn kept_blobs(&self) -> io::Result<KeptBlobs> {
        let dir = self.extension_dir()?;
        sysfs::ensure_dir(&dir, DIR)?;
        let dir = sysfs::open_dir(&dir, DIR)?;
        Ok(KeptBlobs { dir })
    }
}

impl KeptBlobs {
    /// What is kept of a blob; `None` where that is nothing, or somebody else uses it.
    pub fn find(&self, blob: &Digest) -> io::Result<Option<KeptBlob>> {
        let kept = self.open(blob, OFlags::empty());
        match kept {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            kept => Ok(kept?.filter(|kept| kept.length().is_ok_and(|length| length > 0))),
        }
    }

    /// A new place for a blob; `None` while somebody else uses it.
    pub fn create(&self, blob: &Digest) -> io::Result<Option<KeptBlob>> {
        let kept = self.open(blob, OFlags::CREATE)?;
        if let Some(kept) = &kept {
            kept.file.set_len(0)?;
        }
        Ok(kept)
    }

    fn open(&self, blob: &Digest, flags: OFlags) -> io::Result<Option<KeptBlob>> {
        let flags = flags | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file = File::from(rustix::fs::openat(&self.dir, blob.hex(), flags, mode)?);
        Ok(sysfs::try_lock(&file)?.then_some(KeptBlob { file }))
    }

    /// Removes what is kept of a blob.
    pub fn remove(&self, blob: &Digest) -> io::Result<()> {
        sysfs::remove_all(&self.dir, &blob.hex())
    }

    /// Removes what is kept of all blobs but these, unless somebody uses it.
    pub fn keep_only(&self, blobs: &[Digest]) -> io::Result<()> {
        let keep: Vec<String> = blobs.iter().map(Digest::hex).collect();
        for name in sysfs::list(&self.dir)? {
            let file = match keep.contains(&name) {
                true => None,
                false => sysfs::open_optional(&self.dir, &name)?,
            };
            if file.is_some_and(|file| sysfs::try_lock(&file).unwrap_or(false)) {
                sysfs::remove_all(&self.dir, &name)?;
            }
        }
        Ok(())
    }
}
