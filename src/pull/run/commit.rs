//! The ostree commit in an image, and nothing else of it. A plan comes in; the commit and the objects
//! below it are in the repository then. Stores no image.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::task::spawn_blocking;

use super::{Pull, complete, layer_names};
use crate::progress::{Event, Phase, ProgressSink};
use crate::pull::plan::PullPlan;
use crate::pull::unencapsulate::FetchCommit;
use crate::repo::Repo;
use crate::repo::flatpak::FlatpakCommit;
use crate::transport::ImageSource;

/// Fetches the layers of the image's ostree commit, and nothing else, and gives the
/// commit, to which `write_ref` points then. No image is stored, and the layers that came have no names
/// afterwards.
pub async fn run_commit(
    repo: &Repo,
    source: Arc<dyn ImageSource>,
    plan: PullPlan,
    options: &FetchCommit,
    progress: Arc<dyn ProgressSink>,
) -> Result<String> {
    let context = format!("Fetching the commit in {}", plan.imgref);
    let mut pull = Pull::new(repo, source, plan, progress)?;
    let names = pull
        .plan
        .missing()
        .flat_map(layer_names)
        .collect::<Vec<_>>();
    let result = pull.fetch_planned(options.jobs.max(1)).await;
    result.with_context(|| context.clone())?;
    let commit = pull.base().context("the image has no commit")?;
    if let Some(name) = &options.write_ref {
        repo.set_ref(name, &commit)?;
    }
    drop(pull);
    repo.forget_layers(&names).context(context)?;
    Ok(commit)
}

/// Fetches the only layer of a flatpak's image, and gives the commit that it is.
pub async fn run_flatpak(
    repo: &Repo,
    source: Arc<dyn ImageSource>,
    mut plan: PullPlan,
    wanted: FlatpakCommit,
    options: &FetchCommit,
    progress: Arc<dyn ProgressSink>,
) -> Result<String> {
    let context = format!("Fetching the flatpak in {}", plan.imgref);
    let [layer] = &mut plan.layers[..] else {
        bail!(
            "{context}: it has {} layers instead of one",
            plan.layers.len()
        );
    };
    // What is here is the layer as one of an operating system.
    layer.refetch();
    let layer = layer.layer.clone();
    let pull = Pull::new(repo, source, plan, progress)?;
    pull.progress.event(Event::Phase(Phase::Fetch));
    let (_, fetched) = pull.fetch(layer)?.await?;
    let finished = spawn_blocking(move || fetched.imported.finish_flatpak(&wanted)).await;
    let finished = finished
        .context("A worker died")?
        .with_context(|| context.clone())?;
    let commit = finished.commit;
    let staging = pull.staging.clone();
    let published = spawn_blocking(move || staging.publish(vec![finished.stage], &[])).await;
    published
        .context("A worker died")?
        .context("Making the objects durable")?;
    complete(repo, &commit)?;
    if let Some(name) = &options.write_ref {
        repo.set_ref(name, &commit)?;
    }
    Ok(commit)
}
