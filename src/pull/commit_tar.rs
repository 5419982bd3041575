//! A commit from a tar stream into a repository. What `tar export` of Bowline or of ostree-ext wrote comes in,
//! of any generation; the commit goes out. Every object is hashed, and the commit counts as partial until all
//! of it is there.

use std::io::BufRead;

use anyhow::{Context, Result};
use thiserror::Error;

use super::run::{complete, is_whole};
use crate::image::LayerKind;
use crate::repo::Repo;
use crate::repo::layer::{PathRules, import};

/// An archive whose commit could not be taken over.
#[derive(Debug, Error)]
#[error("Importing the commit in {name}")]
pub struct ArchiveFailure {
    /// The archive, for people.
    pub name: String,
    /// Why.
    #[source]
    pub source: anyhow::Error,
}

/// Imports a commit, and lets `write_ref` point to it where one is given.
///
/// Interrupted, the repository is as before, or has a commit that is marked as partial; running it again
/// finishes the work.
pub fn import_commit(repo: &Repo, input: impl BufRead, write_ref: Option<&str>) -> Result<String> {
    let staging = repo.staging()?;
    let layer =
        import(&staging, (LayerKind::Base, None), input).context("Reading the tar stream")?;
    let layer = layer.finish(PathRules::default())?;
    let commit = layer.commit;
    if !is_whole(repo, &commit)? {
        let marked = repo.ostree().mark_commit_partial(&commit, true);
        marked.context("Marking the commit as partial")?;
    }
    let published = staging.publish(vec![layer.stage], &[]);
    published.context("Making the objects durable")?;
    complete(repo, &commit)?;
    if let Some(name) = write_ref {
        repo.set_ref(name, &commit)?;
    }
    Ok(commit)
}
