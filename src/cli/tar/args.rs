//! Arguments of `tar` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `tar`.
#[derive(Debug, Args)]
pub struct TarArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TarCommand,
}

/// What can be done with commits in archives.
#[derive(Debug, Subcommand)]
pub enum TarCommand {
    /// Write a commit to stdout, with its signatures and everything that belongs to it
    Export(ExportArgs),
    /// Read a commit that was exported, and print its checksum
    Import(ImportArgs),
}

/// Arguments of `tar export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// ostree repository with the commit
    #[arg(long, value_name = "PATH")]
    pub repo: PathBuf,

    /// ostree ref or commit
    #[arg(value_name = "REF")]
    pub rev: String,
}

/// Arguments of `tar import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// ostree repository that gets the commit
    #[arg(long, value_name = "PATH")]
    pub repo: PathBuf,

    /// The archive, not compressed [default: stdin]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Let this ref point to the commit
    #[arg(long, value_name = "REF")]
    pub write_ref: Option<String>,
}
