//! The tree of commands and options as users type them. Text comes in, plain structs go out;
//! what they mean is decided by each command's own file. Never checks anything on disk.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::commit::args::CommitArgs;
use super::container::args::{ContainerArgs, ContainerCommand};
use super::image::args::{ImageArgs, ImageCommand};
use super::install::args::{InstallArgs, InstallCommand};
use super::kargs::args::KargsArgs;
use super::oci::args::{OciArgs, OciCommand};
use super::tar::args::TarArgs;
use crate::image::Digest;

/// Keep an image-based Linux host up to date from a container registry.
#[derive(Debug, Parser)]
#[command(
    name = "bowline",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Root of the system to work on
    #[arg(long, value_name = "PATH", default_value = "/", global = true)]
    pub sysroot: PathBuf,

    /// Stateroot to work on, instead of that of the booted or first deployment
    #[arg(long, value_name = "NAME", global = true)]
    pub stateroot: Option<String>,

    /// Say more on stderr: -v what is done, -vv how, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow an image from now on: pull it, and make it boot next
    #[command(visible_alias = "switch")]
    Rebase(RebaseArgs),
    /// Pull the newest version of the image that the host follows, and make it boot next
    #[command(visible_alias = "update")]
    Upgrade(UpgradeArgs),
    /// Make the previous deployment boot next; a second time undoes it
    Rollback(RollbackArgs),
    /// List or change the kernel arguments of what boots next
    Kargs(KargsArgs),
    /// Show what runs, what boots next, and what is kept
    Status(StatusArgs),
    /// Show local changes to /etc against the image's defaults
    ConfigDiff(ConfigDiffArgs),
    /// Work with images in a repository, without deploying them
    Image(ImageArgs),
    /// Install an image to a disk or a file system
    Install(InstallArgs),
    /// Make images, check them while they are built, or say what their signatures are worth
    Container(ContainerArgs),
    /// Write an ostree commit as a tar archive, and read it back
    Tar(TarArgs),
    /// Work with container images of any kind
    Oci(OciArgs),
    /// Compare ostree commits
    Commit(CommitArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// What the host's units run around a boot
    #[command(hide = true)]
    Boot(BootArgs),
    /// Print the manual page, or write all pages to a directory
    #[command(hide = true)]
    Man(ManArgs),
}

impl Command {
    /// The options about fetching, of a command that fetches.
    pub fn fetch_args(&self) -> Option<&FetchArgs> {
        match self {
            Self::Image(args) => match &args.command {
                ImageCommand::Pull(args) => Some(&args.fetch),
                ImageCommand::Copy(args) => Some(&args.fetch),
                ImageCommand::Reexport(args) => Some(&args.fetch),
                _ => None,
            },
            Self::Install(args) => args.command.fetch_args(),
            Self::Container(args) => match &args.command {
                ContainerCommand::Unencapsulate(args) => Some(&args.fetch),
                ContainerCommand::Inspect(args) => Some(&args.fetch),
                ContainerCommand::Compare(args) => Some(&args.fetch),
                _ => None,
            },
            Self::Oci(args) => match &args.command {
                OciCommand::Unpack(args) => Some(&args.fetch),
            },
            Self::Rebase(args) => Some(&args.fetch),
            Self::Upgrade(args) => Some(&args.fetch),
            Self::Tar(_)
            | Self::Commit(_)
            | Self::Kargs(_)
            | Self::Rollback(_)
            | Self::Status(_)
            | Self::ConfigDiff(_)
            | Self::Completion(_)
            | Self::Boot(_)
            | Self::Man(_) => None,
        }
    }

    /// Whether finished layers are in a repository, or kept beside one, when the command ends early: a
    /// second time it fetches the others only.
    pub fn keeps_layers(&self) -> bool {
        match self {
            Self::Rebase(_) | Self::Upgrade(_) => true,
            Self::Image(args) => matches!(args.command, ImageCommand::Pull(_)),
            Self::Install(args) => matches!(args.command, InstallCommand::ToDisk(_)),
            Self::Container(args) => matches!(args.command, ContainerCommand::Unencapsulate(_)),
            _ => false,
        }
    }
}

/// Arguments of `rebase`.
#[derive(Debug, Args)]
pub struct RebaseArgs {
    /// Image to follow: host/name:tag, host/name@sha256:…, or any form with a transport such as
    /// oci:PATH:TAG
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// What to do with it.
    #[command(flatten)]
    pub mode: ModeArgs,

    /// Remove no deployment and no image
    #[arg(long)]
    pub retain: bool,

    /// Install the image even if it failed its trial on this host before, or while what runs is still
    /// on trial
    #[arg(long)]
    pub force: bool,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Arguments of `upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// What to do with the image.
    #[command(flatten)]
    pub mode: ModeArgs,

    /// Exit with 77 when there is nothing to do
    #[arg(long, conflicts_with = "unattended")]
    pub unchanged_exit_77: bool,

    /// Install the image even if it failed its trial on this host before, or while what runs is still
    /// on trial
    #[arg(long, conflicts_with = "unattended")]
    pub force: bool,

    /// Do what the settings in /etc/bowline say, if the network and the power supply allow it;
    /// exit with 75 if not. This is what bowline-upgrade.timer runs
    #[arg(long, conflicts_with_all = ["check", "plan", "download_only", "apply", "format", "allow_downgrade"])]
    pub unattended: bool,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// How far `rebase` and `upgrade` go.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ModeArgs {
    /// Only print what would change, and remember it for `bowline status`; fetch manifest, config and
    /// tables of contents, no layer
    #[arg(long, conflicts_with_all = ["download_only", "apply"])]
    pub check: bool,

    /// The same, with what would be done about each layer
    #[arg(long, conflicts_with_all = ["download_only", "apply"])]
    pub plan: bool,

    /// Fetch the image into the repository, but do not deploy it
    #[arg(long, conflicts_with = "apply")]
    pub download_only: bool,

    /// Reboot into the new deployment once it is ready
    #[arg(long)]
    pub apply: bool,

    /// Install the image even if it is older than what runs: by its date or its version, and from the
    /// same repository
    #[arg(long)]
    pub allow_downgrade: bool,

    /// How to print what came of it
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        conflicts_with = "apply"
    )]
    pub format: Format,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Reboot into the other deployment at once
    #[arg(long)]
    pub apply: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print the status
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// Arguments of `config-diff`.
#[derive(Debug, Args)]
pub struct ConfigDiffArgs {
    /// How to print the changes
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// Print one line per path with how many lines came and went, for people; JSON and YAML have
    /// the numbers, too
    #[arg(long, conflicts_with_all = ["format", "name_only"])]
    pub stat: bool,

    /// Print only the paths
    #[arg(long, conflicts_with = "format")]
    pub name_only: bool,

    /// Show the content of files that not everybody may read, too
    #[arg(long)]
    pub show_private: bool,

    /// Exit with 77 when there are no local changes
    #[arg(long)]
    pub unchanged_exit_77: bool,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; may change at any time
    #[default]
    Human,
    /// YAML, stable
    Yaml,
    /// JSON, stable
    Json,
}

/// How an image is fetched: options of every command that pulls.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fetching")]
pub struct FetchArgs {
    /// Architecture to take from a multi-platform image, such as amd64 or arm64 [default: this
    /// machine's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,

    /// Take no other image than the one with this digest (sha256:…): that of its manifest, or of the
    /// index that it is chosen from
    #[arg(long, value_name = "DIGEST")]
    pub require_digest: Option<Digest>,

    /// File with registry credentials, instead of the usual places
    #[arg(long, value_name = "PATH")]
    pub authfile: Option<PathBuf>,

    /// Layers to fetch at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = small_number(1, 64))]
    pub jobs: u32,

    /// Times to try again after a temporary failure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = small_number(0, 100))]
    pub retry: u32,

    /// Seconds without a byte after which a transfer counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = small_number(1, 3600))]
    pub timeout: u32,

    /// Bytes per second that are fetched at most, all layers together; K, M and G stand for 1024,
    /// 1024² and 1024³ [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub limit_rate: Option<NonZeroU64>,

    /// Write progress as JSON lines to this open file descriptor (3 or higher)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    pub progress_fd: Option<i32>,
}

/// A number of bytes such as `500K`.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let unit = text.chars().last().map(|c| c.to_ascii_uppercase());
    let shift = match unit {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        _ => 0,
    };
    let digits = &text[..text.len() - usize::from(shift > 0)];
    let digits = Some(digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "write a number of bytes above 0, such as 500000, 500K or 2M".into())
}

fn small_number(min: i64, max: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(min..=max)
}

/// Arguments of `boot`.
#[derive(Debug, Args)]
pub struct BootArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BootCommand,
}

/// What happens around a boot.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum BootCommand {
    /// Put the staged deployment on trial, before it is finished at shutdown
    ///
    /// Records which image it is and lets the bootloader count its boots. Where that is not
    /// possible, the staged deployment is held back and the host keeps what it has. Run by
    /// bowline-finalize.service.
    Finalize,
    /// Bring the bootloader up to date with the boot entries
    ///
    /// With systemd-boot, copies kernels and entries to the EFI system partition; what is on trial
    /// has its boots counted, nothing else has. Run by bowline-mirror.service, and by hand after
    /// `ostree admin` changed what boots.
    Mirror,
    /// Check the health of this boot, and decide what follows
    ///
    /// Runs the built-in checks and those in check.d. On trial and red, it asks for a reboot while
    /// tries or a fallback are left; otherwise it only reports. Exit code 9 when a required check
    /// is red. Run by bowline-boot-check.service.
    Check,
    /// Mark this boot as good
    ///
    /// Ends the trial of the deployment that runs, and runs the hooks in on-good.d. Run by
    /// bowline-boot-ok.service once boot-complete.target is reached.
    Ok,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Existing directory that gets one file per command
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
