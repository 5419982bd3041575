//! What an ostree remote says about the commit inside an image, without a pull: an accepted image and the
//! remote's repository come in, every step and the verdict go out. Fetches the config and the layer that
//! begins with the commit, and keeps neither.

use std::io::BufReader;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::accept::{Accepted, signed_by};
use super::fetch::is_wrong;
use super::import::{LayerFailure, read_checked};
use super::plan::PullPlan;
use super::stream::{Cancel, Failure, Watched, split};
use crate::image::{Layer, LayerKind};
use crate::progress::{Event, Phase, ProgressSink};
use crate::repo::{BaseCommit, Inventory, Repo};
use crate::sys::confine;
use crate::transport::{ImageSource, fetch_config};
use crate::trust::{Denied, Reason, Step, VerifiedBy};

/// What was found out about the commit inside.
#[derive(Debug)]
pub struct CommitJudgement {
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// Who signed the commit, or why a pull would be refused.
    pub verdict: Result<Vec<VerifiedBy>, Denied>,
}

/// Verifies the commit inside an image whose reference names a remote, as a pull would, and `None` where
/// it names none. An error is one of fetching: it says nothing about the image.
pub async fn judge_commit(
    repo: &Repo,
    source: &dyn ImageSource,
    accepted: &Accepted,
    progress: &Arc<dyn ProgressSink>,
) -> Result<Option<CommitJudgement>> {
    let Some(remote) = accepted.remote() else {
        return Ok(None);
    };
    let judge = Judge {
        repo,
        source,
        accepted,
        remote,
        progress,
    };
    let mut steps = Vec::new();
    let verdict = match judge.run(&mut steps).await {
        Ok(by) => Ok(by),
        Err(error) => Err(error.downcast::<Denied>()?),
    };
    if let Err(denied) = &verdict {
        steps.push(step(1, Some(false), denied.reason.to_string()));
    }
    Ok(Some(CommitJudgement { steps, verdict }))
}

struct Judge<'a> {
    repo: &'a Repo,
    source: &'a dyn ImageSource,
    accepted: &'a Accepted,
    remote: &'a str,
    progress: &'a Arc<dyn ProgressSink>,
}

impl Judge<'_> {
    async fn run(&self, steps: &mut Vec<Step>) -> Result<Vec<VerifiedBy>> {
        let remote = self.remote;
        steps.push(step(
            0,
            None,
            format!("the ostree commit inside, by remote {remote:?}"),
        ));
        let asked = self.repo.signatures_asked(remote).map_err(|problem| {
            let problem = format!("remote {remote:?} vouches for nothing: {problem}");
            self.accepted.denied(Reason::CommitUnsigned { problem })
        })?;
        let asked = format!("the remote asks for signatures: {}", asked.join(", "));
        steps.push(step(1, None, asked));
        let plan = self.plan().await?;
        self.accepted.check_plan(self.repo, &plan)?;
        steps.push(self.on_top(&plan));
        let (first, total) = (&plan.layers[0].layer, plan.layers.len());
        let found = self.fetch(first, total).await?;
        let (digest, commit) = (first.descriptor.digest, found.commit.hex());
        let text = format!("layer 1 of {total} ({digest}) begins with commit {commit}");
        steps.push(step(1, Some(true), text));
        let signers = self.repo.verify_base(&found, remote);
        let signers = signers.map_err(|unsigned| {
            let problem = unsigned.to_string();
            self.accepted.denied(Reason::CommitUnsigned { problem })
        })?;
        let by = signed_by(signers, &commit, remote);
        steps.extend(
            by.iter()
                .map(|by| step(1, Some(true), format!("signed by {} {}", by.kind, by.key))),
        );
        let text = "a pull checks everything below the commit by the checksums in it";
        steps.push(step(1, None, text.into()));
        Ok(by)
    }

    async fn plan(&self) -> Result<PullPlan> {
        let (imgref, manifest) = (self.accepted.imgref(), self.accepted.manifest().clone());
        let config = fetch_config(self.source, &manifest).await;
        let config = config.with_context(|| format!("Fetching the config of {imgref}"))?;
        let nothing = Inventory::default();
        let plan = PullPlan::new(imgref.clone(), manifest, config, &nothing);
        plan.with_context(|| format!("Reading the layers of {imgref}"))
    }

    /// What vouches for layers that the commit's signature does not cover.
    fn on_top(&self, plan: &PullPlan) -> Step {
        let layers = plan.layers.iter().map(|layer| layer.layer.kind);
        let count = layers.filter(|kind| *kind == LayerKind::Derived).count();
        match (count, self.accepted.verdict.signatures()) {
            (0, _) => step(1, Some(true), "no layers on top of the commit".into()),
            (_, []) => {
                let why = "which trust.unsigned-layers-on-signed-base lets run";
                let text = format!("nobody signed the {count} layers on top of it, {why}");
                step(1, None, text)
            }
            _ => {
                let text = format!("the image's own signature covers the {count} layers on top");
                step(1, Some(true), text)
            }
        }
    }

    /// The beginning of a layer, all of which has come and is what the manifest promises.
    async fn fetch(&self, layer: &Layer, total: usize) -> Result<BaseCommit> {
        let size = layer.descriptor.size;
        self.progress.event(Event::Planned {
            layers: 1,
            layers_to_fetch: 1,
            bytes_to_fetch: size.unwrap_or(0),
            bytes_present: 0,
            bytes_reused: 0,
        });
        self.progress.event(Event::Phase(Phase::Fetch));
        let digest = layer.descriptor.digest;
        loop {
            self.progress.event(Event::LayerStarted {
                index: layer.index,
                digest,
                size,
            });
            let error = match self.read(layer).await {
                Ok(found) => {
                    self.progress.event(Event::LayerDone { index: layer.index });
                    return Ok(found);
                }
                Err(error) => error,
            };
            if !is_wrong(&error) || !self.source.discredit(&digest) {
                let failure = LayerFailure {
                    number: layer.index + 1,
                    total,
                    digest,
                    image: self.accepted.imgref().to_string(),
                    source: error,
                };
                return Err(failure.into());
            }
            tracing::info!("fetching layer {digest} from elsewhere: {error:#}");
        }
    }

    /// Reads it on a thread that sees no file.
    async fn read(&self, layer: &Layer) -> Result<BaseCommit> {
        let blob = self.source.blob(&layer.descriptor).await?;
        let failure = Failure::default();
        let (reader, feed) = split(blob, failure.clone());
        let (layer, progress) = (layer.clone(), self.progress.clone());
        let reader = Watched::new(reader, layer.index, Cancel::default(), progress);
        let worker = confine::run(None, move || {
            read_checked(&layer, reader, |tar| {
                Ok(BaseCommit::read(BufReader::new(tar))?)
            })
        });
        let (found, ()) = tokio::join!(worker, feed);
        let transfer = failure.lock().ok().and_then(|mut failure| failure.take());
        match (found.context("A worker died")?, transfer) {
            (Err(_), Some(error)) => Err(error.into()),
            (found, _) => found,
        }
    }
}

const fn step(depth: usize, holds: Option<bool>, text: String) -> Step {
    Step { depth, holds, text }
}
