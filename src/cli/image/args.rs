//! Arguments of `image` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{FetchArgs, Format};

/// Arguments of `image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Repository to work on, instead of the sysroot's
    #[arg(long, value_name = "PATH", global = true)]
    pub repo: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What can be done with stored images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Fetch an image into the repository, without deploying it
    Pull(ImagePullArgs),
    /// List the images; with -q only their names
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show labels and layers of a stored image
    Inspect(InspectArgs),
    /// Show how a stored image was made, layer by layer
    History(HistoryArgs),
    /// Remove images, and the layers that no other image needs
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Remove layers that no image needs
    Prune(PruneArgs),
    /// Copy an image from one place to another, byte for byte
    Copy(ImageCopyArgs),
    /// Write a stored image to another place, layer by layer as it came
    Reexport(ReexportArgs),
}

/// Arguments of `image reexport`.
#[derive(Debug, Args)]
pub struct ReexportArgs {
    /// Stored image, in any form that `image pull` takes
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Where to write it: host/name:tag, oci:DIRECTORY:TAG, oci-archive:FILE:TAG,
    /// docker-archive:FILE:NAME:TAG or dir:DIRECTORY
    #[arg(value_name = "DESTINATION")]
    pub destination: String,

    /// How to compress the layers [default: as they came]
    #[arg(long, value_enum, value_name = "HOW")]
    pub compression: Option<CompressionArg>,

    /// How to reach the destination.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    /// Not at all
    None,
    /// With gzip, which every reader knows
    Gzip,
    /// With zstd
    Zstd,
}

/// Arguments of `image copy`.
#[derive(Debug, Args)]
pub struct ImageCopyArgs {
    /// Image to copy: host/name:tag, host/name@sha256:…, or any form with a transport
    #[arg(value_name = "SOURCE")]
    pub source: String,

    /// Where to copy it: host/name:tag, oci:DIRECTORY:TAG, oci-archive:FILE:TAG,
    /// docker-archive:FILE:NAME:TAG or dir:DIRECTORY
    #[arg(value_name = "DESTINATION")]
    pub destination: String,

    /// Copy a multi-platform image whole, not only the image for one architecture
    #[arg(long, conflicts_with = "arch")]
    pub all: bool,

    /// File with credentials for the destination, instead of those for the source
    #[arg(long, value_name = "PATH")]
    pub dest_authfile: Option<PathBuf>,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Arguments of `image pull`.
#[derive(Debug, Args)]
pub struct ImagePullArgs {
    /// Image to fetch: host/name:tag, host/name@sha256:…, or any form with a transport such as
    /// oci:PATH:TAG
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Only print what would be done about each layer; fetch manifest, config and tables of contents,
    /// no layer
    #[arg(long)]
    pub plan: bool,

    /// How to print the plan
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        requires = "plan"
    )]
    pub format: Format,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Arguments of `image list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print the list
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}

/// Arguments of `image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Stored image, in any form that `image pull` takes
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// Print the stored manifest or config as it is
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "format")]
    pub raw: Option<Raw>,
}

/// What `image inspect --raw` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Raw {
    /// The manifest
    Manifest,
    /// The image config
    Config,
}

/// Arguments of `image history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Stored image, in any form that `image pull` takes
    #[arg(value_name = "IMAGE")]
    pub image: String,
}

/// Arguments of `image remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Stored images, in any form that `image pull` takes
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,

    /// Remove an image that a deployment uses, too; the deployment stays bootable
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `image prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Remove images that no deployment uses, too
    #[arg(long)]
    pub undeployed: bool,
}
