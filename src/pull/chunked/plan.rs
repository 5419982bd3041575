//! Which layers of a pull are fetched in parts. A plan comes in; for each layer that has a table of
//! contents it is fetched and compared with the repository, and the layers where that spares enough
//! know their parts then. A layer where anything is unexpected stays what it was: fetched whole.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use tokio::task::spawn_blocking;

use super::parts::{Contents, Parts};
use crate::image::{Chunked, Layer, LayerKind};
use crate::progress::{Event, Phase, ProgressSink};
use crate::pull::plan::PullPlan;
use crate::pull::stream::{Failure, split};
use crate::repo::{ContentIndex, Repo};
use crate::sys::confine;
use crate::transport::{Error, ImageSource};

/// Layers that are not worth a second request, bytes.
const MIN_SIZE: u64 = 128 << 10;
/// Tables that are fetched at once.
const AT_ONCE: usize = 4;
/// The share of a layer that must be here for its parts to be worth while: a whole blob's digest can
/// be checked, and another compression of it recognized.
const MIN_SHARE: u64 = 16;

/// Finds out what of the plan's missing layers is here. Fetches tables of contents, writes nothing
/// but the index of local content.
pub async fn plan(
    repo: &Repo,
    source: &dyn ImageSource,
    plan: &mut PullPlan,
    progress: &Arc<dyn ProgressSink>,
) {
    let candidates: Vec<(Layer, Chunked)> = plan.missing().filter_map(candidate).collect();
    // Into an empty repository everything must come anyway.
    if candidates.is_empty() || repo.is_empty().unwrap_or(false) {
        return;
    }
    if let Err(error) = repo.scratch_file() {
        tracing::debug!("layers are fetched whole: no place for scratch files: {error}");
        return;
    }
    progress.event(Event::Phase(Phase::Compare));
    let mut contents = Vec::new();
    let fetched = candidates.into_iter().map(|(layer, chunked)| async move {
        let result = fetch(repo, source, &layer, chunked).await;
        (layer, result)
    });
    let mut fetched = stream::iter(fetched).buffer_unordered(AT_ONCE);
    while let Some((layer, result)) = fetched.next().await {
        match result {
            Ok(found) => {
                plan.layers[layer.index].listed = found.listed();
                contents.push((layer.index, found));
            }
            Err(error) => {
                whole(plan, &layer, &error, progress);
                // It will be the same for the others.
                if matches!(error.downcast_ref(), Some(Error::WholeOnly { .. })) {
                    break;
                }
            }
        }
    }
    drop(fetched);
    if let Err(error) = resolve(repo, plan, contents).await {
        progress.event(Event::Warning(format!("fetching whole layers: {error:#}")));
    }
}

/// Layers that have a table of contents and are worth a look. The commit layer is not: it is
/// small, and nearly all of it changes with every commit.
fn candidate(layer: &Layer) -> Option<(Layer, Chunked)> {
    let large = layer.descriptor.size? >= MIN_SIZE && layer.kind != LayerKind::Base;
    let chunked = Chunked::of(layer).filter(|_| large)?;
    Some((layer.clone(), chunked))
}

/// Says why a layer is fetched whole.
fn whole(plan: &PullPlan, layer: &Layer, error: &anyhow::Error, progress: &Arc<dyn ProgressSink>) {
    let text = format!(
        "layer {} of {} is fetched whole: {error:#}",
        layer.index + 1,
        plan.layers.len()
    );
    tracing::info!("{text}");
    progress.event(Event::Warning(text));
}

async fn fetch(
    repo: &Repo,
    source: &dyn ImageSource,
    layer: &Layer,
    chunked: Chunked,
) -> Result<Contents> {
    let mut spool = repo
        .scratch_file()
        .context("Making a scratch file in the repository")?;
    let bytes = chunked.bytes();
    let wanted = std::slice::from_ref(&bytes);
    let blob = source.ranges(&layer.descriptor, wanted).await?;
    let failure = Failure::default();
    let (mut reader, feed) = split(blob, failure.clone());
    let dir = repo.directory().context("Opening the repository")?;
    let (layer, repo) = (layer.clone(), repo.reopen()?);
    let worker = confine::run(dir, move || {
        let copied = io::copy(&mut reader, &mut spool)?;
        anyhow::ensure!(
            copied == bytes.end - bytes.start,
            "its table of contents is cut off"
        );
        Contents::read(spool, &layer, chunked, &scratch(&repo))
    });
    let (contents, ()) = tokio::join!(worker, feed);
    let transfer = failure.lock().ok().and_then(|mut failure| failure.take());
    match (contents.context("A worker died")?, transfer) {
        (Err(_), Some(error)) => Err(error.into()),
        (contents, _) => contents,
    }
}

fn scratch(repo: &Repo) -> impl Fn() -> io::Result<File> {
    move || repo.scratch_file()
}

/// Looks up the files of all tables in one go, and gives the plan the layers that gain by it.
async fn resolve(repo: &Repo, plan: &mut PullPlan, contents: Vec<(usize, Contents)>) -> Result<()> {
    let repo = repo.reopen()?;
    let resolved = spawn_blocking(move || -> Result<Vec<(usize, Parts)>> {
        let mut sizes = HashSet::new();
        for (_, contents) in &contents {
            contents.sizes(&mut sizes)?;
        }
        let index = match sizes.is_empty() {
            true => ContentIndex::default(),
            false => ContentIndex::for_sizes(&repo, &sizes)?,
        };
        let parts = contents.into_iter().map(|(layer, contents)| {
            Ok((layer, contents.resolve(&repo, &index, &scratch(&repo))?))
        });
        parts.collect()
    });
    for (index, parts) in resolved.await.context("A worker died")?? {
        let layer = &mut plan.layers[index];
        let size = layer.layer.descriptor.size.unwrap_or(0);
        if parts.reused >= size / MIN_SHARE {
            layer.parts = Some(Arc::new(parts));
        }
    }
    Ok(())
}
