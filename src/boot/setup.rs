//! Which bootloader a sysroot boots with: from the file that `install` wrote, else from what is
//! found below `boot`. A sysroot's path comes in, a plain value goes out. Never changes anything
//! but that one file.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use serde::{Deserialize, Serialize};

use super::grubenv::Grubenv;
use crate::sys::fs;

/// The file, below the sysroot.
const FILE: &str = "ostree/bowline/boot.yaml";
/// The largest such file that is read, in bytes.
const LIMIT: u64 = 64 << 10;
/// Directories that may hold GRUB's configuration and environment block, below the sysroot.
const GRUB_DIRS: [&str; 3] = ["boot/grub", "boot/grub2", "boot/bowline"];
/// What tells our grub.cfg from any other; its first line.
pub(super) const GRUB_MARK: &str = "# bowline: static boot configuration";

/// What loads the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootloader {
    /// GRUB with the static configuration, or any GRUB that counts boots as greenboot does.
    Grub,
    /// systemd-boot, with kernels and entries mirrored to the EFI system partition.
    SystemdBoot,
    /// One that we know nothing about: no boot is counted.
    #[default]
    None,
}

/// How a sysroot boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSetup {
    /// The bootloader.
    pub bootloader: Bootloader,
    /// PARTUUID of the EFI system partition, as in `/dev/disk/by-partuuid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub esp: Option<String>,
}

impl BootSetup {
    /// Reads the setup of a sysroot. Without the file: GRUB where there is our configuration, or
    /// an environment block that counts boots; else none.
    #[context("Reading how {} boots", sysroot.display())]
    pub fn read(sysroot: &Path) -> Result<Self> {
        let path = sysroot.join(FILE);
        let text = match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return detect(sysroot),
            Err(error) => Err(error),
            Ok(found) if found.len() > LIMIT => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => std::fs::read_to_string(&path),
        };
        let text = text.with_context(|| path.display().to_string())?;
        serde_yaml_ng::from_str(&text).with_context(|| {
            format!(
                "{} is damaged: write `bootloader: grub` into it, or what this machine has",
                path.display()
            )
        })
    }

    /// Writes the setup, durably.
    #[context("Writing how {} boots", sysroot.display())]
    pub fn write(&self, sysroot: &Path) -> Result<()> {
        let path = sysroot.join(FILE);
        std::fs::create_dir_all(path.with_file_name(""))?;
        Ok(fs::replace(
            &path,
            serde_yaml_ng::to_string(self)?.as_bytes(),
            0o644,
        )?)
    }

    /// Removes the file: how the sysroot boots is found out by looking from now on.
    #[context("Forgetting how {} boots", sysroot.display())]
    pub fn forget(sysroot: &Path) -> Result<()> {
        match std::fs::remove_file(sysroot.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn detect(sysroot: &Path) -> Result<BootSetup> {
    let found = grub_dir(sysroot);
    let counts = |dir: &PathBuf| -> Result<bool> {
        let config = std::fs::read(dir.join("grub.cfg")).unwrap_or_default();
        if config.starts_with(GRUB_MARK.as_bytes()) {
            return Ok(true);
        }
        let env = Grubenv::read_or_new(&dir.join("grubenv"))?;
        Ok(env.get("boot_counter").is_some() || env.get("boot_success").is_some())
    };
    Ok(BootSetup {
        bootloader: match found.as_ref().map(counts).transpose()? {
            Some(true) => Bootloader::Grub,
            _ => Bootloader::None,
        },
        esp: None,
    })
}

/// GRUB's directory: the one with our configuration, else the first that has any, else the first
/// with an environment block.
fn grub_dir(sysroot: &Path) -> Option<PathBuf> {
    let dirs = || GRUB_DIRS.iter().map(|dir| sysroot.join(dir));
    let ours = |dir: &PathBuf| {
        std::fs::read(dir.join("grub.cfg")).is_ok_and(|text| text.starts_with(GRUB_MARK.as_bytes()))
    };
    let with = |name: &str| dirs().find(|dir| dir.join(name).is_file());
    dirs()
        .find(ours)
        .or_else(|| with("grub.cfg"))
        .or_else(|| with("grubenv"))
}

/// Where GRUB's environment block of a sysroot is, or would be.
pub fn grubenv_path(sysroot: &Path) -> PathBuf {
    let dir = grub_dir(sysroot).unwrap_or_else(|| sysroot.join(GRUB_DIRS[0]));
    dir.join("grubenv")
}

#[cfg(test)]
mod tests;
