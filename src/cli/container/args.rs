//! Arguments of `container` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

pub use super::args_sign::{CommitSigningArgs, KeyArgs, SignArgs, SigningArgs};
use crate::cli::args::{FetchArgs, Format};

/// Arguments of `container`.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ContainerCommand,
}

/// What can be done while an image is built or offered.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Check that an image can boot and be updated; the last step of a Containerfile
    Lint(LintArgs),
    /// Make an image of an ostree commit, and print its digest
    Encapsulate(Box<EncapsulateArgs>),
    /// Fetch the ostree commit in an image into a repository, and print its checksum
    #[command(visible_alias = "import")]
    Unencapsulate(UnencapsulateArgs),
    /// Empty /run, /tmp, /var/tmp and /var/cache, which no host sees; for a step of a Containerfile
    Commit(CommitArgs),
    /// Explain step by step what the signature policy, and the ostree remote, say about an image
    Verify(VerifyArgs),
    /// Sign an image with a key pair for sigstore, or with GPG
    Sign(SignArgs),
    /// Make a key pair for `container sign`, which cosign and skopeo take, too
    GenerateSigstoreKey(KeyArgs),
    /// Make an image in layers of a root file system or of another image, and print its digest
    BuildChunked(BuildChunkedArgs),
    /// Show what an image is, without storing it
    #[command(visible_alias = "info")]
    Inspect(InspectArgs),
    /// Show what users of an old image download for a new one, and which packages change
    Compare(CompareArgs),
}

/// Arguments of `container verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Image: host/name:tag, or any form with a transport or with ostree-image-signed: in front
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Signature policy to judge by, instead of the host's
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// ostree repository whose remotes ostree-remote-image: means, instead of the sysroot's
    #[arg(long, value_name = "PATH")]
    pub repo: Option<PathBuf>,

    /// Architecture to take from a multi-platform image [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,

    /// File with registry credentials, instead of the usual places
    #[arg(long, value_name = "PATH")]
    pub authfile: Option<PathBuf>,

    /// How to print what was found
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}

/// Arguments of `container lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    /// Root of the image's file system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub rootfs: PathBuf,

    /// Let warnings fail, too
    #[arg(long)]
    pub fatal_warnings: bool,

    /// Leave out a check, by its name here or with bootc; may be given several times
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,

    /// Tell all findings of a check, however many there are
    #[arg(long)]
    pub no_truncate: bool,

    /// List the checks, and check nothing
    #[arg(long, conflicts_with_all = ["fatal_warnings", "skip", "rootfs", "no_truncate"])]
    pub list: bool,

    /// How to print what was found
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}

/// Arguments of `container encapsulate`.
#[derive(Debug, Args)]
pub struct EncapsulateArgs {
    /// ostree repository with the commit
    #[arg(long, value_name = "PATH")]
    pub repo: PathBuf,

    /// ostree ref or commit
    #[arg(value_name = "REF")]
    pub rev: String,

    /// Where the image goes: registry:host/name:tag, oci:DIRECTORY:TAG, oci-archive:FILE:TAG,
    /// docker-archive:FILE:NAME:TAG or dir:DIRECTORY
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Make an image for flatpak, of the commit of an app or a runtime: one layer with its files
    #[arg(long, conflicts_with_all = ["contentmeta", "max_layers", "previous_build", "format_version", "copymeta", "copymeta_opt", "cmd", "config"])]
    pub flatpak: bool,

    /// JSON file that says which object goes into which layer, instead of a plan by packages
    #[arg(long, value_name = "FILE", conflicts_with_all = ["max_layers", "previous_build"])]
    pub contentmeta: Option<PathBuf>,

    /// File with registry credentials, instead of the usual places
    #[arg(long, value_name = "PATH")]
    pub authfile: Option<PathBuf>,

    /// How the layers are made.
    #[command(flatten)]
    pub layers: LayerArgs,

    /// What the image says.
    #[command(flatten)]
    pub says: SaysArgs,

    /// Who signs the commit.
    #[command(flatten)]
    pub commit_signing: CommitSigningArgs,

    /// Who signs the image.
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// Arguments of `container build-chunked`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["rootfs", "from"]))]
pub struct BuildChunkedArgs {
    /// Root of a file system, with its kernel in usr/lib/modules/VERSION/vmlinuz
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// Image whose file system is used, with its labels
    #[arg(long, value_name = "IMAGE")]
    pub from: Option<String>,

    /// Where the image goes: registry:host/name:tag, oci:DIRECTORY:TAG, oci-archive:FILE:TAG,
    /// docker-archive:FILE:NAME:TAG or dir:DIRECTORY
    #[arg(long, value_name = "IMAGE")]
    pub output: String,

    /// Make an image without a kernel, too, which no host can boot
    #[arg(long)]
    pub allow_unbootable: bool,

    /// How the layers are made.
    #[command(flatten)]
    pub layers: LayerArgs,

    /// Add a label; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub label: Vec<String>,

    /// Architecture of the image, such as amd64 or arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,

    /// File with registry credentials, instead of the usual places
    #[arg(long, value_name = "PATH")]
    pub authfile: Option<PathBuf>,
}

/// Arguments of `container inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Image: host/name:tag, host/name@sha256:…, or any form with a transport such as oci:PATH:TAG
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Arguments of `container compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Image that users have
    #[arg(value_name = "OLD")]
    pub old: String,

    /// Image that they will have
    #[arg(value_name = "NEW")]
    pub new: String,

    /// Fetch no layer: packages are compared by name only, as far as the manifests tell
    #[arg(long)]
    pub manifests_only: bool,

    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// How the layers of a new image are made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Layers")]
pub struct LayerArgs {
    /// How layers are compressed
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub compression: CompressionKind,

    /// Level of compression: 1 to 12 for gzip, 1 to 22 for zstd [default: 5 for gzip, 3 for zstd]
    #[arg(long, value_name = "N")]
    pub compression_level: Option<i32>,

    /// 1: layers hold files only; 2: the directories above them, too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    pub format_version: u32,

    /// Most layers of the image; 1 keeps everything in one
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_layers: u32,

    /// Image of an earlier build: its layers in which nothing changed stay as they are
    #[arg(long, value_name = "IMAGE")]
    pub previous_build: Option<String>,
}

/// What a new image says about itself.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What the image says")]
pub struct SaysArgs {
    /// Add a label; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub label: Vec<String>,

    /// Make a text of the commit's metadata a label; an error where it is missing
    #[arg(long, value_name = "KEY")]
    pub copymeta: Vec<String>,

    /// The same, where it is there
    #[arg(long, value_name = "KEY")]
    pub copymeta_opt: Vec<String>,

    /// What a container runs; several times for its arguments
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub cmd: Vec<String>,

    /// JSON file with the properties of an image config's `config`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Architecture of the image, such as amd64 or arm64 [default: what the commit says, or this
    /// machine's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
}

/// How layers can be compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CompressionKind {
    /// Everybody reads it
    #[default]
    Gzip,
    /// Smaller and faster
    Zstd,
    /// With a table of contents, so that an update fetches only changed files
    #[value(name = "zstd:chunked")]
    ZstdChunked,
    /// Plain tar
    None,
}

/// Arguments of `container unencapsulate`.
#[derive(Debug, Args)]
pub struct UnencapsulateArgs {
    /// ostree repository that gets the commit
    #[arg(long, value_name = "PATH")]
    pub repo: PathBuf,

    /// Image: host/name:tag, host/name@sha256:…, or any form with a transport such as oci:PATH:TAG
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Let this ref point to the commit
    #[arg(long, value_name = "REF")]
    pub write_ref: Option<String>,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Arguments of `container commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Root of the image's file system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub rootfs: PathBuf,
}
