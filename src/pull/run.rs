//! Carries a pull plan out: layers in parallel, finished ones published as it goes, the merge
//! commit and the image's ref last. A plan comes in, the stored image goes out.
//!
//! Interrupted at any instruction, the repository has whole layers only; running the pull again
//! takes those and fetches the rest. The staging directory of the interrupted run is removed then.

mod commit;
mod publish;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::fetch::{Fetch, Fetched};
use super::import::LayerFailure;
use super::plan::{LayerState, PlannedLayer, PullPlan};
use super::stream::Cancel;
use crate::image::{Digest, Layer, LayerKind};
use crate::progress::{Event, Phase, ProgressSink};
use crate::repo::kept::KeptBlobs;
use crate::repo::layer::{FinishedLayer, ImportedLayer, PathRules, path_rules};
use crate::repo::merge::verify_complete;
use crate::repo::staging::Staging;
use crate::repo::{CommitCheck, ImageRecord, ObjectKind, Repo, refs};
use crate::transport::ImageSource;

pub use commit::{run_commit, run_flatpak};

/// Publish when so many bytes wait, or after so long: what an interruption costs.
const PUBLISH_BYTES: u64 = 256 << 20;
const PUBLISH_AFTER: Duration = Duration::from_millis(1000);

/// Pulls an image as planned, `jobs` layers at a time, and gives what is stored then.
pub async fn run(
    repo: &Repo,
    source: Arc<dyn ImageSource>,
    plan: PullPlan,
    jobs: usize,
    progress: Arc<dyn ProgressSink>,
) -> Result<ImageRecord> {
    let context = format!("Pulling {}", plan.imgref);
    let result = Pull::new(repo, source, plan, progress)?
        .run(jobs.max(1))
        .await;
    result.context(context)
}

struct Pull {
    repo: Repo,
    /// Keeps others from pruning, too.
    staging: Arc<Staging>,
    source: Arc<dyn ImageSource>,
    plan: PullPlan,
    progress: Arc<dyn ProgressSink>,
    cancel: Cancel,
    /// What interrupted pulls have fetched; `None` where it cannot be kept.
    blobs: Option<Arc<KeptBlobs>>,
    /// Bytes of layers that have come.
    fetched: Arc<AtomicU64>,
    /// Bytes of layers that an interrupted pull had fetched.
    resumed: u64,
    /// Blobs whose layers are here once they are published.
    done: Vec<Digest>,
    /// Whether each layer's blob came whole, so that its digest has been checked.
    whole: Vec<bool>,
    /// The commit of each layer, once it is known.
    commits: Vec<Option<String>>,
    rules: Option<PathRules>,
    /// Ordinary layers that came before the base's rules were known.
    waiting: Vec<(usize, ImportedLayer)>,
    /// What can be published: layers, and refs to move then.
    finished: Vec<FinishedLayer>,
    refs: Vec<(String, String)>,
    published: Instant,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Pull {
    fn new(
        repo: &Repo,
        source: Arc<dyn ImageSource>,
        mut plan: PullPlan,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Self> {
        let mut staging = repo.staging()?;
        if let Some(remote) = &plan.remote {
            staging = staging.checking(CommitCheck::new(repo, remote)?);
        }
        let staging = Arc::new(staging);
        // Somebody may have pruned between the planning and the lock.
        for layer in &mut plan.layers {
            let commit = layer.commit().map(Digest::from_hex).transpose()?;
            if let Some(commit) = commit {
                if !repo.has(commit, ObjectKind::Commit)? {
                    layer.refetch();
                }
            }
        }
        let commits = plan.layers.iter().map(|l| l.commit().map(str::to_owned));
        let commits = commits.collect();
        Ok(Self {
            refs: Vec::new(),
            staging,
            repo: repo.reopen()?,
            source,
            progress,
            cancel: Cancel::default(),
            fetched: Arc::new(AtomicU64::new(plan.bytes_listed())),
            resumed: 0,
            done: Vec::new(),
            blobs: kept_blobs(repo, &plan),
            whole: vec![false; plan.layers.len()],
            commits,
            rules: None,
            waiting: Vec::new(),
            finished: Vec::new(),
            published: Instant::now(),
            plan,
        })
    }

    async fn run(mut self, jobs: usize) -> Result<ImageRecord> {
        self.fetch_planned(jobs).await?;
        self.merge().await
    }

    /// Fetches, imports and publishes what is missing.
    async fn fetch_planned(&mut self, jobs: usize) -> Result<()> {
        self.progress.event(Event::Planned {
            layers: self.plan.layers.len(),
            layers_to_fetch: self.plan.layers_to_fetch(),
            bytes_to_fetch: self.plan.bytes_to_fetch(),
            bytes_present: self.plan.bytes_present(),
            bytes_reused: self.plan.bytes_reused(),
        });
        let fetched = self.fetch_all(jobs).await;
        // What is whole is kept even if something else failed: the next run needs not fetch it.
        let published = self.publish().await;
        fetched?;
        published
    }

    /// Fetches and imports what is missing.
    async fn fetch_all(&mut self, jobs: usize) -> Result<()> {
        let mut queue = self.queue();
        self.base_ready().await?;
        if !queue.is_empty() {
            self.progress.event(Event::Phase(Phase::Fetch));
        }
        let mut running = JoinSet::new();
        let mut failed: Option<LayerFailure> = None;
        loop {
            while running.len() < jobs && failed.is_none() && !self.waits_for_base(&running) {
                let Some(layer) = queue.pop_front() else {
                    break;
                };
                running.spawn(self.fetch(layer)?);
            }
            let result = match self.publish_due() {
                None => running.join_next().await,
                Some(due) if due <= Instant::now() => {
                    self.publish().await?;
                    continue;
                }
                Some(due) => match timeout_at(due, running.join_next()).await {
                    Ok(result) => result,
                    Err(_) => {
                        self.publish().await?;
                        continue;
                    }
                },
            };
            let Some(result) = result else {
                return failed.map_or(Ok(()), |failure| Err(failure.into()));
            };
            let (index, fetched) = match result.context("A worker died")? {
                Ok(layer) => layer,
                Err(failure) => {
                    // What is in flight is worth keeping: the next run starts from there.
                    if !running.is_empty() && failed.is_none() {
                        let text = format!("{failure} failed; finishing the layers in flight");
                        self.progress.event(Event::Warning(text));
                    }
                    failed.get_or_insert(failure);
                    continue;
                }
            };
            self.whole[index] = fetched.whole;
            self.resumed += fetched.kept;
            self.take(index, fetched.imported).await?;
            self.base_ready().await?;
        }
    }

    /// When finished layers are to be published: soon, so that an interruption costs little, and
    /// at once when they are many.
    fn publish_due(&self) -> Option<Instant> {
        if self.finished.is_empty() {
            return None;
        }
        let waiting: u64 = self.finished.iter().map(|layer| layer.stage.bytes()).sum();
        match waiting {
            PUBLISH_BYTES.. => Some(self.published),
            _ => Some(self.published + PUBLISH_AFTER),
        }
    }

    /// Nothing of an image is written before a remote has vouched for its commit: the layer that has
    /// the commit comes first, alone.
    fn waits_for_base(&self, running: &JoinSet<Result<(usize, Fetched), LayerFailure>>) -> bool {
        self.plan.remote.is_some() && !running.is_empty() && self.base().is_none()
    }

    /// What is missing, in the order of fetching: the largest first, so that no thread is left
    /// alone with it at the end; ordinary layers last, they wait for the base's rules anyway.
    fn queue(&self) -> VecDeque<Layer> {
        let mut missing: Vec<Layer> = self.plan.missing().cloned().collect();
        let first = |layer: &Layer| self.plan.remote.is_some() && layer.kind == LayerKind::Base;
        missing.sort_by_key(|layer| {
            let size = layer.descriptor.size.unwrap_or(u64::MAX);
            let derived = layer.kind == LayerKind::Derived;
            (!first(layer), derived, std::cmp::Reverse(size))
        });
        missing.into()
    }

    /// The future that fetches and imports one layer.
    fn fetch(
        &self,
        layer: Layer,
    ) -> Result<impl Future<Output = Result<(usize, Fetched), LayerFailure>> + use<>> {
        let (index, digest) = (layer.index, layer.descriptor.digest);
        let (total, image) = (self.plan.layers.len(), self.plan.imgref.to_string());
        let parts = match &self.plan.layers[index].parts {
            Some(parts) => Some((parts.clone(), self.repo.reopen()?)),
            None => None,
        };
        let fetch = Fetch {
            source: self.source.clone(),
            staging: self.staging.clone(),
            layer,
            total,
            blobs: self.blobs.clone(),
            cancel: self.cancel.clone(),
            fetched: self.fetched.clone(),
            progress: self.progress.clone(),
        };
        Ok(async move {
            let result = fetch.run(parts).await;
            result
                .map(|fetched| (index, fetched))
                .map_err(|source| LayerFailure {
                    number: index + 1,
                    total,
                    digest,
                    image,
                    source,
                })
        })
    }

    async fn take(&mut self, index: usize, imported: ImportedLayer) -> Result<()> {
        match self.rules {
            None if imported.needs_rules() => self.waiting.push((index, imported)),
            rules => self.finish(index, imported, rules).await?,
        }
        Ok(())
    }

    async fn finish(
        &mut self,
        index: usize,
        imported: ImportedLayer,
        rules: Option<PathRules>,
    ) -> Result<()> {
        let rules = rules.unwrap_or_default();
        let finished = spawn_blocking(move || imported.finish(rules)).await;
        let layer = &self.plan.layers[index].layer;
        let digest = layer.descriptor.digest;
        let finished = finished.context("A worker died")?;
        let finished = finished.with_context(|| format!("Importing layer {digest}"))?;
        if layer.kind == LayerKind::Base && !is_whole(&self.repo, &finished.commit)? {
            // Until its chunks are here, too; libostree's readers know what that means.
            let marked = self
                .repo
                .ostree()
                .mark_commit_partial(&finished.commit, true);
            marked.context("Marking the base commit as partial")?;
        }
        let [by_diff_id, by_blob] = layer_names(layer);
        let mut names = vec![by_diff_id];
        // Unless it came whole nobody has seen that the blob has this content, whatever the image says.
        if self.whole[index] {
            names.push(by_blob);
        }
        let refs = names
            .into_iter()
            .map(|name| (name, finished.commit.clone()));
        self.refs.extend(refs);
        self.commits[index] = Some(finished.commit.clone());
        self.finished.push(finished);
        self.done.push(digest);
        self.progress.event(Event::LayerDone { index });
        Ok(())
    }

    /// Once all layers of the ostree commit are here: checks that it is whole, and finishes the
    /// ordinary layers that waited for it.
    async fn base_ready(&mut self) -> Result<()> {
        if self.rules.is_some() {
            return Ok(());
        }
        let ostree = self
            .plan
            .layers
            .iter()
            .filter(|l| l.layer.kind != LayerKind::Derived);
        if !ostree
            .map(|l| l.layer.index)
            .all(|index| self.commit(index).is_some())
        {
            return Ok(());
        }
        let base = self.base();
        if let Some(base) = &base {
            self.publish().await?;
            let fetched = |l: &PlannedLayer| {
                l.layer.kind != LayerKind::Derived && l.state == LayerState::Fetch
            };
            // A prune that was interrupted leaves commits whose state says nothing.
            match self.plan.layers.iter().any(fetched) {
                true => {
                    verify_complete(&self.repo, base)?;
                    unmark(&self.repo, base)?;
                }
                false => complete(&self.repo, base)?,
            }
        }
        let rules = path_rules(&self.repo, base.as_deref())?;
        self.rules = Some(rules);
        for (index, imported) in std::mem::take(&mut self.waiting) {
            self.finish(index, imported, Some(rules)).await?;
        }
        Ok(())
    }

    fn base(&self) -> Option<String> {
        let first = self.plan.layers.first()?;
        match first.layer.kind {
            LayerKind::Base => self.commit(0).cloned(),
            _ => None,
        }
    }

    /// The commit of a layer, looked up where it repeats an earlier one.
    fn commit(&self, index: usize) -> Option<&String> {
        match self.plan.layers[index].state {
            LayerState::SameAs(first) => self.commits[first].as_ref(),
            _ => self.commits[index].as_ref(),
        }
    }
}

/// The names that a layer's commit can get.
fn layer_names(layer: &Layer) -> [String; 2] {
    let blob = &layer.descriptor.digest;
    [refs::of_diff_id(&layer.diff_id), refs::of_blob(blob)]
}

/// What interrupted pulls have fetched of this one's layers; the rest goes away.
fn kept_blobs(repo: &Repo, plan: &PullPlan) -> Option<Arc<KeptBlobs>> {
    let missing: Vec<Digest> = plan
        .missing()
        .map(|layer| layer.descriptor.digest)
        .collect();
    let blobs = repo.kept_blobs().and_then(|blobs| {
        blobs.keep_only(&missing)?;
        Ok(blobs)
    });
    match blobs {
        Ok(blobs) => Some(Arc::new(blobs)),
        Err(error) => {
            tracing::debug!("an interruption will cost what is on its way: {error}");
            None
        }
    }
}

/// Whether a commit is here with all it refers to, seen with our own eyes.
pub(super) fn is_whole(repo: &Repo, commit: &str) -> Result<bool> {
    Ok(repo.has_complete_commit(commit)? && verify_complete(repo, commit).is_ok())
}

/// Takes the mark off a commit that is partial no more; an error where it still is.
pub(super) fn complete(repo: &Repo, commit: &str) -> Result<()> {
    if repo.has_complete_commit(commit)? {
        return Ok(());
    }
    verify_complete(repo, commit)?;
    unmark(repo, commit)
}

/// Takes the mark, if there is one, off a commit that has been seen to be complete.
fn unmark(repo: &Repo, commit: &str) -> Result<()> {
    let unmarked = repo.ostree().mark_commit_partial(commit, false);
    unmarked.with_context(|| format!("Marking commit {commit} as complete"))
}
