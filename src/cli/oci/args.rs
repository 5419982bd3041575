//! Arguments of `oci` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::args::FetchArgs;

/// Arguments of `oci`.
#[derive(Debug, Args)]
pub struct OciArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: OciCommand,
}

/// What can be done with any container image.
#[derive(Debug, Subcommand)]
pub enum OciCommand {
    /// Unpack an image to a plain directory
    Unpack(UnpackArgs),
}

/// Arguments of `oci unpack`.
#[derive(Debug, Args)]
pub struct UnpackArgs {
    /// Image to unpack, in any form that `image pull` takes; or https://…/image.tar, an archive that
    /// holds one image
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Directory to unpack to; it must be empty, or not be there. Something may be mounted on it
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// sha256 of the archive behind a URL: 64 hex digits
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,

    /// Digest that the image's manifest, or the index it is chosen from, must have
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<String>,

    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}
