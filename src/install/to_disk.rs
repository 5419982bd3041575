//! `install to-disk` on one page. A request comes in; a disk that boots goes out.
//!
//! ```text
//! look at the target -> fetch into the scratch directory -> deploy there -> boot loader there
//!   -> clear the start of the disk -> root file system -> EFI system partition -> sync
//!   -> partition table, boot code -> sync
//! ```
//!
//! Nothing is written to the target before the system is complete in the scratch directory. What
//! firmware starts from is written last: interrupted before that, the disk boots nothing, and the
//! same command writes it anew, with what it fetched.

use std::fs;

use anyhow::Result;
use fn_error_context::context;
use tokio::task::yield_now;
use uuid::Uuid;

use super::choice::{self, DiskChoice};
use super::embed::Embedding;
use super::fill;
use super::partition::{PartitionPlan, Role};
use super::request::{DiskRequest, Installed};
use super::table::{self, Ids};
use super::{
    InstallError, Scratch, Target, bootupd, bootupd_disk, esp, firmware, format, grub, loader,
};
use crate::boot::{BootSetup, Bootloader};
use crate::config::InstallConfig;
use crate::progress::{Event, Phase};

/// Installs to a disk or plain file.
#[context("Installing to {}", request.target.display())]
pub async fn to_disk(request: &DiskRequest) -> Result<Installed> {
    super::check_root()?;
    let target = Target::open(&request.target)?;
    check_blank(&target, request.wipe)?;
    // A disk that is too small for any system is refused before anything is fetched.
    let blank = InstallConfig::default();
    DiskChoice::choose(request, &blank, target.sector())?.plan(target.size())?;
    let mut scratch = Scratch::open(&request.scratch, target.path())?;
    scratch.keep();
    let sysroot = scratch.sysroot().map_err(|error| scratch.blame(error))?;
    let wanted = &request.wanted;
    let fetched = fill::fetch(&sysroot, wanted).await;
    let fetched = fetched.map_err(|error| scratch.blame(error))?;
    fill::only(&sysroot.repo()?, &fetched)?;
    yield_now().await;

    let config = fill::config(&sysroot, wanted, &fetched)?;
    let choice = DiskChoice::choose(request, &config, target.sector())?;
    let disk = Disk::new(choice, target.size())?;
    let boots = disk.choice.boots;
    let root = choice::root_kargs(&format!("UUID={}", disk.uuid), &config, boots.loader);
    let esp = scratch.join("esp");
    fs::create_dir(&esp)?;
    let boot = fill::Boot {
        root: &root,
        loader: boots.loader,
        esp: (boots.loader == Bootloader::SystemdBoot).then_some(&*esp),
        fstab: None,
    };
    let deployed = fill::deploy(&sysroot, wanted, &fetched, &config, &boot);
    let deployed = deployed.map_err(|error| scratch.blame(error))?;
    let by_bootupd = boots.loader == Bootloader::Grub && bootupd::is_in(&deployed.tree);
    let embedding = match by_bootupd {
        true => {
            bootupd_disk::check(&target, &scratch)?;
            BootSetup::forget(&scratch.join("sysroot"))?;
            None
        }
        false => boot_files(&disk, &scratch, &deployed.tree)?,
    };
    if !by_bootupd && disk.is_for_this_machine(request, &target) {
        loader::add_own_directory(&esp)?;
    }
    drop(sysroot);
    scratch.settle()?;
    wanted.progress.event(Event::Phase(Phase::Install));
    write(&target, &scratch, &disk, embedding.as_ref()).await?;
    let told = match by_bootupd {
        true => {
            let on_disk = bootupd_disk::OnDisk {
                number: disk.plan.number(Role::Root).unwrap_or(1),
                root_fs: disk.choice.root_fs,
                generic: wanted.generic,
                skip_uuid: config.skip_boot_uuid == Some(true),
            };
            on_disk.install(&target, &scratch, &deployed.tree)?;
            None
        }
        false => disk.tell_firmware(request, &target),
    };
    scratch.finish()?;
    let mut installed = Installed::new(wanted, boots, &fetched, deployed);
    installed.remarks.extend(told);
    Ok(installed)
}

/// A disk as it will be, with the names that its parts get.
#[derive(Debug)]
struct Disk {
    choice: DiskChoice,
    plan: PartitionPlan,
    ids: Ids,
    /// UUID of the root file system.
    uuid: String,
}

impl Disk {
    fn new(choice: DiskChoice, size: u64) -> Result<Self, InstallError> {
        let plan = choice.plan(size)?;
        Ok(Self {
            ids: Ids::new(&plan),
            uuid: Uuid::new_v4().to_string(),
            choice,
            plan,
        })
    }
}

impl Disk {
    /// Whether the system is for this machine alone, so that its firmware is told about it.
    fn is_for_this_machine(&self, request: &DiskRequest, target: &Target) -> bool {
        let boots = self.choice.boots;
        let there = boots.uefi && boots.loader != Bootloader::None;
        there && target.is_block() && !request.wanted.generic
    }

    fn tell_firmware(&self, request: &DiskRequest, target: &Target) -> Option<String> {
        if !self.is_for_this_machine(request, target) {
            return None;
        }
        let number = self.plan.number(Role::Esp)?;
        let file = loader::started_file(&self.choice.layout.arch)?;
        firmware::remark(Some(&(target.path().into(), number)), &file)
    }
}

fn check_blank(target: &Target, wipe: bool) -> Result<()> {
    if target.is_unfinished()? {
        tracing::info!("an installation that was interrupted is begun anew");
        return Ok(());
    }
    let mut found = target.signatures()?;
    if found.is_empty() && target.has_data()? {
        found.push("data of an unknown kind".into());
    }
    if found.is_empty() || wipe {
        return Ok(());
    }
    let path = target.path().into();
    Err(InstallError::NotBlank { path, found }.into())
}

/// Writes what boots the system to the scratch directory.
fn boot_files(disk: &Disk, scratch: &Scratch, tree: &std::path::Path) -> Result<Option<Embedding>> {
    let sysroot = scratch.join("sysroot");
    let site = loader::Site {
        boots: disk.choice.boots,
        arch: &disk.choice.layout.arch,
        tree,
        grub_dir: &sysroot.join("boot/grub"),
        esp: &scratch.join("esp"),
        root: grub::Boot {
            uuid: disk.uuid.clone(),
            root_fs: disk.choice.root_fs,
            dir: "/boot/grub".into(),
        },
        bios: disk.plan.bios_place(),
    };
    let embedding = loader::prepare(&site)?;
    let setup = BootSetup {
        bootloader: site.boots.loader,
        esp: disk.ids.of(Role::Esp).map(str::to_owned),
    };
    setup.write(&sysroot)?;
    Ok(embedding)
}

/// Writes everything to the target, what firmware starts from last.
async fn write(
    target: &Target,
    scratch: &Scratch,
    disk: &Disk,
    embedding: Option<&Embedding>,
) -> Result<()> {
    let root = format::Root {
        kind: disk.choice.root_fs,
        uuid: &disk.uuid,
        place: disk.plan.root(),
        content: &scratch.join("sysroot"),
    };
    format::check(target, &root)?;
    let image = scratch.join("esp.img");
    let esp = disk.plan.find(Role::Esp);
    if let Some(place) = esp {
        esp::make(&scratch.join("esp"), &image, place.size, target.sector())?;
    }
    yield_now().await;
    // Fetching took its time.
    target.check_unused()?;
    target.wipe()?;
    format::make(target, &root, &scratch.join("root.img"))?;
    yield_now().await;
    if let Some(place) = esp {
        target.zero(place.start, place.size)?;
        target.copy(&image, place.start)?;
    }
    target.sync()?;
    yield_now().await;
    table::write(target, &disk.plan, &disk.ids, embedding)
}
