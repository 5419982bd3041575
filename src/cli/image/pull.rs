//! `image pull`: fetches an image into a repository and prints what it became, or only what would be
//! done. Never deploys anything.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::args::ImagePullArgs;
use super::show;
use crate::cli::args::Format;
use crate::cli::{Context, reference, render_plan};
use crate::image::{Manifest, OstreeImageReference};
use crate::progress::{Event, Phase, ProgressSink};
use crate::pull::{self, Accepted, Prepared, PullOptions};
use crate::repo::Repo;
use crate::transport::{self, ImageSource};

/// Pulls, and prints digest and commit; or prints what a pull would do.
pub fn run(args: &ImagePullArgs, path: &Path, context: &Context) -> Result<()> {
    let image = reference::parse(&args.image)?;
    let repo = super::open(path)?;
    let progress = context.progress(&image.imgref.to_string())?;
    let pull = Pull {
        repo,
        image,
        args,
        context,
        progress: progress.clone(),
    };
    let result = context.block_on(pull.run());
    progress.event(Event::Finished);
    let text = result.with_context(|| format!("Pulling {}", pull.image.imgref))?;
    context.print(&text)
}

struct Pull<'a> {
    repo: Repo,
    image: OstreeImageReference,
    args: &'a ImagePullArgs,
    context: &'a Context,
    progress: Arc<dyn ProgressSink>,
}

impl Pull<'_> {
    async fn run(&self) -> Result<String> {
        let (source, accepted, prepared) = self.prepare().await?;
        if self.args.plan {
            return self.plan(&prepared);
        }
        let record = match prepared {
            Prepared::Unchanged(record) => {
                self.progress.event(nothing_to_fetch(&record.manifest));
                *record
            }
            Prepared::Ready(plan) => {
                let jobs = usize::try_from(self.args.fetch.jobs)?;
                pull::run(&self.repo, source, *plan, jobs, self.progress.clone()).await?
            }
        };
        accepted.note(&self.repo, &record)?;
        Ok(format!(
            "Image   {}\nDigest  {}\nCommit  {}\n",
            self.image.imgref, record.manifest_digest, record.commit
        ))
    }

    /// Finds out what there is to do. Fetches manifest, config and tables of contents.
    async fn prepare(&self) -> Result<(Arc<dyn ImageSource>, Accepted, Prepared)> {
        self.progress.event(Event::Phase(Phase::Resolve));
        let (imgref, fetch) = (&self.image.imgref, &self.args.fetch);
        let options = self.context.source_options(fetch, self.progress.clone());
        let source: Arc<dyn ImageSource> = transport::open(imgref, &options).await?.into();
        let options = PullOptions {
            arch: self.context.arch(fetch),
            require_bootable: false,
        };
        let rules = self.context.trust_rules()?;
        let accepted = pull::accept(&*source, &self.image, &options.arch, &rules).await?;
        let mut prepared = pull::prepare(&self.repo, &*source, &accepted, &options).await?;
        if let Prepared::Ready(plan) = &mut prepared {
            pull::compare(&self.repo, &*source, plan, &self.progress).await?;
        }
        Ok((source, accepted, prepared))
    }

    /// What would be done about each layer.
    fn plan(&self, prepared: &Prepared) -> Result<String> {
        let (digest, steps) = match prepared {
            Prepared::Unchanged(record) => (record.manifest_digest, pull::steps_of_stored(record)),
            Prepared::Ready(plan) => (plan.manifest.digest(), plan.steps()),
        };
        let imgref = &self.image.imgref;
        if self.args.format == Format::Human {
            let table = render_plan::human(&steps);
            return Ok(format!("Image   {imgref}\nDigest  {digest}\n{table}"));
        }
        let value = json!({
            "image": imgref.to_string(),
            "imageDigest": digest.to_string(),
            "layers": render_plan::values(&steps),
        });
        show::serialized(&value, self.args.format)
    }
}

fn nothing_to_fetch(manifest: &Manifest) -> Event {
    Event::Planned {
        layers: manifest.layers.len(),
        layers_to_fetch: 0,
        bytes_to_fetch: 0,
        bytes_present: manifest.layers.iter().filter_map(|layer| layer.size).sum(),
        bytes_reused: 0,
    }
}
