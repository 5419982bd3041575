//! Arguments of `container` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::args::Format;

/// Arguments of `container`.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ContainerCommand,
}

/// What can be done while an image is built.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Check that an image can boot and be updated; the last step of a Containerfile
    Lint(LintArgs),
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

    /// Leave out a check; may be given several times
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,

    /// List the checks, and check nothing
    #[arg(long, conflicts_with_all = ["fatal_warnings", "skip", "rootfs"])]
    pub list: bool,

    /// How to print what was found
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}
