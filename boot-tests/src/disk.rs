//! Disks with an installed system: a flavour of boot loader in, a machine out. `bowline install
//! to-disk` makes each once; the system's first boot is kept as a snapshot, so that a scenario starts
//! within seconds from a system that runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::images::{self, REPOSITORY};
use crate::qemu::{self, Cache, Firmware, Machine, REGISTRY};
use crate::registry::Registry;
use crate::story::{self, Story};
use crate::vm::Vm;
use crate::{place, tool};

/// Room for three deployments, and little enough to fill in a test.
const DISK_BYTES: u64 = 3 << 30;
/// The name of the snapshot of a system that has booted.
const BOOTED: &str = "booted";
/// The image that the installed systems have, and the tag that they follow.
const FIRST: &str = "v1";
/// What the installed systems follow, in the guest's words.
pub const FOLLOWED: &str = "10.0.2.100:5000/os:stable";
/// Arguments that make a boot quicker and its clock right under emulation, and change nothing that is
/// tested.
const QUICK: &[&str] = &[
    "console=ttyS0",
    "mitigations=off",
    "audit=0",
    "no_timer_check",
    // On a busy host the guest measures a wrong rate, and its clock would race.
    "tsc=unstable",
    "nokaslr",
    "cryptomgr.notests",
];

/// Firmware and boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// SeaBIOS and GRUB.
    BiosGrub,
    /// OVMF and GRUB.
    UefiGrub,
    /// OVMF and systemd-boot.
    UefiSystemdBoot,
    /// SeaBIOS and GRUB, on XFS. The host needs loop devices and XFS for the installation.
    BiosXfs,
    /// OVMF and GRUB, on Btrfs.
    UefiBtrfs,
}

impl Flavour {
    /// The word for file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::BiosGrub => "bios-grub",
            Self::UefiGrub => "uefi-grub",
            Self::UefiSystemdBoot => "uefi-systemd-boot",
            Self::BiosXfs => "bios-xfs",
            Self::UefiBtrfs => "uefi-btrfs",
        }
    }

    /// What starts the boot loader.
    pub fn firmware(self) -> Firmware {
        match self {
            Self::BiosGrub | Self::BiosXfs => Firmware::Bios,
            Self::UefiGrub | Self::UefiSystemdBoot | Self::UefiBtrfs => Firmware::Uefi,
        }
    }

    fn options(self) -> impl Iterator<Item = &'static str> {
        let options = match self {
            Self::BiosGrub => "--firmware bios --bootloader grub",
            Self::UefiGrub => "--firmware uefi --bootloader grub",
            Self::UefiSystemdBoot => "--firmware uefi --bootloader systemd-boot",
            Self::BiosXfs => "--firmware bios --bootloader grub --filesystem xfs",
            Self::UefiBtrfs => "--firmware uefi --bootloader grub --filesystem btrfs",
        };
        options.split(' ')
    }
}

/// A machine with a new copy of a disk that has just been installed.
pub fn installed(flavour: Flavour, story: &Story, registry: &Registry) -> Result<Machine> {
    let base = install(flavour)?.join("disk.raw");
    let machine = machine(flavour, story, registry)?;
    create_overlay(&base, &machine)?;
    Ok(machine)
}

/// A running system that was installed and has booted once, all of it settled.
pub fn booted(flavour: Flavour, story: &Story, registry: &Registry) -> Result<Vm> {
    booted_with(flavour, story, registry, Cache::Careless)
}

/// The same, on a disk that is as careful as told.
pub fn booted_with(
    flavour: Flavour,
    story: &Story,
    registry: &Registry,
    cache: Cache,
) -> Result<Vm> {
    let kept = keep_booted(flavour)?;
    let mut machine = machine(flavour, story, registry)?;
    machine.cache = cache;
    copy(&kept.join("disk.qcow2"), &machine.disk)?;
    if flavour.firmware() == Firmware::Uefi {
        copy(&kept.join("variables.qcow2"), &machine.variables)?;
    }
    Vm::resume(machine, story, BOOTED)
}

/// A machine that is off; its disk is not made yet.
pub(crate) fn machine(flavour: Flavour, story: &Story, registry: &Registry) -> Result<Machine> {
    let directory = place::fresh_directory(&format!("disks/{}", story.name()))?;
    Ok(Machine {
        firmware: flavour.firmware(),
        disk: directory.join("disk.qcow2"),
        second: None,
        variables: directory.join("variables.qcow2"),
        cache: Cache::Careless,
        registry_port: registry.port(),
        clock: None,
        kernel: None,
    })
}

/// Gives a machine a second disk, on which there is nothing.
pub fn add_blank(machine: &mut Machine) -> Result<()> {
    let second = machine.disk.with_file_name("second.qcow2");
    let (path, size) = (second.display().to_string(), DISK_BYTES.to_string());
    tool::run("qemu-img", &["create", "-q", "-f", "qcow2", &path, &size])?;
    machine.second = Some(second);
    Ok(())
}

/// Takes the first disk out of a machine; the second takes its place.
pub fn take_first_out(machine: &mut Machine) -> Result<()> {
    let second = machine.second.take().context("There is one disk")?;
    let first = std::mem::replace(&mut machine.disk, second);
    Ok(fs::remove_file(first)?)
}

fn create_overlay(base: &Path, machine: &Machine) -> Result<()> {
    let (base, disk) = (
        base.display().to_string(),
        machine.disk.display().to_string(),
    );
    tool::run(
        "qemu-img",
        &[
            "create", "-q", "-f", "qcow2", "-b", &base, "-F", "raw", &disk,
        ],
    )?;
    create_variables(machine)
}

/// The firmware remembers nothing yet.
pub(crate) fn create_variables(machine: &Machine) -> Result<()> {
    if machine.firmware == Firmware::Uefi {
        let variables = machine.variables.display().to_string();
        let empty = qemu::ovmf_files()?.1;
        tool::run(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "qcow2", empty, &variables],
        )?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    tool::run("cp", &["--sparse=always", "--reflink=auto", &from, &to])?;
    Ok(())
}

/// The program under test, for what the host does with it.
pub fn bowline() -> Result<PathBuf> {
    let path = std::env::var_os("BOWLINE").map(PathBuf::from);
    let path = path.unwrap_or_else(|| place::checkout().join("target/debug/bowline"));
    let missing = || {
        format!(
            "{} is missing: set BOWLINE, or run cargo build",
            path.display()
        )
    };
    path.canonicalize().with_context(missing)
}

/// The kernel arguments that installed systems get; whoever looks at the console wants to see something.
pub fn kernel_arguments() -> Vec<&'static str> {
    let quiet = (!story::shows_console()).then_some("quiet");
    QUICK.iter().copied().chain(quiet).collect()
}

fn install_key(flavour: Flavour) -> Result<Key> {
    let key = images::key(FIRST)?.file(&bowline()?)?;
    let key = key.text(flavour.name()).text(&kernel_arguments().join(" "));
    Ok(key.text(&DISK_BYTES.to_string()))
}

/// The directory with the disk `disk.raw` as the installation leaves it.
fn install(flavour: Flavour) -> Result<PathBuf> {
    let name = format!("installed-{}", flavour.name());
    cache::get(&name, &install_key(flavour)?, |directory| {
        let registry = Registry::start(&[images::storage(FIRST)?])?;
        let disk = directory.join("disk.raw");
        File::create(&disk)?.set_len(DISK_BYTES)?;
        let mut install = Command::new(bowline()?);
        install
            .args(["install", "to-disk"])
            .arg(&disk)
            .args(flavour.options());
        install
            .arg("--image")
            .arg(registry.reference(&format!("{REPOSITORY}:{FIRST}")));
        install.args(["--target-imgref", FOLLOWED]);
        for argument in kernel_arguments() {
            install.args(["--karg", argument]);
        }
        install.env("CONTAINERS_POLICY_JSON", permissive_policy(directory)?);
        tool::finish(install)?;
        Ok(())
    })
}

/// The images of a test are signed by nobody.
fn permissive_policy(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("policy.json");
    fs::write(&path, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    Ok(path)
}

/// The directory with a machine that has booted, as a snapshot in its disk.
fn keep_booted(flavour: Flavour) -> Result<PathBuf> {
    let version = tool::run(qemu::QEMU, &["--version"])?;
    let kvm = qemu::kvm_works().to_string();
    let key = install_key(flavour)?.text(&version).text(&kvm);
    let name = format!("booted-{}", flavour.name());
    cache::get(&name, &key, |directory| {
        let story = Story::begin(&name)?;
        let registry = Registry::start(&[])?;
        let machine = installed(flavour, &story, &registry)?;
        let mut vm = Vm::boot(machine.clone(), &story)?;
        vm.ok("systemctl is-system-running --wait || systemctl --failed --no-legend")?;
        vm.snapshot(BOOTED)?;
        vm.power_cut()?;
        fs::rename(&machine.disk, directory.join("disk.qcow2"))?;
        if flavour.firmware() == Firmware::Uefi {
            fs::rename(&machine.variables, directory.join("variables.qcow2"))?;
        }
        vm.finish()
    })
}

/// The name by which the guest knows an image of the registry.
pub fn in_guest(tag: &str) -> String {
    format!("{REGISTRY}/{REPOSITORY}:{tag}")
}
