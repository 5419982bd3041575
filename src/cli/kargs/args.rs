//! Arguments of `kargs` as users type them.

use clap::{Args, Subcommand};

use crate::cli::args::Format;

/// Arguments of `kargs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct KargsArgs {
    /// What to do; without it the arguments are listed.
    #[command(subcommand)]
    pub command: Option<KargsCommand>,

    /// How to list.
    #[command(flatten)]
    pub list: KargsListArgs,
}

/// What can be done with kernel arguments.
#[derive(Debug, Subcommand)]
pub enum KargsCommand {
    /// List the arguments of what boots next, and whose they are
    List(KargsListArgs),
    /// Add arguments at the end
    Append(KargsAppendArgs),
    /// Remove arguments
    Delete(KargsDeleteArgs),
    /// Change the values of arguments in their place
    Replace(KargsReplaceArgs),
    /// Change the arguments in a text editor ($VISUAL, $EDITOR or vi)
    Edit(KargsEditArgs),
}

/// Arguments of `kargs list`.
#[derive(Debug, Args)]
pub struct KargsListArgs {
    /// How to print the list
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
}

/// Arguments of `kargs append`.
#[derive(Debug, Args)]
pub struct KargsAppendArgs {
    /// Arguments to add
    #[arg(value_name = "KEY[=VALUE]", required = true)]
    pub kargs: Vec<String>,

    /// Leave out those that are there already
    #[arg(long)]
    pub if_missing: bool,

    /// What to do then.
    #[command(flatten)]
    pub then: ThenArgs,
}

/// Arguments of `kargs delete`.
#[derive(Debug, Args)]
pub struct KargsDeleteArgs {
    /// Arguments to remove; a key alone must have one value only
    #[arg(value_name = "KEY[=VALUE]", required = true)]
    pub kargs: Vec<String>,

    /// Do not mind those that are not there
    #[arg(long)]
    pub if_present: bool,

    /// What to do then.
    #[command(flatten)]
    pub then: ThenArgs,
}

/// Arguments of `kargs replace`.
#[derive(Debug, Args)]
pub struct KargsReplaceArgs {
    /// New values; the old one must be named where a key has several
    #[arg(value_name = "KEY=NEW|KEY=OLD=NEW", required = true)]
    pub kargs: Vec<String>,

    /// What to do then.
    #[command(flatten)]
    pub then: ThenArgs,
}

/// Arguments of `kargs edit`.
#[derive(Debug, Args)]
pub struct KargsEditArgs {
    /// What to do then.
    #[command(flatten)]
    pub then: ThenArgs,
}

/// What happens after a change.
#[derive(Debug, Clone, Copy, Args)]
pub struct ThenArgs {
    /// Reboot with the changed arguments at once
    #[arg(long)]
    pub apply: bool,

    /// Change them even while what runs is still on trial
    #[arg(long)]
    pub force: bool,

    /// Exit with 77 when nothing changed
    #[arg(long)]
    pub unchanged_exit_77: bool,
}
