//! Access to the EFI system partition of a running host. The setup comes in; a directory that
//! stays usable as long as its guard goes out. Never leaves a mount behind, and never mounts
//! where anybody else could see it.

pub mod names;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;
use rustix::fs::CWD;
use thiserror::Error;

use super::BootSetup;
use crate::sys::mount::PrivateMount;

/// Where an ESP is usually mounted.
const USUAL: [&str; 3] = ["/efi", "/boot/efi", "/boot"];
const BY_PARTUUID: &str = "/dev/disk/by-partuuid";
/// systemd-boot's word on where it was loaded from
/// (<https://systemd.io/BOOT_LOADER_INTERFACE/>): four bytes of attributes, then UTF-16.
const LOADED_FROM: &str = "/sys/firmware/efi/efivars/\
                           LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Why the ESP cannot be reached.
#[derive(Debug, Error)]
pub enum EspError {
    /// Neither the setup nor the firmware names it.
    #[error(
        "nothing says which partition is the EFI system partition: add `esp: PARTUUID` to \
         /ostree/bowline/boot.yaml (`lsblk -o NAME,PARTUUID` shows it)"
    )]
    Unknown,
    /// No such partition is attached.
    #[error("the EFI system partition {0} is not there: is its disk attached?")]
    Gone(String),
}

/// An ESP that can be read and written. Who writes syncs.
#[derive(Debug)]
pub struct Esp {
    path: PathBuf,
    /// Held for a mount that nobody else sees.
    _mount: Option<PrivateMount>,
}

impl Esp {
    /// Its root directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens the ESP of the running host: where it is mounted already, else mounted for this process
/// alone. A setup with a directory in place of the PARTUUID means that directory.
#[context("Opening the EFI system partition")]
pub fn open(setup: &BootSetup) -> Result<Esp> {
    let named = setup.esp.clone().or_else(loaded_from);
    let named = named.ok_or(EspError::Unknown)?;
    if named.starts_with('/') {
        let path = PathBuf::from(&named);
        return match path.is_dir() {
            true => Ok(Esp { path, _mount: None }),
            false => Err(EspError::Gone(named).into()),
        };
    }
    // udev writes these links in lower case.
    let device = Path::new(BY_PARTUUID).join(named.to_ascii_lowercase());
    let Ok(found) = std::fs::metadata(&device) else {
        return Err(EspError::Gone(named).into());
    };
    match mounted(found.rdev()) {
        Some(path) => Ok(Esp { path, _mount: None }),
        None => {
            let mount = PrivateMount::new(&device, "vfat", &[("umask", "077")])?;
            Ok(Esp {
                path: mount.path().into(),
                _mount: Some(mount),
            })
        }
    }
}

/// Where a device is mounted already. An automount point is triggered by looking below it.
fn mounted(device: u64) -> Option<PathBuf> {
    let on_it = |path: &&&str| {
        let inside = std::fs::metadata(Path::new(path).join("."));
        inside.is_ok_and(|found| found.dev() == device)
    };
    USUAL.iter().find(on_it).map(PathBuf::from)
}

fn loaded_from() -> Option<String> {
    let bytes = std::fs::read(LOADED_FROM).ok()?;
    let units = bytes.get(4..)?.chunks_exact(2);
    let units: Vec<u16> = units.map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let text = String::from_utf16(&units).ok()?;
    Some(text.trim_end_matches('\0').to_owned()).filter(|text| !text.is_empty())
}

/// Renames within one directory; nothing happens when the names are the same.
pub(super) fn rename(dir: &Path, from: &str, to: &str) -> io::Result<()> {
    match from == to {
        true => Ok(()),
        false => Ok(rustix::fs::renameat(
            CWD,
            dir.join(from),
            CWD,
            dir.join(to),
        )?),
    }
}
