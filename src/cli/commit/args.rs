//! Arguments of `commit` as users type them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::args::Format;

/// Arguments of `commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CommitCommand,
}

/// What can be done with commits.
#[derive(Debug, Subcommand)]
pub enum CommitCommand {
    /// Show which files and packages differ between two commits
    Diff(DiffArgs),
}

/// Arguments of `commit diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// ostree repository with the commits
    #[arg(long, value_name = "PATH")]
    pub repo: PathBuf,

    /// ostree ref or commit
    #[arg(value_name = "OLD")]
    pub old: String,

    /// ostree ref or commit
    #[arg(value_name = "NEW")]
    pub new: String,

    /// Compare only what is below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub subdir: String,

    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}
