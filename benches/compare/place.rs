//! New places to pull to. The directory for them comes in, an empty repository or sysroot goes
//! out. Removes none before all is over, unless the disk would run full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::walk::Store;

/// ext4 takes no inode again that was free for less than this; until then, looking for others makes
/// it slow.
const AFTER_REMOVAL: Duration = Duration::from_secs(45);

/// The directory of all places.
#[derive(Debug)]
pub struct Places {
    work: PathBuf,
    keep_free: u64,
    made: usize,
}

impl Places {
    /// Begins with an empty directory; `keep_free` gigabytes of its disk stay free.
    pub fn new(work: &Path, keep_free: u64) -> Result<Self> {
        let places = Self {
            work: work.into(),
            keep_free,
            made: 0,
        };
        if work.exists() {
            places.remove_all()?;
        }
        Ok(places)
    }

    /// A new place.
    pub fn fresh(&mut self, store: Store) -> Result<PathBuf> {
        fs::create_dir_all(&self.work)?;
        if self.free()? < self.keep_free << 30 {
            self.remove_all()?;
            fs::create_dir_all(&self.work)?;
            let enough = self.free()? >= self.keep_free << 30;
            ensure!(enough, "Less than {} GB are free", self.keep_free);
        }
        self.made += 1;
        let dir = self.work.join(self.made.to_string());
        fs::create_dir(&dir)?;
        match store {
            Store::Repo => {
                run(ostree(&["init", "--mode=bare", "--repo"]).arg(dir.join("repo")))?;
            }
            Store::Sysroot => {
                let sysroot = dir.join("sysroot");
                fs::create_dir_all(sysroot.join("boot"))?;
                run(ostree(&["admin", "init-fs"]).arg(&sysroot))?;
                let os_init = &["admin", "os-init", "default", "--sysroot"];
                run(ostree(os_init).arg(&sysroot))?;
            }
        }
        Ok(dir)
    }

    fn free(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.work)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn remove_all(&self) -> Result<()> {
        self.clear()?;
        rustix::fs::sync();
        std::thread::sleep(AFTER_REMOVAL);
        Ok(())
    }

    /// Removes all places.
    pub fn clear(&self) -> Result<()> {
        // libostree makes deployments immutable.
        let deployments = "for d in \"$0\"/*/sysroot/ostree/deploy/*/deploy/*/; do \
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
