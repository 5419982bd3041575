//! Boot counting: how many boots an unproven deployment has left, and settling that. A sysroot
//! and its setup come in; `grubenv` changes, or names of entries on the ESP do. Never decides
//! whether a deployment is good.
//!
//! GRUB counts the *default* entry, whichever that is, with the variables of greenboot:
//! `boot_counter` is the number of boots left and `boot_success` is 1 once a boot was good. Each
//! boot of the default takes one away; at 0 the second entry boots. `bowline_tries` keeps what the
//! counter started with. systemd-boot counts in the names of the mirrored entries.
//!
//! Whoever writes needs `/boot` writable: open the sysroot with its lock first.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use thiserror::Error;

use super::esp::Esp;
use super::grubenv::Grubenv;
use super::mirror::{self, Counting};
use super::{BootSetup, Bootloader, esp, grubenv_path, loader};
use crate::sys::fs::sync_filesystem;

/// The most tries that GRUB's configuration can count.
pub const MAX_TRIES: u32 = 9;
const COUNTER: &str = "boot_counter";
const SUCCESS: &str = "boot_success";
const START: &str = "bowline_tries";
/// GRUB's environment block below the ESP, where its own directory is on btrfs.
pub const ESP_GRUBENV: &str = "EFI/bowline/grubenv";
/// `BTRFS_SUPER_MAGIC` of statfs(2).
const BTRFS: rustix::fs::FsWord = 0x9123_683e;

/// Boots of an unproven deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tries {
    /// Boots that are left before the next deployment takes its place.
    pub left: u32,
    /// Boots that were tried; 0 where that is not known.
    pub done: u32,
}

/// A number of tries that cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a deployment gets 1 to {MAX_TRIES} tries, not {0}")]
pub struct BadTries(pub u32);

/// GRUB cannot count there.
#[derive(Debug, Error)]
#[error(
    "GRUB cannot write to btrfs, where {} is, and there is no EFI system partition to count on",
    .0.display()
)]
pub struct NoCounter(pub PathBuf);

/// Makes every boot of the default count from now on, so that what becomes the default next cannot
/// boot uncounted. With [`Bootloader::None`] nothing is counted.
///
/// Interrupted, it counts or it does not; a boot that finds nothing on trial calls [`disarm`].
#[context("Arming the boot counter")]
pub fn arm(sysroot: &Path, setup: &BootSetup, tries: u32) -> Result<()> {
    if !(1..=MAX_TRIES).contains(&tries) {
        return Err(BadTries(tries).into());
    }
    match setup.bootloader {
        Bootloader::Grub => change(sysroot, setup, |env| {
            env.set(START, &tries.to_string())?;
            env.set(COUNTER, &tries.to_string())?;
            Ok(env.set(SUCCESS, "0")?)
        }),
        Bootloader::SystemdBoot => esp::names::arm(esp::open(setup)?.path(), tries),
        Bootloader::None => Ok(()),
    }
}

/// The tries of the deployment that boots with this `ostree=` value; `None` when it is not counted.
#[context("Reading the boot counter")]
pub fn tries(sysroot: &Path, setup: &BootSetup, ostree: &str) -> Result<Option<Tries>> {
    match setup.bootloader {
        Bootloader::Grub => {
            let default = loader::entries(sysroot)?.into_iter().next();
            let counted = default.is_some_and(|(_, entry)| entry.ostree() == Some(ostree));
            Ok(counter(sysroot, setup)?.filter(|_| counted))
        }
        Bootloader::SystemdBoot => esp::names::tries(esp::open(setup)?.path(), ostree),
        Bootloader::None => Ok(None),
    }
}

/// The counter of what boots next, whichever deployment that is; `None` when nothing is counted.
#[context("Reading the boot counter")]
pub fn armed(sysroot: &Path, setup: &BootSetup) -> Result<Option<Tries>> {
    match setup.bootloader {
        Bootloader::Grub => counter(sysroot, setup),
        Bootloader::SystemdBoot => esp::names::armed(esp::open(setup)?.path()),
        Bootloader::None => Ok(None),
    }
}

/// Marks the deployment that boots with this `ostree=` value as good: it is not counted any more.
#[context("Marking the boot as good")]
pub fn bless(sysroot: &Path, setup: &BootSetup, ostree: &str) -> Result<()> {
    match setup.bootloader {
        Bootloader::Grub => change(sysroot, setup, |env| {
            clear(env);
            Ok(env.set(SUCCESS, "1")?)
        }),
        Bootloader::SystemdBoot => {
            esp::names::uncount(esp::open(setup)?.path(), |entry| entry == Some(ostree))
        }
        Bootloader::None => Ok(()),
    }
}

/// Counts nothing any more, whatever is the default.
#[context("Disarming the boot counter")]
pub fn disarm(sysroot: &Path, setup: &BootSetup) -> Result<()> {
    match setup.bootloader {
        Bootloader::Grub if counter(sysroot, setup)?.is_none() => Ok(()),
        Bootloader::Grub => change(sysroot, setup, |env| {
            clear(env);
            env.unset(SUCCESS);
            Ok(())
        }),
        Bootloader::SystemdBoot => esp::names::uncount(esp::open(setup)?.path(), |_| true),
        Bootloader::None => Ok(()),
    }
}

/// Makes the bootloader's own files say what libostree's entries say, with the first one counted as
/// asked: mirrors to the ESP for systemd-boot, arms or disarms the counter of GRUB.
///
/// Interrupted, the old or the new boots; running it again finishes.
#[context("Bringing the bootloader up to date")]
pub fn settle(sysroot: &Path, setup: &BootSetup, counting: Counting) -> Result<()> {
    match (setup.bootloader, counting) {
        (Bootloader::Grub, Counting::Off) => disarm(sysroot, setup),
        (Bootloader::Grub, Counting::Keep(tries)) if counter(sysroot, setup)?.is_none() => {
            arm(sysroot, setup, tries)
        }
        (Bootloader::Grub, Counting::Fresh(tries)) => arm(sysroot, setup, tries),
        (Bootloader::Grub | Bootloader::None, _) => Ok(()),
        (Bootloader::SystemdBoot, _) => mirror::refresh(sysroot, setup, counting).map(|_| ()),
    }
}

/// Where GRUB's environment block is, and the ESP for as long as it is used there.
struct Block {
    path: PathBuf,
    esp: Option<Esp>,
}

/// GRUB can write no file on btrfs, so `install` puts the block on the ESP there.
fn block(sysroot: &Path, setup: &BootSetup) -> Result<Block> {
    let path = grubenv_path(sysroot);
    let dir = path.parent().unwrap_or(sysroot);
    let on_btrfs = rustix::fs::statfs(dir).is_ok_and(|found| found.f_type == BTRFS);
    if !on_btrfs {
        return Ok(Block { path, esp: None });
    }
    if setup.esp.is_none() {
        return Err(NoCounter(path).into());
    }
    let esp = esp::open(setup)?;
    Ok(Block {
        path: esp.path().join(ESP_GRUBENV),
        esp: Some(esp),
    })
}

/// GRUB's counter, where it counts.
fn counter(sysroot: &Path, setup: &BootSetup) -> Result<Option<Tries>> {
    let block = match block(sysroot, setup) {
        Err(error) if error.is::<NoCounter>() => return Ok(None),
        other => other?,
    };
    let env = Grubenv::read_or_new(&block.path)?;
    let Some(counter) = env.get(COUNTER).filter(|c| !c.is_empty()) else {
        return Ok(None);
    };
    if env.get(SUCCESS) == Some("1") {
        return Ok(None);
    }
    // greenboot's GRUB counts down to -1; what GRUB cannot count boots nothing new either.
    let left = counter.parse().unwrap_or(0);
    let start: u32 = env.get(START).and_then(|n| n.parse().ok()).unwrap_or(left);
    let done = start.saturating_sub(left);
    Ok(Some(Tries { left, done }))
}

fn clear(env: &mut Grubenv) {
    env.unset(COUNTER);
    env.unset(START);
}

fn change(
    sysroot: &Path,
    setup: &BootSetup,
    edit: impl FnOnce(&mut Grubenv) -> Result<()>,
) -> Result<()> {
    let block = block(sysroot, setup)?;
    let before = Grubenv::read(&block.path).ok().flatten();
    let mut env = Grubenv::read_or_new(&block.path)?;
    edit(&mut env)?;
    if before.as_ref() == Some(&env) {
        return Ok(());
    }
    if let Some(dir) = block.path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("Making {}", dir.display()))?;
    }
    env.write(&block.path).context("Is /boot writable?")?;
    match &block.esp {
        Some(esp) => Ok(sync_filesystem(esp.path())?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
