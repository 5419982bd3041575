//! How a pull ends: what has come is made durable and visible, then the merge commit is written and the
//! image's ref moved. Interrupted anywhere, refs lead to whole layers only.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Pull, complete};
use crate::image::LayerKind;
use crate::progress::{Event, Phase};
use crate::repo::layer::FinishedLayer;
use crate::repo::merge::{DerivedCommit, LayerCommits, merge};
use crate::repo::{ImageRecord, Transfer, refs};

impl Pull {
    /// Makes what has finished durable, then visible, and moves its refs.
    pub(super) async fn publish(&mut self) -> Result<()> {
        let (finished, refs) = (
            std::mem::take(&mut self.finished),
            std::mem::take(&mut self.refs),
        );
        if finished.is_empty() && refs.is_empty() {
            return Ok(());
        }
        let staging = self.staging.clone();
        let commits: Vec<_> = finished.iter().map(|layer| layer.commit.clone()).collect();
        let stages = finished.into_iter().map(|layer| layer.stage).collect();
        let published = spawn_blocking(move || staging.publish(stages, &refs)).await;
        self.published = Instant::now();
        published
            .context("A worker died")?
            .context("Making fetched layers durable")?;
        self.forget_kept();
        // The base is partial until its chunks are here, too.
        let base = self.base();
        let mut others = commits
            .iter()
            .filter(|commit| base.as_ref() != Some(commit));
        others.try_for_each(|commit| complete(&self.repo, commit))
    }

    /// What was kept of blobs is of no use once their layers are here.
    fn forget_kept(&mut self) {
        let done = std::mem::take(&mut self.done);
        let Some(blobs) = &self.blobs else { return };
        if let Err(error) = blobs.forget(&done) {
            tracing::debug!("removing kept bytes: {error}");
        }
    }

    /// Lays the layers over each other, and stores the image.
    pub(super) async fn merge(mut self) -> Result<ImageRecord> {
        self.progress.event(Event::Phase(Phase::Merge));
        let derived = self
            .plan
            .layers
            .iter()
            .filter(|l| l.layer.kind == LayerKind::Derived);
        let derived = derived.map(|l| {
            let commit = self
                .commit(l.layer.index)
                .context("a layer has no commit")?;
            Ok(DerivedCommit {
                digest: l.layer.descriptor.digest,
                diff_id: l.layer.diff_id,
                commit: commit.clone(),
            })
        });
        let layers = LayerCommits {
            base: self.base(),
            derived: derived.collect::<Result<_>>()?,
        };
        let image_ref = refs::of_image(&self.plan.imgref)?;
        let (repo, staging) = (self.repo.reopen()?, self.staging.clone());
        let (manifest, config) = (self.plan.manifest.clone(), self.plan.config.clone());
        let merged = spawn_blocking(move || -> Result<_> {
            let mut stage = staging.layer().context("Making a place for the merge")?;
            let merged = merge(&repo, &mut stage, &layers, &manifest, &config)?;
            Ok((stage, merged))
        });
        let (stage, merged) = merged.await.context("A worker died")??;
        self.progress.event(Event::Phase(Phase::Publish));
        self.refs = merged.moved_refs;
        self.refs.push((image_ref, merged.commit.clone()));
        self.finished.push(FinishedLayer {
            stage,
            commit: merged.commit.clone(),
        });
        self.publish().await?;
        let transfer = self.transfer();
        // The image is there; that nobody can tell what it cost is no reason to fail.
        if let Err(error) = self.repo.set_transfer(&merged.commit, transfer) {
            tracing::warn!("{error:#}");
        }
        tracing::info!(
            "{} bytes of {} were fetched, {} reused",
            transfer.fetched,
            self.plan.imgref,
            transfer.reused
        );
        let image = self.repo.image_of_commit(&merged.commit)?;
        image.context("the image that was just written is not there")
    }

    /// What came and what did not have to.
    fn transfer(&self) -> Transfer {
        let parts = self.plan.layers.iter().zip(&self.whole);
        let parts = parts.filter(|(layer, whole)| layer.commit().is_none() && !**whole);
        let parts = parts.filter_map(|(layer, _)| Some(layer.parts.as_ref()?.reused));
        Transfer {
            fetched: self.fetched.load(Ordering::Relaxed),
            reused: self.plan.bytes_present() + parts.sum::<u64>() + self.resumed,
        }
    }
}
