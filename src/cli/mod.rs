//! The command line: arguments come in, an exit code goes out. The only room that parses flags,
//! reads the environment and prints. Never decides anything about images or deployments.

pub mod args;
mod boot;
pub mod commit;
mod completion;
mod config_diff;
pub mod container;
mod context;
mod defect;
pub mod exit;
pub mod image;
pub mod install;
pub mod kargs;
mod man;
pub mod oci;
mod output;
mod progress_fd;
mod progress_tally;
mod rebase;
mod reboot;
mod reference;
mod render_bars;
mod render_etc;
mod render_json;
mod render_lines;
mod render_not_applied;
mod render_plan;
mod render_report;
mod render_report_json;
mod render_status;
mod rollback;
mod status;
pub mod tar;
pub mod text;
mod unattended;
mod upgrade;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
pub use context::{Context, Environment, Passphrase};
pub use exit::{Interrupted, Outcome, UsageError};
pub use output::OutputClosed;

/// Runs the program: parses the arguments of the process, runs the command, reports its error.
pub fn main() -> ExitCode {
    defect::end_at_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return exit::report_usage(&usage),
    };
    match start(&cli) {
        Ok(outcome) => outcome.code(),
        Err(error) => exit::report(&error, cli.command.keeps_layers()),
    }
}

fn start(cli: &Cli) -> anyhow::Result<Outcome> {
    let context = Context::new(cli, Environment::of_process())?;
    context.start_logging();
    run(&cli.command, &context)
}

fn run(command: &Command, context: &Context) -> anyhow::Result<Outcome> {
    match command {
        Command::Container(args) => container::run(args, context),
        Command::Commit(args) => commit::run(args, context),
        Command::Tar(args) => tar::run(args, context),
        Command::Oci(args) => oci::run(args, context),
        Command::Image(args) => image::run(args, context),
        Command::Install(args) => install::run(args, context),
        Command::Rebase(args) => rebase::run(args, context),
        Command::Upgrade(args) => upgrade::run(args, context),
        Command::Rollback(args) => rollback::run(args, context),
        Command::Kargs(args) => kargs::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Boot(args) => boot::run(args, context),
        Command::ConfigDiff(args) => config_diff::run(args, context),
        Command::Completion(args) => completion::run(args, context),
        Command::Man(args) => man::run(args, context),
    }
}
