//! A file in the making, beside the one that it will replace: bytes go in, and in one step it gets
//! its name. Dropped before that, it is gone.

use std::fs::File;

use cap_std_ext::cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::file::sync_names;
use crate::sys::fs as sysfs;

/// Mode of an archive: it is no secret.
const MODE: u32 = 0o644;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    dir: Dir,
    pub(super) file: File,
    /// Its passing name, on file systems that know no files without one, and while it is renamed.
    passing: Option<String>,
}

impl Draft {
    /// Begins a file in `dir`.
    pub(super) fn new(dir: Dir) -> std::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(MODE);
        let (file, passing) = match rustix::fs::openat(&dir, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let name = passing_name();
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                (rustix::fs::openat(&dir, &*name, flags, mode)?, Some(name))
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self {
            dir,
            file: file.into(),
            passing,
        })
    }

    /// Gives the file its name, durably. Its content must be synced already.
    pub(super) fn publish(&mut self, name: &str) -> std::io::Result<()> {
        if self.passing.is_none() {
            let passing = passing_name();
            sysfs::give_name(&self.file, &self.dir, &passing)?;
            self.passing = Some(passing);
        }
        if let Some(passing) = &self.passing {
            self.dir.rename(passing, &self.dir, name)?;
            self.passing = None;
        }
        sync_names(&self.dir)
    }
}

fn passing_name() -> String {
    format!(".bowline-{}.new", uuid::Uuid::new_v4().simple())
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(passing) = &self.passing {
            // Nothing more to do about a file that cannot be removed.
            let _ = self.dir.remove_file(passing);
        }
    }
}
