//! What an installation will be, decided from what the user says, what the image says, and the
//! architecture. Pure.

use super::InstallError;
use super::partition::{Layout, MIB};
use super::request::{DiskRequest, Firmware, Loader, RootType, Wanted};

/// Bytes of the EFI system partition where it holds GRUB alone.
const ESP_SMALL: u64 = 128 * MIB;
/// Bytes of the EFI system partition where it holds kernels: three of them, with room to spare.
const ESP_KERNELS: u64 = 1024 * MIB;

/// Boot loader and firmware of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boots {
    /// The boot loader.
    pub loader: Loader,
    /// For which firmware.
    pub firmware: Firmware,
}

impl Boots {
    /// Decides; what the user says goes first.
    pub fn choose(wanted: &Wanted) -> Result<Self, InstallError> {
        let loader = wanted.loader.unwrap_or(Loader::Grub);
        let has_bios = matches!(&*wanted.arch, "amd64" | "386");
        let all = match (loader, has_bios) {
            (Loader::SystemdBoot, _) | (_, false) => Firmware::Uefi,
            (Loader::Grub | Loader::None, true) => Firmware::Both,
        };
        let firmware = wanted.firmware.unwrap_or(all);
        if loader == Loader::SystemdBoot && firmware.bios() {
            return Err(options(
                "systemd-boot boots with UEFI only: choose --firmware uefi, or --bootloader grub",
            ));
        }
        if firmware.bios() && !has_bios {
            let text = format!("machines of architecture {} have no BIOS", wanted.arch);
            return Err(InstallError::Options(text));
        }
        if wanted.generic && firmware != all {
            return Err(options(
                "--generic-image makes a disk for any machine: leave --firmware away",
            ));
        }
        Ok(Self { loader, firmware })
    }
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
    pub root_type: RootType,
    /// What its partition table must have.
    pub layout: Layout,
}

impl DiskChoice {
    /// Decides; `sector` is the size of the disk's sectors in bytes.
    pub fn choose(request: &DiskRequest, sector: u64) -> Result<Self, InstallError> {
        let boots = Boots::choose(&request.wanted)?;
        if boots.firmware.bios() && boots.loader == Loader::Grub && sector != 512 {
            return Err(InstallError::unsupported(
                format!("BIOS does not boot from disks with sectors of {sector} bytes"),
                "choose --firmware uefi",
            ));
        }
        let esp = match boots.loader {
            Loader::SystemdBoot => ESP_KERNELS,
            Loader::Grub | Loader::None => ESP_SMALL,
        };
        Ok(Self {
            boots,
            root_type: request.root_type.unwrap_or_default(),
            layout: Layout {
                bios: boots.firmware.bios(),
                esp: boots.firmware.uefi().then_some(esp),
                root: request.root_size.map(|size| size.0),
                arch: request.wanted.arch.clone(),
            },
        })
    }
}

/// Kernel arguments of a system whose root file system has this UUID.
pub fn kargs(uuid: &str, wanted: &Wanted) -> Vec<String> {
    // The root file system is writable; what must not be written is bind-mounted read-only.
    let mut kargs = vec![format!("root=UUID={uuid}"), "rw".into()];
    kargs.extend(wanted.kargs.iter().cloned());
    kargs
}
