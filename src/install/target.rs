//! The disk or plain file that is installed to. A path comes in; its size, what it holds already,
//! and writing at offsets go out. Opening changes nothing.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use rustix::fs::{FallocateFlags, OFlags};
use serde::Deserialize;

use super::InstallError;
use super::partition::MIB;
use crate::sys;
use crate::sys::tool::Tool;

/// Stands at the start of a disk while it is written to, so that nothing boots from it, and a
/// person who looks knows why.
const MARK: &[u8] = b"bowline: the installation to this disk has not been finished\n";
/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

/// An opened target, locked against other installations.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    size: u64,
    sector: u64,
    is_block: bool,
}

impl Target {
    /// Opens a whole disk that nobody uses, or a plain file.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(InstallError::NoTarget(path.into()).into());
            }
            other => other.with_context(|| format!("Opening {}", path.display()))?,
        };
        let is_block = meta.file_type().is_block_device();
        if !is_block && !meta.is_file() {
            return Err(InstallError::NoDisk(path.into()).into());
        }
        // For programs that are run elsewhere, and for what is remembered about this target.
        let path = fs::canonicalize(path).with_context(|| format!("Finding {}", path.display()))?;
        let mut sector = 512;
        if is_block {
            sector = check_disk(&path, meta.rdev())?;
        } else if is_in_loop(&meta) {
            return Err(InstallError::InUse(path).into());
        }
        let mut file = writable(&path)?;
        if !lock(&file, is_block).with_context(|| format!("Locking {}", path.display()))? {
            return Err(InstallError::Busy(path).into());
        }
        let size = file.seek(SeekFrom::End(0)).context("Asking for its size")?;
        Ok(Self {
            path,
            file,
            size,
            sector,
            is_block,
        })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of its smallest unit.
    pub const fn sector(&self) -> u64 {
        self.sector
    }

    /// Whether it is a disk of this machine, not a plain file.
    pub const fn is_block(&self) -> bool {
        self.is_block
    }

    /// Whether an installation to it was interrupted.
    pub fn is_unfinished(&self) -> Result<bool> {
        let mut start = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.take(MARK.len() as u64).read_to_end(&mut start)?;
        Ok(start == MARK)
    }

    /// Partition tables and signatures of file systems on it, in words.
    #[context("Looking for what is on {}", self.path.display())]
    pub fn signatures(&self) -> Result<Vec<String>> {
        if self.size == 0 {
            return Ok(Vec::new());
        }
        let found = Tool::new("wipefs")
            .args(["--no-act", "--json"])
            .arg(&self.path);
        let found = found.output()?;
        // Nothing at all is printed where nothing was found.
        if found.iter().all(u8::is_ascii_whitespace) {
            return Ok(Vec::new());
        }
        let found: Signatures =
            serde_json::from_slice(&found).context("Reading what wipefs says")?;
        let words = found
            .signatures
            .into_iter()
            .map(|found| match found.kind.as_str() {
                "gpt" | "dos" | "PMBR" => format!("a partition table ({})", found.kind),
                kind => format!("a signature of {kind}"),
            });
        let mut words: Vec<String> = words.collect();
        words.sort();
        words.dedup();
        Ok(words)
    }

    /// Whether a plain file begins with anything but zeros: data may have no signature.
    pub fn has_data(&self) -> Result<bool> {
        let mut start = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.take(MIB).read_to_end(&mut start)?;
        Ok(!self.is_block && start.iter().any(|byte| *byte != 0))
    }

    /// Refuses a disk that somebody began to use since it was opened.
    pub fn check_unused(&self) -> Result<()> {
        match self.is_block {
            true => check_disk(&self.path, self.file.metadata()?.rdev()).map(drop),
            false if is_in_loop(&self.file.metadata()?) => {
                Err(InstallError::InUse(self.path.clone()).into())
            }
            false => Ok(()),
        }
    }

    /// Takes away what is on it: partition tables first, so that nothing boots from now on.
    #[context("Wiping {}", self.path.display())]
    pub fn wipe(&self) -> Result<()> {
        let end = (self.size / MIB).saturating_sub(1) * MIB;
        for start in [0, end] {
            self.zero(start, (self.size - start).min(2 * MIB))?;
        }
        self.write(0, MARK)?;
        self.sync()?;
        if self.is_block {
            // Frees what the old systems used; a disk that cannot is left as it is.
            let tool = Tool::new("blkdiscard").arg("--offset").arg(MIB.to_string());
            if let Err(error) = tool.arg(&self.path).run() {
                tracing::debug!("{error:#}");
            }
        } else {
            self.zero(MIB, self.size - MIB)?;
        }
        Ok(())
    }

    /// Makes a range read as zeros.
    pub fn zero(&self, start: u64, length: u64) -> Result<()> {
        let zeroed = || {
            format!(
                "Clearing {length} bytes at {start} of {}",
                self.path.display()
            )
        };
        if !self.is_block {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&self.file, punch, start, length) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                other => other.with_context(zeroed)?,
            }
        }
        let zeros = vec![0; CHUNK];
        let mut done = 0;
        while done < length {
            let count = (length - done).min(CHUNK as u64);
            self.file
                .write_all_at(&zeros[..count as usize], start + done)
                .with_context(zeroed)?;
            done += count;
        }
        Ok(())
    }

    /// Writes bytes at an offset.
    pub fn write(&self, start: u64, bytes: &[u8]) -> Result<()> {
        let what = || {
            format!(
                "Writing {} bytes at {start} of {}",
                bytes.len(),
                self.path.display()
            )
        };
        self.file.write_all_at(bytes, start).with_context(what)
    }

    /// Copies an image to an offset; its holes are left as the target is there.
    #[context("Copying {} to {}", image.display(), self.path.display())]
    pub fn copy(&self, image: &Path, start: u64) -> Result<()> {
        let source = File::open(image)?;
        let size = source.metadata()?.len();
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while let Some(data) = next_data(&source, at, size)? {
            at = data.start;
            while at < data.end {
                let count = (data.end - at).min(CHUNK as u64) as usize;
                source.read_exact_at(&mut buffer[..count], at)?;
                self.file.write_all_at(&buffer[..count], start + at)?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// Makes everything durable that was written.
    pub fn sync(&self) -> Result<()> {
        (&self.file).flush()?;
        let synced = self.file.sync_all();
        synced.with_context(|| format!("Writing {} to disk", self.path.display()))
    }
}

fn writable(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    match opened.as_ref().map_err(io::Error::kind) {
        Err(ErrorKind::PermissionDenied) => Err(InstallError::WriteProtected(path.into()).into()),
        // Since Linux 6.9 a file system can keep others from writing to its disk.
        Err(ErrorKind::ResourceBusy) => Err(InstallError::InUse(path.into()).into()),
        _ => opened.with_context(|| format!("Opening {}", path.display())),
    }
}

/// How often, and after which pause each, a locked disk is tried again: udev looks at a disk, and
/// holds its lock, for a moment after each change.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// How often a file behind a loop device is looked at again.
const LOOP_TRIES: u32 = 5;

/// Takes the lock of a target; false where another installation holds it.
fn lock(file: &File, is_block: bool) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        if sys::fs::try_lock(file)? {
            return Ok(true);
        }
        if !is_block {
            break;
        }
        thread::sleep(LOCK_PAUSE);
    }
    Ok(false)
}

/// Whether a plain file is behind a loop device, where it may be mounted; one that was unmounted just
/// now may be held for a moment more.
fn is_in_loop(file: &Metadata) -> bool {
    let is_same = |found: &Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
    for _ in 0..LOOP_TRIES {
        let mut behind = files_in_loops().into_iter();
        if !behind.any(|path| fs::metadata(path).is_ok_and(|found| is_same(&found))) {
            return false;
        }
        thread::sleep(LOCK_PAUSE);
    }
    true
}

/// The files behind all loop devices (loop(4)); none where there are no such devices.
fn files_in_loops() -> Vec<PathBuf> {
    let Ok(disks) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let file = |disk: PathBuf| fs::read_to_string(disk.join("loop/backing_file")).ok();
    let files = disks.flatten().filter_map(|disk| file(disk.path()));
    files
        .map(|name| name.trim_end_matches('\n').into())
        .collect()
}

/// The next range at or behind `at` that is no hole.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    use rustix::fs::SeekFrom as From;
    if at >= size {
        return Ok(None);
    }
    match rustix::fs::seek(file, From::Data(at)) {
        Ok(start) => Ok(Some(start..rustix::fs::seek(file, From::Hole(start))?)),
        // Only a hole is left.
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Insists on a whole disk that nobody uses; gives the bytes of its sectors.
fn check_disk(path: &Path, device: u64) -> Result<u64> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let facts = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if facts.join("partition").exists() {
        return Err(InstallError::Partition(path.into()).into());
    }
    // The kernel refuses where the disk, or a partition, is mounted or part of another device.
    let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or_default();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(exclusive)
        .open(path);
    match opened {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            return Err(InstallError::InUse(path.into()).into());
        }
        other => drop(other.with_context(|| format!("Opening {}", path.display()))?),
    }
    let sector = fs::read_to_string(facts.join("queue/logical_block_size"));
    let sector = sector.context("Asking for the sector size of the disk")?;
    sector
        .trim()
        .parse()
        .context("Reading the sector size of the disk")
}

/// What wipefs prints as JSON.
#[derive(Debug, Deserialize)]
struct Signatures {
    signatures: Vec<Signature>,
}

#[derive(Debug, Deserialize)]
struct Signature {
    #[serde(rename = "type")]
    kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(size).unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| {
            let error = Target::open(path).unwrap_err();
            error.downcast::<InstallError>().unwrap()
        };
        let missing = dir.path().join("x");
        assert_eq!(error(&missing), InstallError::NoTarget(missing.clone()));
        assert_eq!(error(dir.path()), InstallError::NoDisk(dir.path().into()));
        let (_dir, path) = file(4096);
        let _first = Target::open(&path).unwrap();
        let place = path.canonicalize().unwrap();
        assert_eq!(error(&path), InstallError::Busy(place));
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
    fn an_immutable_file_is_no_matter_of_being_root() {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        let (_dir, path) = file(4096);
        let open = File::open(&path).unwrap();
        let flags = ioctl_getflags(&open).and_then(|flags| {
            ioctl_setflags(&open, flags | IFlags::IMMUTABLE)?;
            Ok(flags)
        });
        let Ok(flags) = flags else {
            println!("skipped: no file can be made immutable here: {flags:?}");
            return;
        };
        let error = Target::open(&path).unwrap_err();
        ioctl_setflags(&open, flags).unwrap();
        let place = path.canonicalize().unwrap();
        let expected = InstallError::WriteProtected(place);
        assert_eq!(error.downcast_ref(), Some(&expected));
    }

    #[test]
    fn signatures_are_found_and_wiped() {
        let (_dir, path) = file(8 * MIB);
        let target = Target::open(&path).unwrap();
        assert_eq!(target.signatures().unwrap(), [""; 0]);
        assert!(!target.has_data().unwrap());
        target.write(MIB - 1, b"x").unwrap();
        assert!(target.has_data().unwrap());
        target.zero(0, MIB).unwrap();
        let table = Tool::new("sfdisk").args(["--quiet", "--no-tell-kernel"]);
        table
            .arg(&path)
            .input("label: gpt\nsize=1M\n")
            .run()
            .unwrap();
        let found = target.signatures().unwrap();
        assert!(
            found.contains(&"a partition table (gpt)".to_owned()),
            "{found:?}"
        );
        assert!(!target.is_unfinished().unwrap());
        target.wipe().unwrap();
        assert!(target.is_unfinished().unwrap());
        assert_eq!(target.signatures().unwrap(), [""; 0]);
        assert_eq!(path.metadata().unwrap().len(), 8 * MIB);
    }

    #[test]
    fn an_image_is_copied_without_its_holes() {
        let (_dir, path) = file(8 * MIB);
        let (_other, image) = file(4 * MIB);
        let source = OpenOptions::new().write(true).open(&image).unwrap();
        source.write_all_at(b"head", 0).unwrap();
        source.write_all_at(b"tail", 3 * MIB).unwrap();
        let target = Target::open(&path).unwrap();
        target.write(MIB + 2 * MIB, b"stays").unwrap();
        target.copy(&image, MIB).unwrap();
        let bytes = fs::read(&path).unwrap();
        let at = |mib: usize, text: &[u8]| bytes[mib << 20..].starts_with(text);
        assert!(at(1, b"head") && at(3, b"stays") && at(4, b"tail"));
        assert!(path.metadata().unwrap().blocks() < 2048);
    }
}
