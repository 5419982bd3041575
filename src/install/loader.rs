//! The boot loader of an installation, in directories: what goes below `boot`, what goes to the EFI
//! system partition, and the code that BIOS runs. Writes to no disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::InstallError;
use super::choice::Boots;
use super::embed::{self, BiosPlace, Embedding};
use super::grub::{self, Grub};
use crate::boot::{self, Bootloader};
use crate::config::install::RootFs;

/// Where firmware looks for a boot loader that nobody told it about, on the EFI system partition.
const BOOT_DIR: &str = "EFI/BOOT";
/// Where our boot loader is besides.
const OWN_DIR: &str = "EFI/bowline";

/// Where a boot loader is installed to, and what it must find.
#[derive(Debug)]
pub struct Site<'a> {
    /// How the system boots.
    pub boots: Boots,
    /// Architecture of the system, a GOARCH word.
    pub arch: &'a str,
    /// The deployed tree.
    pub tree: &'a Path,
    /// Where GRUB's configuration goes.
    pub grub_dir: &'a Path,
    /// The directory of the EFI system partition.
    pub esp: &'a Path,
    /// What GRUB looks for.
    pub root: grub::Boot,
    /// Where the code for BIOS goes.
    pub bios: Option<BiosPlace>,
}

/// Puts the boot loader's files in their directories; gives the code for BIOS.
#[context("Installing the boot loader")]
pub fn prepare(site: &Site<'_>) -> Result<Option<Embedding>> {
    match site.boots.loader {
        Bootloader::Grub => grub(site),
        Bootloader::SystemdBoot => systemd_boot(site).map(|()| None),
        Bootloader::None => Ok(None),
    }
}

fn grub(site: &Site<'_>) -> Result<Option<Embedding>> {
    grub::write_config(site.grub_dir, &grubenv(site)?)?;
    if site.boots.uefi {
        let grub = find(site, true)?;
        let file = grub.efi_name().context("GRUB for UEFI has no file name")?;
        let dir = site.esp.join(BOOT_DIR);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(file), grub.core_image(&site.root)?)?;
    }
    let Some(place) = site.bios.filter(|_| site.boots.bios) else {
        return Ok(None);
    };
    let grub = find(site, false)?;
    let (boot, core) = (grub.boot_sector()?, grub.core_image(&site.root)?);
    Ok(Some(embed::embed(&boot, &core, place)?))
}

/// Where the block goes in which GRUB counts boots: it cannot write to btrfs.
fn grubenv(site: &Site<'_>) -> Result<PathBuf, InstallError> {
    match (site.root.root_fs, site.boots.uefi) {
        (RootFs::Btrfs, true) => Ok(site.esp.join(boot::ESP_GRUBENV)),
        (RootFs::Btrfs, false) => Err(InstallError::unsupported(
            "GRUB cannot write to btrfs, and so not count the boots of an update",
            "choose --filesystem ext4, or --firmware both, which has an EFI system partition",
        )),
        (RootFs::Ext4 | RootFs::Xfs, _) => Ok(site.grub_dir.join("grubenv")),
    }
}

/// Where systemd-boot is in a tree; signed ones end in `.signed`.
const SYSTEMD_BOOT: &str = "usr/lib/systemd/boot/efi";
/// What systemd-boot shows and starts (loader.conf(5)): its menu for a second, in which a person can
/// reach it, then the first of our entries. Without that, an entry of somebody else would boot if it
/// sorts before ours, as any with a `sort-key` does. Of our own the first one counts still, and those
/// without tries left are the last ones.
const LOADER_CONF: &str = "timeout 1\ndefault bowline-*\n";

fn systemd_boot(site: &Site<'_>) -> Result<()> {
    let started = grub::platform(site.arch, true).and_then(|platform| platform.efi);
    let started = started.ok_or_else(|| no_systemd_boot(site.arch))?;
    let name = started.to_lowercase().replacen("boot", "systemd-boot", 1);
    let names = [format!("{name}.signed"), name.clone()];
    let places = [site.tree, Path::new("/")];
    let mut files = places
        .iter()
        .flat_map(|root| names.iter().map(|name| root.join(SYSTEMD_BOOT).join(name)));
    let file = files.find(|file| file.is_file());
    let file = file.ok_or_else(|| no_systemd_boot(site.arch))?;
    for (dir, name) in [(BOOT_DIR, started), ("EFI/systemd", &*name)] {
        let dir = site.esp.join(dir);
        fs::create_dir_all(&dir)?;
        fs::copy(&file, dir.join(name))?;
    }
    let conf = site.esp.join("loader");
    fs::create_dir_all(&conf)?;
    Ok(fs::write(conf.join("loader.conf"), LOADER_CONF)?)
}

fn no_systemd_boot(arch: &str) -> InstallError {
    InstallError::unsupported(
        format!("neither the image nor this host has systemd-boot for {arch}"),
        "put it into the image (on Debian the package systemd-boot-efi), or choose --bootloader grub",
    )
}

fn find(site: &Site<'_>, uefi: bool) -> Result<Grub, InstallError> {
    let platform = grub::platform(site.arch, uefi).ok_or_else(|| {
        InstallError::unsupported(
            format!("GRUB cannot be installed for architecture {}", site.arch),
            "choose --bootloader none and install a boot loader by hand",
        )
    })?;
    Grub::find(site.tree, platform)
}

/// Copies what firmware starts by itself, `EFI/BOOT`, to a directory of our own beside it, for a
/// boot entry of the firmware.
pub fn add_own_directory(esp: &Path) -> Result<()> {
    let own = esp.join(OWN_DIR);
    fs::create_dir_all(&own)?;
    for entry in fs::read_dir(esp.join(BOOT_DIR)).context("Reading EFI/BOOT")? {
        let entry = entry?;
        fs::copy(entry.path(), own.join(entry.file_name()))?;
    }
    Ok(())
}

/// What such an entry names: a path on the EFI system partition.
pub fn started_file(arch: &str) -> Option<String> {
    let file = grub::platform(arch, true)?.efi?;
    Some(format!("/{OWN_DIR}/{file}"))
}
