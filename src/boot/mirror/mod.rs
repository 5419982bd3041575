//! The mirror of libostree's boot entries on the ESP, for systemd-boot, which reads no other file
//! system. What is there and what is wanted come in; steps go out, then a changed ESP. At every
//! instant the ESP boots what it did or what is wanted, from whole files. Never touches a file
//! that is not its own.
//!
//! ```text
//! loader/entries/bowline-GENERATION-INDEX[+LEFT[-DONE]].conf   one entry each
//! bowline/STATEROOT-CHECKSUM/…                                 kernels, initramfs
//! …/NAME.new                                                   being written
//! ```
//!
//! A change writes a new generation, which systemd-boot prefers by name: first kernels, then the
//! entry that boots first, then the others; only then the older generation goes, and last its
//! kernels. Between any two of these everything is synced, as FAT keeps no order by itself.

mod carry_out;
mod look;
mod plan;

pub use carry_out::carry_out;
pub use look::{look, wanted};
pub use plan::{plan, room};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;
use thiserror::Error;

use super::esp::names::MirrorName;
use super::loader::while_names_change;
use super::{BootSetup, Bootloader, esp};
use crate::sys::amount::bytes;

/// The directory of kernels, below the ESP.
const FILES: &str = "bowline";
/// How a file ends that is being written. systemd-boot takes no such entry for one.
const NEW: &str = ".new";

/// What is on the ESP that is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Our entries, with their files' names and their texts.
    pub entries: Vec<PresentEntry>,
    /// Our kernels and initramfs by path, with their sizes in bytes.
    pub files: BTreeMap<String, u64>,
    /// What an interrupted run left half written, with sizes in bytes.
    pub leftovers: BTreeMap<String, u64>,
    /// Free bytes.
    pub free: u64,
    /// Bytes that the smallest file takes; 0 counts as 1.
    pub cluster: u64,
}

/// An entry on the ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentEntry {
    /// The name of its file as it is.
    pub file: String,
    /// What the name says.
    pub name: MirrorName,
    /// What it says.
    pub text: String,
    /// The files that it boots from, as paths below the ESP.
    pub uses: Vec<String>,
}

/// What should be on the ESP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The entries, what boots first at the front.
    pub entries: Vec<WantedEntry>,
    /// Whether the first one's boots are counted.
    pub counting: Counting,
}

/// An entry for the ESP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedEntry {
    /// Its text, with paths on the ESP.
    pub text: String,
    /// The files that it boots from.
    pub files: Vec<Source>,
}

impl WantedEntry {
    /// The same entry for what boots with another `ostree=` value.
    pub fn with_ostree(&self, ostree: &str) -> Self {
        let word = |word: &str| match word.starts_with("ostree=") {
            true => format!("ostree={ostree}"),
            false => word.to_owned(),
        };
        let line = |line: &str| match line.split_once(' ') {
            Some(("options", words)) => {
                let words: Vec<_> = words.split(' ').map(word).collect();
                format!("options {}\n", words.join(" "))
            }
            _ => format!("{line}\n"),
        };
        Self {
            text: self.text.lines().map(line).collect(),
            files: self.files.clone(),
        }
    }
}

/// A file for the ESP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Where it is copied from.
    pub from: PathBuf,
    /// Its path below the ESP.
    pub to: String,
    /// Its size in bytes.
    pub size: u64,
}

/// How the first entry is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Counting {
    /// It is proven: not at all.
    #[default]
    Off,
    /// It is on trial, with so many tries; if it is counted already, that goes on.
    Keep(u32),
    /// It is new, and gets so many tries.
    Fresh(u32),
    /// As before: if what boots first now is counted, that goes on, also for another entry.
    AsIs,
}

/// One thing to do on the ESP. Paths are below its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a directory, and what is missing above it.
    MakeDir(String),
    /// Copy a file to a new one.
    Copy(Source),
    /// Write a new file.
    Write(String, String),
    /// Give a file another name, in the place of what has it.
    Rename(String, String),
    /// Remove a file; the directory too, if it is empty then.
    Remove(String),
    /// Wait until all of the above is on the disk.
    Sync,
}

/// Why nothing was mirrored. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MirrorError {
    /// The kernels do not fit beside those that must stay bootable.
    #[error(
        "the EFI system partition has room for {} of kernels, but {} are needed beside those that \
         must stay bootable",
        bytes(*.available),
        bytes(*.needed)
    )]
    NoSpace {
        /// Bytes that would be written.
        needed: u64,
        /// Bytes that are free, or can be freed before.
        available: u64,
    },
    /// There is nothing to mirror: an empty ESP would boot nothing.
    #[error("there is no boot entry to mirror to the EFI system partition")]
    NothingToBoot,
}

/// Brings the ESP of a sysroot up to date with libostree's entries; `false` where nothing had to
/// be done, as on every sysroot that does not boot with systemd-boot.
///
/// Interrupted, the ESP boots what it did or what is wanted; the next call finishes.
///
/// # Errors
/// [`MirrorError`] before anything was changed, and what the system refuses.
#[context("Mirroring the boot entries of {}", sysroot.display())]
pub fn refresh(sysroot: &Path, setup: &BootSetup, counting: Counting) -> Result<bool> {
    if setup.bootloader != Bootloader::SystemdBoot {
        return Ok(false);
    }
    write(setup, &wanted(sysroot, counting)?)
}

/// Brings the ESP to what is wanted; `false` where nothing had to be done.
///
/// Interrupted, the ESP boots what it did or what is wanted; the next call finishes.
///
/// # Errors
/// [`MirrorError`] before anything was changed, and what the system refuses.
pub fn write(setup: &BootSetup, wanted: &Wanted) -> Result<bool> {
    let esp = esp::open(setup)?;
    while_names_change(|| {
        let steps = plan(&look(esp.path())?, wanted)?;
        carry_out(esp.path(), &steps)?;
        Ok(!steps.is_empty())
    })
}

#[cfg(test)]
mod tests;
