//! New places to pull to. The directory for them comes in, an empty repository or sysroot goes
//! out, on a file system of its own that was made for it: one on which much was written or removed
//! before is slower. Without loop devices a place is a directory only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::walk::Store;

/// Bytes of a file system; its file grows with what is written.
const SIZE: u64 = 14 << 30;
/// A million small files need as many inodes, and each has an object.
const BYTES_OF_INODE: &str = "8192";
/// ext4 takes no inode again that was free for less than this; until then, looking for others makes
/// it slow.
const AFTER_REMOVAL: Duration = Duration::from_secs(45);

/// The directory of all places.
#[derive(Debug)]
pub struct Places {
    work: PathBuf,
    keep_free: u64,
    mounted: bool,
    made: usize,
}

impl Places {
    /// Begins with an empty directory; `keep_free` gigabytes of its disk stay free.
    pub fn new(work: &Path, keep_free: u64) -> Result<Self> {
        let mut places = Self {
            work: work.into(),
            keep_free,
            mounted: false,
            made: 0,
        };
        if work.exists() {
            places.clear()?;
            rustix::fs::sync();
            std::thread::sleep(AFTER_REMOVAL);
        }
        Ok(places)
    }

    /// A new place; the one before is gone. Also says once where no file system can be made.
    pub fn fresh(&mut self, store: Store) -> Result<PathBuf> {
        if self.mounted || self.made == 0 {
            self.clear()?;
        }
        fs::create_dir_all(&self.work)?;
        let enough = self.free()? >= self.keep_free << 30;
        ensure!(enough, "Less than {} GB are free", self.keep_free);
        if self.mounted || self.made == 0 {
            match self.mount() {
                Ok(()) => self.mounted = true,
                Err(error) if self.made == 0 => {
                    println!(
                        "Without file systems of their own, all programs write to one: {error:#}"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        self.made += 1;
        let dir = self.disk().join(self.made.to_string());
        fs::create_dir_all(&dir)?;
        self.initialize(&dir, store)?;
        rustix::fs::sync();
        Ok(dir)
    }

    fn initialize(&self, dir: &Path, store: Store) -> Result<()> {
        match store {
            Store::Repo => run(ostree(&["init", "--mode=bare", "--repo"]).arg(dir.join("repo"))),
            Store::Sysroot => {
                let sysroot = dir.join("sysroot");
                fs::create_dir_all(sysroot.join("boot"))?;
                run(ostree(&["admin", "init-fs"]).arg(&sysroot))?;
                let os_init = &["admin", "os-init", "default", "--sysroot"];
                run(ostree(os_init).arg(&sysroot))
            }
        }
    }

    /// Where places are.
    fn disk(&self) -> PathBuf {
        self.work.join("disk")
    }

    fn mount(&self) -> Result<()> {
        let (file, disk) = (self.work.join("disk.img"), self.disk());
        File::create_new(&file)?.set_len(SIZE)?;
        fs::create_dir_all(&disk)?;
        // The file is new and full of zeros: no table of inodes needs to be written first.
        let options = [
            "-q",
            "-F",
            "-i",
            BYTES_OF_INODE,
            "-E",
            "lazy_itable_init=1,nodiscard",
        ];
        run(Command::new("mkfs.ext4").args(options).arg(&file))?;
        let options = ["-t", "ext4", "-o", "loop,noinit_itable"];
        run(Command::new("mount").args(options).args([file, disk]))
    }

    fn free(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.work)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Removes all places.
    pub fn clear(&mut self) -> Result<()> {
        if self.mounted {
            run(Command::new("umount").arg(self.disk()))?;
        }
        // libostree makes deployments immutable.
        let deployments = "for d in \"$0\"/disk/*/sysroot/ostree/deploy/*/deploy/*/; do \
                           [ ! -d \"$d\" ] || chattr -i \"$d\"; done; rm -rf \"$0\"";
        run(Command::new("sh").args(["-c", deployments]).arg(&self.work))
    }
}

fn ostree(args: &[&str]) -> Command {
    let mut command = Command::new("ostree");
    command.args(args);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output();
    let output = output.with_context(|| format!("Starting {command:?}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {words}");
    Ok(())
}
