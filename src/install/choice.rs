//! What an installation will be, decided from what the user says, what the image says, and the
//! architecture, in this order. Pure.

use super::InstallError;
use super::partition::{Layout, MIB, MIN_ROOT, PartitionPlan};
use super::request::{DiskRequest, Wanted};
use crate::boot::Bootloader;
use crate::boot::kargs::{Karg, KargError, KernelArgs};
use crate::boot::kargs_edit::Edit;
use crate::config::InstallConfig;
use crate::config::install::{Firmware, Loader, RootFs};

/// Bytes of the EFI system partition where it holds GRUB alone.
const ESP_SMALL: u64 = 128 * MIB;
/// Bytes of the EFI system partition where it holds kernels: three of them, with room to spare.
const ESP_KERNELS: u64 = 1024 * MIB;

/// Bytes of an EFI system partition on a disk whose sectors have `sector` bytes. FAT32 has 65525 clusters
/// at least, of a sector at least; its tables and what stands before them take less than 3 MiB.
pub(super) fn esp_size(loader: Bootloader, sector: u64) -> u64 {
    let size = match loader {
        Bootloader::SystemdBoot => ESP_KERNELS,
        Bootloader::Grub | Bootloader::None => ESP_SMALL,
    };
    size.max((65_525 * sector).next_multiple_of(MIB) + 4 * MIB)
}

/// Boot loader and firmware of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boots {
    /// The boot loader.
    pub loader: Bootloader,
    /// Whether it boots with BIOS.
    pub bios: bool,
    /// Whether it boots with UEFI.
    pub uefi: bool,
}

/// With which firmware a system can boot from where it is installed; otherwise why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Possible {
    /// BIOS.
    pub bios: Result<(), String>,
    /// UEFI.
    pub uefi: Result<(), String>,
}

impl Possible {
    /// What a disk that is partitioned for it makes possible.
    pub fn on_disk(arch: &str) -> Self {
        let uefi = Ok(());
        Self {
            bios: Self::bios_of(arch),
            uefi,
        }
    }

    /// Whether machines of an architecture have a BIOS.
    pub fn bios_of(arch: &str) -> Result<(), String> {
        match arch {
            "amd64" | "386" => Ok(()),
            other => Err(format!("machines of architecture {other} have no BIOS")),
        }
    }
}

impl Boots {
    /// Decides.
    pub fn choose(
        wanted: &Wanted,
        config: &InstallConfig,
        possible: &Possible,
    ) -> Result<Self, InstallError> {
        let loader = match (wanted.loader, config.bootloader) {
            (Some(loader), _) => loader,
            (None, Some(loader)) => of_config(loader)?,
            (None, None) => Bootloader::Grub,
        };
        let all = Self {
            loader,
            bios: possible.bios.is_ok() && loader != Bootloader::SystemdBoot,
            uefi: possible.uefi.is_ok(),
        };
        let named = |firmware| Self {
            loader,
            bios: matches!(firmware, Firmware::Bios | Firmware::Both),
            uefi: matches!(firmware, Firmware::Uefi | Firmware::Both),
        };
        let user = wanted.firmware.map(named);
        if wanted.generic && user.is_some_and(|user| user != all) {
            return Err(options(
                "--generic-image makes a disk for any machine: leave --firmware away",
            ));
        }
        let image = config.firmware.filter(|_| !wanted.generic).map(named);
        let boots = user.or(image).unwrap_or(all);
        boots.check(possible)?;
        Ok(boots)
    }

    fn check(self, possible: &Possible) -> Result<(), InstallError> {
        if self.loader == Bootloader::SystemdBoot && self.bios {
            return Err(options(
                "systemd-boot boots with UEFI only: choose --firmware uefi, or --bootloader grub",
            ));
        }
        let refused = |wanted: bool, why: &Result<(), String>| match why {
            Err(why) if wanted => Err(options(why)),
            _ => Ok(()),
        };
        refused(self.bios, &possible.bios)?;
        refused(self.uefi, &possible.uefi)?;
        // Nothing is possible, so the reasons are asked for.
        let none = self.loader != Bootloader::None && !self.bios && !self.uefi;
        refused(none, &possible.uefi)?;
        refused(none, &possible.bios)
    }
}

/// The boot loader that an image names.
fn of_config(loader: Loader) -> Result<Bootloader, InstallError> {
    Ok(match loader {
        Loader::Grub => Bootloader::Grub,
        Loader::Systemd => Bootloader::SystemdBoot,
        Loader::None => Bootloader::None,
        Loader::GrubCc => {
            return Err(InstallError::unsupported(
                "the image asks for the boot loader grub-cc, which Bowline does not install",
                "choose another with --bootloader",
            ));
        }
    })
}

fn options(text: &str) -> InstallError {
    InstallError::Options(text.into())
}

/// What a disk will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskChoice {
    /// How it boots.
    pub boots: Boots,
    /// Type of its root file system.
    pub root_fs: RootFs,
    /// What its partition table must have.
    pub layout: Layout,
}

impl DiskChoice {
    /// Decides; `sector` is the size of the disk's sectors in bytes.
    pub fn choose(
        request: &DiskRequest,
        config: &InstallConfig,
        sector: u64,
    ) -> Result<Self, InstallError> {
        let boots = Boots::choose(
            &request.wanted,
            config,
            &Possible::on_disk(&request.wanted.arch),
        )?;
        if boots.bios && boots.loader == Bootloader::Grub && sector != 512 {
            return Err(InstallError::unsupported(
                format!("GRUB for BIOS does not boot from sectors of {sector} bytes"),
                "choose --firmware uefi",
            ));
        }
        let root = request.root_size.or(config.root_size);
        if let Some(small) = root.filter(|size| *size < MIN_ROOT) {
            let text = format!("a root partition of {small} bytes holds no system: {MIN_ROOT} do");
            return Err(InstallError::Options(text));
        }
        let root_fs = request.root_fs.or(config.root_fs_type);
        Ok(Self {
            boots,
            root_fs: root_fs.unwrap_or(RootFs::Ext4),
            layout: Layout {
                bios: boots.bios,
                esp: boots.uefi.then(|| esp_size(boots.loader, sector)),
                root,
                arch: request.wanted.arch.clone(),
            },
        })
    }

    /// Its partitions on a disk of `size` bytes.
    pub fn plan(&self, size: u64) -> Result<PartitionPlan, InstallError> {
        PartitionPlan::new(&self.layout, size)
    }
}

/// Kernel arguments that lead to the root file system; `found` is how it is found without a word
/// of the image, such as `UUID=…`.
pub fn root_kargs(found: &str, config: &InstallConfig, loader: Bootloader) -> Vec<String> {
    // Only systemd-boot tells systemd from which disk it was loaded.
    let by_type = config.discoverable_partitions == Some(true) && loader == Bootloader::SystemdBoot;
    let root = match &config.root_mount_spec {
        Some(spec) if spec.is_empty() => None,
        Some(spec) => Some(spec.as_str()),
        None if by_type => None,
        None => Some(found),
    };
    let mut kargs: Vec<String> = root
        .map(|root| format!("root={root}"))
        .into_iter()
        .collect();
    // The root file system is writable; what must not be written is bind-mounted read-only.
    kargs.push("rw".into());
    kargs
}

/// What becomes of the image's own kernel arguments: some are taken out, then those that lead to
/// the root file system, those of the install configuration and those of the user are put behind.
/// What several ask for stands where the last one puts it: the kernel takes the last word of a key.
pub fn edits(
    root: &[String],
    config: &InstallConfig,
    wanted: &Wanted,
) -> Result<Vec<Edit>, KargError> {
    let deletes = config.karg_deletes.iter().cloned().map(Edit::DeleteAll);
    let mut edits: Vec<Edit> = deletes.collect();
    // One text of the configuration may hold several, as in bootc.
    let of_image = config.kargs.iter().map(|text| KernelArgs::parse(text));
    let of_image: Vec<String> = of_image.flat_map(|args| args.to_words()).collect();
    for arg in root.iter().chain(&of_image).chain(&wanted.kargs) {
        edits.push(Edit::PutLast(Karg::new(arg)?));
    }
    Ok(edits)
}

#[cfg(test)]
mod tests;
