//! `tar`: ostree commits to archives and back. Arguments come in; an archive goes to stdout, or a commit into
//! a repository. Decides nothing about either.

pub mod args;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};

use anyhow::{Context as _, Result};

use self::args::{ExportArgs, ImportArgs, TarArgs, TarCommand};
use super::output::StdoutWriter;
use super::{Context, Outcome, UsageError, image, reference};
use crate::build::tar_export;
use crate::pull::{ArchiveFailure, import_commit};

/// Bytes of an archive that are read at once.
const READ_BUFFER: usize = 128 << 10;

/// Runs what was asked for.
pub fn run(args: &TarArgs, context: &Context) -> Result<Outcome> {
    match &args.command {
        TarCommand::Export(args) => export(args)?,
        TarCommand::Import(args) => import(args, context)?,
    }
    Ok(Outcome::Done)
}

fn export(args: &ExportArgs) -> Result<()> {
    let repo = image::open(&args.repo)?;
    let commit = repo.commit_facts(repo.commit_of(&args.rev)?)?;
    if io::stdout().is_terminal() {
        let error = UsageError::new("an archive is nothing for a terminal");
        return Err(error
            .hint("write it to a file: `bowline tar export … > FILE`")
            .into());
    }
    let mut out = StdoutWriter::new();
    let result = tar_export::export(&repo, &commit, &mut out).map(drop);
    out.finish(result)
}

fn import(args: &ImportArgs, context: &Context) -> Result<()> {
    reference::check_ref_name(args.write_ref.as_deref())?;
    let repo = image::open(&args.repo)?;
    let input: Box<dyn BufRead> = match &args.file {
        None => Box::new(BufReader::with_capacity(READ_BUFFER, io::stdin().lock())),
        Some(path) => {
            let file = File::open(path);
            let file = file.with_context(|| format!("Opening {}", path.display()))?;
            Box::new(BufReader::with_capacity(READ_BUFFER, file))
        }
    };
    let commit = import_commit(&repo, input, args.write_ref.as_deref());
    let path = args.file.as_ref();
    let name = || path.map_or("stdin".into(), |path| path.display().to_string());
    let commit = commit.map_err(|source| ArchiveFailure {
        name: name(),
        source,
    })?;
    context.print(&format!("{commit}\n"))
}
