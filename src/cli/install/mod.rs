//! `install`: arguments become a request, the walk of `crate::install` is taken, and what came of
//! it is printed. Decides nothing about disks.

pub mod args;
mod print_configuration;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::args::{
    FirmwareArg, InstallArgs, InstallCommand, LoaderArg, ReplaceArg, RootTypeArg, SystemArgs,
    ToDiskArgs,
};
use super::exit::UsageError;
use super::{Context, Outcome, reference, render_report, text};
use crate::boot::Bootloader;
use crate::boot::kargs::Karg;
use crate::config::install::{Firmware, RootFs};
use crate::install::{self, DiskRequest, Existing, Installed, MountedRequest, Wanted};
use crate::progress::{Event, ProgressSink};

/// The largest file with public keys that is read, in bytes.
const MAX_KEYS: u64 = 1 << 20;

/// How the types of public keys begin, see sshd(8).
const KEY_KINDS: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];

/// What is to be known about a system that was taken over.
const TAKEN_OVER: &str = "\
The old system runs until the next reboot; its files stay where they are, below /sysroot of the new
system. What booted it is kept in /ostree/bowline/before.
";

/// Installs a system.
pub fn run(args: &InstallArgs, context: &Context) -> Result<Outcome> {
    match &args.command {
        InstallCommand::ToDisk(args) => to_disk(args, context)?,
        InstallCommand::ToFilesystem(args) => {
            let existing = match args.replace {
                None => Existing::Refuse,
                Some(ReplaceArg::Alongside) => Existing::Keep,
                Some(ReplaceArg::Wipe) => Existing::Wipe,
            };
            to_mounted(&args.root, &args.system, existing, context)?;
        }
        InstallCommand::ToExistingRoot(args) => {
            to_mounted(&args.root, &args.system, Existing::Keep, context)?;
            context.say(TAKEN_OVER)?;
        }
        InstallCommand::PrintConfiguration(args) => print_configuration::run(args, context)?,
    }
    Ok(Outcome::Done)
}

fn to_disk(args: &ToDiskArgs, context: &Context) -> Result<()> {
    let request = DiskRequest {
        wanted: wanted(&args.system, context)?,
        target: args.target.clone(),
        scratch: args.scratch.clone(),
        root_fs: args.filesystem.map(root_fs),
        root_size: args.root_size.map(|size| size.0),
        wipe: args.wipe,
    };
    let installed = context.block_on(async {
        let installed = install::to_disk(&request).await;
        request.wanted.progress.event(Event::Finished);
        installed
    })?;
    let place = args.target.display().to_string();
    context.say(&report(&installed, &text::clean(&place)))
}

fn to_mounted(
    root: &Path,
    system: &SystemArgs,
    existing: Existing,
    context: &Context,
) -> Result<()> {
    let request = MountedRequest {
        wanted: wanted(system, context)?,
        root: root.into(),
        existing,
    };
    let installed = context.block_on(async {
        let installed = install::to_mounted(&request).await;
        request.wanted.progress.event(Event::Finished);
        installed
    })?;
    context.say(&report(
        &installed,
        &text::clean(&root.display().to_string()),
    ))
}

fn wanted(args: &SystemArgs, context: &Context) -> Result<Wanted> {
    let image = reference::parse(&args.image)?;
    let follows = args.target_imgref.as_deref().map(reference::parse);
    let keys = args.root_ssh_authorized_keys.as_deref().map(read_keys);
    // Refused before anything is fetched.
    for arg in &args.karg {
        Karg::new(arg)?;
    }
    let progress: Arc<dyn ProgressSink> = context.progress(&image.imgref.to_string())?;
    Ok(Wanted {
        target_image: follows.transpose()?.unwrap_or_else(|| image.clone()),
        image,
        stateroot: context.stateroot.clone(),
        kargs: args.karg.clone(),
        root_keys: keys.transpose()?,
        loader: args.bootloader.map(loader),
        firmware: args.firmware.map(firmware),
        generic: args.generic_image,
        arch: context.arch(&args.fetch),
        jobs: usize::try_from(args.fetch.jobs)?,
        source: context.source_options(&args.fetch, progress.clone()),
        rules: context.trust_rules()?,
        progress,
    })
}

/// Reads public keys; a file without any would lock everybody out.
fn read_keys(path: &Path) -> Result<String> {
    let what = || format!("Reading the public keys in {}", path.display());
    let wrong = |text: &str| UsageError::new(format!("{} {text}", path.display()));
    if !path.is_file() {
        let hint = "name a file with public keys, such as ~/.ssh/id_ed25519.pub";
        return Err(wrong("is no file").hint(hint).into());
    }
    let size = fs::metadata(path).with_context(what)?.len();
    if size > MAX_KEYS {
        return Err(wrong("is too large for a file of public keys").into());
    }
    let keys = String::from_utf8(fs::read(path).with_context(what)?);
    let keys = keys.map_err(|_| wrong("is no text, and so no file of public keys"))?;
    let has_kind = |line: &str| KEY_KINDS.iter().any(|kind| line.contains(kind));
    let is_key = |line: &str| has_kind(line) && !line.trim_start().starts_with('#');
    if keys.contains("PRIVATE KEY") {
        return Err(wrong("holds a private key: name the file that ends in .pub").into());
    }
    if !keys.lines().any(is_key) {
        return Err(
            wrong("holds no public key: each line is one, as in a file that ends in .pub").into(),
        );
    }
    Ok(match keys.ends_with('\n') {
        true => keys,
        false => keys + "\n",
    })
}

fn root_fs(arg: RootTypeArg) -> RootFs {
    match arg {
        RootTypeArg::Ext4 => RootFs::Ext4,
        RootTypeArg::Xfs => RootFs::Xfs,
        RootTypeArg::Btrfs => RootFs::Btrfs,
    }
}

fn loader(arg: LoaderArg) -> Bootloader {
    match arg {
        LoaderArg::Grub => Bootloader::Grub,
        LoaderArg::SystemdBoot => Bootloader::SystemdBoot,
        LoaderArg::None => Bootloader::None,
    }
}

fn firmware(arg: FirmwareArg) -> Firmware {
    match arg {
        FirmwareArg::Bios => Firmware::Bios,
        FirmwareArg::Uefi => Firmware::Uefi,
        FirmwareArg::Both => Firmware::Both,
    }
}

/// What was installed, in lines for people.
fn report(installed: &Installed, place: &str) -> String {
    let boots = installed.boots;
    let loader = match boots.loader {
        Bootloader::Grub => "GRUB",
        Bootloader::SystemdBoot => "systemd-boot",
        Bootloader::None => "none: install one before you boot it",
    };
    let firmware = match (boots.loader, boots.bios, boots.uefi) {
        (Bootloader::None, ..) | (_, false, false) => "",
        (_, true, false) => ", for BIOS",
        (_, false, true) => ", for UEFI",
        (_, true, true) => ", for BIOS and UEFI",
    };
    let mut lines = format!(
        "Installed {} to {place}\n  Digest       {}\n",
        render_report::image_name(&installed.image),
        installed.digest
    );
    if let Some(version) = &installed.version {
        lines.push_str(&format!("  Version      {}\n", text::clean(version)));
    }
    if installed.follows != installed.image {
        let follows = render_report::image_name(&installed.follows);
        lines.push_str(&format!("  Follows      {follows}\n"));
    }
    lines.push_str(&format!("  Boot loader  {loader}{firmware}\n"));
    lines.push_str(&format!(
        "  Arguments    {}\n",
        text::clean(&installed.kargs.join(" "))
    ));
    for remark in &installed.remarks {
        lines.push_str(&format!("{remark}\n"));
    }
    lines
}
