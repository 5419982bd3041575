//! Where a system is installed to when its file systems are mounted already: the directory comes
//! in; which file systems, which EFI system partition, and which place for BIOS code belong to it
//! goes out. Changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::InstallError;
use super::choice::Possible;
use super::embed::BiosPlace;
use super::mounts::{self, Device, Mount};
use crate::config::install::RootFs;

/// Where an EFI system partition may be mounted, below the root.
const ESP_PLACES: [&str; 3] = ["boot/efi", "efi", "boot"];
/// Types of file systems that an EFI system partition has.
const FAT: [&str; 2] = ["vfat", "msdos"];

/// A mounted file system.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its type.
    pub kind: RootFs,
    /// Its UUID.
    pub uuid: String,
    device: Device,
}

/// A mounted EFI system partition.
#[derive(Debug, Clone)]
pub struct Esp {
    /// Where.
    pub path: PathBuf,
    /// PARTUUID.
    pub id: Option<String>,
    /// Its disk, and its number there.
    pub disk: Option<(PathBuf, u32)>,
}

/// Everything about a mounted root.
#[derive(Debug, Clone)]
pub struct MountedRoot {
    /// The directory.
    pub path: PathBuf,
    /// Its file system.
    pub root: Volume,
    /// The one of `boot`, where that is another.
    pub boot: Option<Volume>,
    /// The EFI system partition.
    pub esp: Option<Esp>,
    /// The disk with `boot`, and its place for BIOS code.
    pub bios: Option<(PathBuf, BiosPlace)>,
}

impl MountedRoot {
    /// Looks at what is mounted at and below `path`.
    #[context("Looking at what is mounted at {}", path.display())]
    pub fn look(path: &Path) -> Result<Self> {
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(_) => return Err(not_mounted(path, "does not exist")),
        };
        let mounts = mounts::table()?;
        let Some(root) = mounts::at(&mounts, &path) else {
            return Err(not_mounted(&path, "is no mount point"));
        };
        let boot = mounts::at(&mounts, &path.join("boot"));
        if boot.is_some_and(is_fat) {
            return Err(InstallError::unsupported(
                "/boot is on FAT, which has no links; ostree needs them there",
                "mount the EFI system partition at boot/efi or efi",
            )
            .into());
        }
        let root = Volume::of(root)?;
        let boot = boot.map(Volume::of).transpose()?;
        let of_boot = boot.as_ref().unwrap_or(&root);
        let bios = match &of_boot.device.disk {
            Some((disk, _)) => mounts::bios_place(disk)?.map(|place| (disk.clone(), place)),
            None => None,
        };
        Ok(Self {
            esp: esp(&mounts, &path)?,
            path,
            root,
            boot,
            bios,
        })
    }

    /// The disk with `boot`, where that is on a partition.
    pub fn disk(&self) -> Option<&Path> {
        let volume = self.boot.as_ref().unwrap_or(&self.root);
        volume.device.disk.as_ref().map(|(disk, _)| disk.as_path())
    }

    /// With which firmware a system there can boot.
    pub fn possible(&self, arch: &str) -> Possible {
        let place = match self.bios {
            Some(_) => Ok(()),
            None => Err(
                "there is no place for BIOS boot code: its disk has neither a BIOS boot \
                         partition nor a gap in front of the first partition"
                    .into(),
            ),
        };
        let esp = match self.esp {
            Some(_) => Ok(()),
            None => Err(format!(
                "no EFI system partition is mounted at {0}/boot/efi or {0}/efi: mount it there, or \
                     choose --bootloader none",
                self.path.display().to_string().trim_end_matches('/')
            )),
        };
        Possible {
            bios: Possible::bios_of(arch).and(place),
            uefi: esp,
        }
    }
}

impl Volume {
    fn of(mount: &Mount) -> Result<Self> {
        let place = mount.place.display();
        let kind = match mount.kind.as_str() {
            "ext4" | "ext3" | "ext2" => RootFs::Ext4,
            "xfs" => RootFs::Xfs,
            "btrfs" => RootFs::Btrfs,
            other => {
                return Err(InstallError::unsupported(
                    format!("{place} is of type {other}"),
                    "mount ext4, XFS or Btrfs there",
                )
                .into());
            }
        };
        if mount.root != "/" {
            return Err(InstallError::unsupported(
                format!(
                    "{place} shows {} of its file system, not all of it",
                    mount.root
                ),
                "mount the top of the file system there (Btrfs: with subvol=/)",
            )
            .into());
        }
        let device = mounts::device(&mount.source)?;
        let uuid = device.uuid.clone();
        let uuid = uuid.with_context(|| format!("the file system at {place} has no UUID"))?;
        Ok(Self { kind, uuid, device })
    }
}

fn not_mounted(path: &Path, what: &str) -> anyhow::Error {
    let text = format!(
        "{} {what}: name the directory where the root file system is mounted",
        path.display()
    );
    InstallError::Options(text).into()
}

fn is_fat(mount: &Mount) -> bool {
    FAT.contains(&mount.kind.as_str())
}

fn esp(mounts: &[Mount], root: &Path) -> Result<Option<Esp>> {
    let places = ESP_PLACES.iter().map(|place| root.join(place));
    let mut found = places.filter_map(|place| mounts::at(mounts, &place));
    let Some(mount) = found.find(|mount| is_fat(mount)) else {
        return Ok(None);
    };
    let device = mounts::device(&mount.source)?;
    Ok(Some(Esp {
        path: mount.place.clone(),
        id: device.part_uuid,
        disk: device.disk,
    }))
}
