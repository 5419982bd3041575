//! Arguments of `install` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::FetchArgs;
use crate::config::human::{HumanError, Size};

/// Arguments of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Where to, or what to show.
    #[command(subcommand)]
    pub command: InstallCommand,
}

/// Where a system can be installed to.
#[derive(Debug, Subcommand)]
pub enum InstallCommand {
    /// Partition a disk, or a plain file that becomes a disk image, and install to it
    ToDisk(ToDiskArgs),
    /// Install to file systems that are mounted already, as by an installer
    ToFilesystem(ToFilesystemArgs),
    /// Take over the root of the running system; its files stay beside the new system
    ToExistingRoot(ToExistingRootArgs),
    /// Print how an image wants to be installed, as JSON in bootc's form
    PrintConfiguration(PrintConfigurationArgs),
}

impl InstallCommand {
    /// The options about fetching, of a command that fetches.
    pub fn fetch_args(&self) -> Option<&FetchArgs> {
        match self {
            Self::ToDisk(args) => Some(&args.system.fetch),
            Self::ToFilesystem(args) => Some(&args.system.fetch),
            Self::ToExistingRoot(args) => Some(&args.system.fetch),
            Self::PrintConfiguration(args) => Some(&args.fetch),
        }
    }
}

/// Arguments of `install to-disk`.
#[derive(Debug, Args)]
pub struct ToDiskArgs {
    /// Disk, or existing plain file of the size that the disk is to have
    #[arg(value_name = "DEVICE|FILE")]
    pub target: PathBuf,

    /// Destroy what is on the disk; needed when it has a partition table or a file system, and for
    /// a plain file when there is anything but zeros in its first MiB
    #[arg(long)]
    pub wipe: bool,

    /// Type of the root file system [default: what the image says, else ext4]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub filesystem: Option<RootTypeArg>,

    /// Size of the root partition, such as 20G [default: all that is left]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub root_size: Option<Size>,

    /// Directory where the system is put together before it is written to the disk; it needs as
    /// much room as the system
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub scratch: PathBuf,

    /// What to install.
    #[command(flatten)]
    pub system: SystemArgs,
}

/// Arguments of `install to-filesystem`.
#[derive(Debug, Args)]
pub struct ToFilesystemArgs {
    /// Where the root file system is mounted, with /boot and the EFI system partition (boot/efi or
    /// efi) below it if there are such
    #[arg(value_name = "DIR")]
    pub root: PathBuf,

    /// What to do with what the file systems hold; needed when they hold anything
    #[arg(long, value_enum, value_name = "HOW")]
    pub replace: Option<ReplaceArg>,

    /// What to install.
    #[command(flatten)]
    pub system: SystemArgs,
}

/// Arguments of `install to-existing-root`.
#[derive(Debug, Args)]
pub struct ToExistingRootArgs {
    /// Root of the system that is taken over, where it is not this one's
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// What to install.
    #[command(flatten)]
    pub system: SystemArgs,
}

/// Arguments of `install print-configuration`.
#[derive(Debug, Args)]
pub struct PrintConfigurationArgs {
    /// Image to look at; it is fetched for this and not kept
    #[arg(long, value_name = "IMAGE", conflicts_with = "root")]
    pub image: Option<String>,

    /// Root of the system to look at
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Print kernel arguments, too, which are left to Bowline otherwise
    #[arg(long)]
    pub all: bool,

    /// Directory for what is fetched; it needs as much room as the system
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub scratch: PathBuf,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// What to do with what a file system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplaceArg {
    /// Leave it beside the new system
    Alongside,
    /// Remove it
    Wipe,
}

/// What is installed: options of every way to install.
#[derive(Debug, Args)]
pub struct SystemArgs {
    /// Image to install: host/name:tag, host/name@sha256:…, or any form with a transport such as
    /// oci:PATH:TAG
    #[arg(long, value_name = "IMAGE")]
    pub image: String,

    /// Image that the installed system follows [default: the one that is installed]
    #[arg(long, value_name = "IMAGE")]
    pub target_imgref: Option<String>,

    /// Boot loader to install [default: what the image says, else grub]
    #[arg(long, value_enum, value_name = "LOADER")]
    pub bootloader: Option<LoaderArg>,

    /// Firmware to boot with [default: both, where boot loader and architecture have both]
    #[arg(long, value_enum, value_name = "FIRMWARE")]
    pub firmware: Option<FirmwareArg>,

    /// Further kernel argument; may be given several times
    #[arg(long, value_name = "ARG")]
    pub karg: Vec<String>,

    /// File with the public keys that may log in as root
    #[arg(long, value_name = "FILE")]
    pub root_ssh_authorized_keys: Option<PathBuf>,

    /// Make an image for any machine: boot with BIOS and UEFI, and change nothing in the firmware
    /// of this one
    #[arg(long)]
    pub generic_image: bool,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Types of root file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RootTypeArg {
    /// ext4
    Ext4,
    /// XFS; needs a loop device
    Xfs,
    /// Btrfs
    Btrfs,
}

/// Boot loaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoaderArg {
    /// GRUB with one static configuration
    Grub,
    /// systemd-boot; UEFI only
    SystemdBoot,
    /// Install no boot loader
    None,
}

/// Kinds of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FirmwareArg {
    /// BIOS only
    Bios,
    /// UEFI only
    Uefi,
    /// BIOS and UEFI
    Both,
}

fn size(text: &str) -> Result<Size, HumanError> {
    text.parse()
}
