//! `install to-filesystem` and `install to-existing-root` on one page. A mounted root comes in; a
//! root that boots the image goes out.
//!
//! ```text
//! look at the mounts and for the image -> make the root a sysroot -> fetch -> deploy -> boot loader files
//!   -> sync -> EFI system partition -> BIOS code -> the firmware's boot entry -> sync
//! ```
//!
//! What boots the machine is replaced last, and what it replaces is kept in
//! `ostree/bowline/before`. Interrupted, the old system boots, or the new one; the same command
//! goes on.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use tokio::task::yield_now;

use super::bootupd::{self, Bootupd};
use super::choice::{self, Boots};
use super::embed::{BiosPlace, Embedding};
use super::fill::{self, Deployed};
use super::request::{Installed, MountedRequest};
use super::site::{MountedRoot, Volume};
use super::{InstallError, check_root, firmware, grub, loader, place, takeover};
use crate::boot::{BootSetup, Bootloader};
use crate::config::InstallConfig;
use crate::progress::{Event, Phase};
use crate::sys::namespace::MountNamespace;
use crate::sys::{self, bulk};

/// What was replaced, below the root.
const KEPT: &str = "ostree/bowline/before";
/// Files on their way to the EFI system partition, below the root.
const STAGING: &str = "ostree/bowline/esp";

/// Installs to file systems that are mounted.
#[context("Installing to {}", request.root.display())]
pub async fn to_mounted(request: &MountedRequest) -> Result<Installed> {
    check_root()?;
    takeover::refuse_booted(&request.root)?;
    let site = MountedRoot::look(&request.root)?;
    takeover::refuse_wiping_itself(&site.path, request.existing)?;
    let wanted = &request.wanted;
    let possible = site.possible(&wanted.arch);
    // Refused before anything is changed, as far as that does not depend on the image.
    Boots::choose(wanted, &InstallConfig::default(), &possible)?;
    fill::look(wanted).await?;
    let sysroot = takeover::open(&site.path, request.existing)?;
    let fetched = fill::fetch(&sysroot, wanted).await?;
    yield_now().await;

    let config = fill::config(&sysroot, wanted, &fetched)?;
    let boots = Boots::choose(wanted, &config, &possible)?;
    let root = format!("UUID={}", site.root.uuid);
    let root = choice::root_kargs(&root, &config, boots.loader);
    let esp = site
        .esp
        .as_ref()
        .filter(|_| boots.loader == Bootloader::SystemdBoot);
    let mount = site
        .boot
        .as_ref()
        .and_then(|boot| mount_boot(boot, &config));
    let boot = fill::Boot {
        root: &root,
        loader: boots.loader,
        esp: esp.map(|esp| esp.path.as_path()),
        fstab: mount.as_deref(),
    };
    let deployed = fill::deploy(&sysroot, wanted, &fetched, &config, &boot)?;
    yield_now().await;

    wanted.progress.event(Event::Phase(Phase::Install));
    let remarks = match boots.loader == Bootloader::Grub && bootupd::is_in(&deployed.tree) {
        true => run_bootupd(&site, &deployed, wanted.generic, &config)?,
        false => boot_loader(&site, boots, request, &deployed)?,
    };
    takeover::finish(&site.path)?;
    sync(&site)?;
    let mut installed = Installed::new(wanted, boots, &fetched, deployed);
    installed.remarks = remarks;
    Ok(installed)
}

/// Makes durable what was written to the root file system, and to that of `/boot`.
fn sync(site: &MountedRoot) -> Result<()> {
    let boot = site.boot.as_ref().map(|_| site.path.join("boot"));
    let dirs = std::iter::once(&site.path).chain(&boot);
    for dir in dirs {
        let what = || format!("Writing the file system at {} to disk", dir.display());
        sys::fs::sync_filesystem(dir).with_context(what)?;
    }
    Ok(())
}

/// A file system of its own for `/boot` is mounted there by the system: the line of fstab(5).
fn mount_boot(boot: &Volume, config: &InstallConfig) -> Option<String> {
    let spec = match &config.boot_mount_spec {
        Some(spec) if spec.is_empty() => return None,
        Some(spec) => spec.clone(),
        None => format!("UUID={}", boot.uuid),
    };
    Some(format!("{spec} /boot {} defaults 0 2\n", boot.kind.name()))
}

/// Installs the boot loader; gives what the user should know about it.
fn boot_loader(
    site: &MountedRoot,
    boots: Boots,
    request: &MountedRequest,
    deployed: &Deployed,
) -> Result<Vec<String>> {
    let (path, generic) = (&site.path, request.wanted.generic);
    let (staging, kept) = (path.join(STAGING), path.join(KEPT));
    bulk::remove(&staging)?;
    fs::create_dir_all(&staging)?;
    let of_boot = site.boot.as_ref().unwrap_or(&site.root);
    let name = grub::dir_name(&path.join("boot"));
    let top = if site.boot.is_some() { "" } else { "/boot" };
    let embedding = loader::prepare(&loader::Site {
        boots,
        arch: &request.wanted.arch,
        tree: &deployed.tree,
        grub_dir: &path.join("boot").join(name),
        esp: &staging,
        root: grub::Boot {
            uuid: of_boot.uuid.clone(),
            root_fs: of_boot.kind,
            dir: format!("{top}/{name}"),
        },
        bios: site.bios.as_ref().map(|(_, place)| *place),
    })?;
    let esp = site.esp.as_ref().filter(|_| boots.uefi);
    let setup = BootSetup {
        bootloader: boots.loader,
        esp: esp.and_then(|esp| esp.id.clone()),
    };
    setup.write(path)?;
    // From here on the new system may be what boots.
    sync(site)?;
    let mut remarks = Vec::new();
    if let Some(esp) = esp.filter(|_| boots.loader != Bootloader::None) {
        if !generic {
            loader::add_own_directory(&staging)?;
        }
        let replaced = place::install(&staging, &esp.path, &kept.join("esp"))?;
        sys::fs::sync_filesystem(&esp.path).context("Writing the EFI partition to disk")?;
        remarks.extend(replaced_remark(&replaced, &kept));
        let started = loader::started_file(&request.wanted.arch).filter(|_| !generic);
        remarks.extend(started.and_then(|file| firmware::remark(esp.disk.as_ref(), &file)));
    }
    if let (Some(code), Some((disk, place))) = (embedding, &site.bios) {
        remarks.push(write_code(disk, *place, &code, &kept)?);
    }
    bulk::remove(&staging)?;
    Ok(remarks)
}

/// Lets the image's bootupd install the boot loader to the disk under `boot`.
fn run_bootupd(
    site: &MountedRoot,
    deployed: &Deployed,
    generic: bool,
    config: &InstallConfig,
) -> Result<Vec<String>> {
    let disk = site.disk().ok_or_else(|| {
        InstallError::unsupported(
            "the image installs its boot loader with bootupd, which needs a partition of a disk",
            "choose --bootloader systemd-boot or none",
        )
    })?;
    let bootupd = Bootupd {
        tree: &deployed.tree,
        root: &site.path,
        disk,
        generic,
        skip_uuid: config.skip_boot_uuid == Some(true),
    };
    sync(site)?;
    bootupd.install(&MountNamespace::new()?)?;
    BootSetup::forget(&site.path)?;
    Ok(vec![
        "bootupd of the image installed its boot loader".into(),
    ])
}

fn replaced_remark(replaced: &[PathBuf], kept: &Path) -> Option<String> {
    let names: Vec<_> = replaced
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    (!names.is_empty()).then(|| {
        let kept = kept.join("esp");
        let names = names.join(", ");
        format!(
            "Of the EFI system partition were replaced: {names}; the old ones are in {}",
            kept.display()
        )
    })
}

/// Replaces the code that BIOS starts, the first sector last; what was there is kept.
#[context("Writing the boot code of {}", disk.display())]
fn write_code(disk: &Path, place: BiosPlace, code: &Embedding, kept: &Path) -> Result<String> {
    let device = OpenOptions::new().read(true).write(true).open(disk)?;
    let start = place.sector * super::embed::SECTOR as u64;
    let (sector, core) = (kept.join("boot-code.img"), kept.join("core.img"));
    if !sector.exists() {
        fs::create_dir_all(kept)?;
        let mut old = vec![0; code.core.len()];
        device.read_exact_at(&mut old, start)?;
        write_synced(&core, &old)?;
        let mut old = vec![0; code.boot_code.len()];
        device.read_exact_at(&mut old, 0)?;
        write_synced(&sector, &old)?;
    }
    device.write_all_at(&code.core, start)?;
    device.sync_all()?;
    device.write_all_at(&code.boot_code, 0)?;
    device.sync_all()?;
    Ok(format!(
        "BIOS starts the new system. The way back: `dd if={} of={2} conv=notrunc` and \
         `dd if={} of={2} bs=512 seek={3} conv=notrunc`",
        sector.display(),
        core.display(),
        disk.display(),
        place.sector
    ))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}
