//! `image …`: images in the sysroot's repository, or any other. Arguments come in, reports go
//! out on stdout. Never deploys anything.

pub mod args;
mod copy;
mod pull;
mod reexport;
mod remove;
pub(in crate::cli) mod report;
pub(in crate::cli) mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use thiserror::Error;

use self::args::{ImageArgs, ImageCommand};
use super::{Context, Outcome, UsageError, reference};
use crate::image::{ImageReference, OstreeImageReference};
use crate::repo::{ImageRecord, Repo};
pub use remove::InUse;

/// The image is not in the repository.
#[derive(Debug, Error)]
#[error("{0} is not stored here")]
pub struct NotStored(pub ImageReference);

/// Runs one of the `image` commands.
pub fn run(args: &ImageArgs, context: &Context) -> Result<Outcome> {
    let place = Place::new(args, context);
    match &args.command {
        ImageCommand::Copy(args) => copy::run(args, context)?,
        ImageCommand::Reexport(args) => reexport::run(args, &place.repo, context)?,
        ImageCommand::Pull(args) => pull::run(args, &place.repo, context)?,
        ImageCommand::List(args) => show::list(args, &place.repo, context)?,
        ImageCommand::Inspect(args) => show::inspect(args, &place.repo, context)?,
        ImageCommand::Remove(args) => remove::remove(args, &place, context)?,
        ImageCommand::Prune(args) => remove::prune(args, &place, context)?,
        ImageCommand::History(args) => show::history(args, &place.repo, context)?,
    }
    Ok(Outcome::Done)
}

/// A repository, and the sysroot that it belongs to.
struct Place {
    repo: PathBuf,
    sysroot: Option<PathBuf>,
}

impl Place {
    /// What the user means: the sysroot's repository, or that of `--repo`, which may well be the
    /// repository of a sysroot too.
    fn new(args: &ImageArgs, context: &Context) -> Self {
        match &args.repo {
            None => Self {
                repo: context.sysroot.join("ostree/repo"),
                sysroot: Some(context.sysroot.clone()),
            },
            Some(repo) => Self {
                sysroot: sysroot_of(repo),
                repo: repo.clone(),
            },
        }
    }
}

fn sysroot_of(repo: &Path) -> Option<PathBuf> {
    // Opening the repository says what is wrong with a path that cannot be resolved.
    let repo = repo.canonicalize().ok()?;
    let ostree = repo.parent().filter(|dir| dir.join("deploy").is_dir())?;
    ostree.parent().map(Path::to_path_buf)
}

/// Opens a repository that the user names.
pub(super) fn open(path: &Path) -> Result<Repo> {
    let config = path.join("config");
    let exists = config.try_exists();
    if !exists.with_context(|| format!("Opening {}", config.display()))? {
        let message = format!("{} is not an ostree repository", path.display());
        let hint = "name a repository with --repo, or a sysroot with --sysroot";
        return Err(UsageError::new(message).hint(hint).into());
    }
    Repo::open(path)
}

/// The stored image that the user means. Other programs may have stored a relative path, so that
/// the text as typed comes first.
fn find(repo: &Repo, image: &str) -> Result<(ImageReference, ImageRecord)> {
    let typed = OstreeImageReference::from_user(image)?.imgref;
    let absolute = reference::parse(image)?.imgref;
    for imgref in [typed, absolute.clone()] {
        if let Some(record) = repo.image(&imgref)? {
            return Ok((imgref, record));
        }
    }
    Err(NotStored(absolute).into())
}
