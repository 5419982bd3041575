//! `image pull`: fetches an image into a repository and prints what it became. Never deploys
//! anything.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::cli::args::ImagePullArgs;
use crate::cli::{Context, reference};
use crate::image::{Manifest, OstreeImageReference};
use crate::progress::{Event, Phase, ProgressSink};
use crate::pull::{self, Prepared, PullOptions};
use crate::repo::{ImageRecord, Repo};
use crate::{transport, trust};

/// Pulls, and prints digest and commit.
pub fn run(args: &ImagePullArgs, path: &Path, context: &Context) -> Result<()> {
    let image = reference::parse(&args.image)?;
    let repo = super::open(path)?;
    let progress = context.progress(&image.imgref.to_string())?;
    let work = fetch(&repo, &image, args, context, progress.clone());
    let result = context.block_on(work);
    progress.event(Event::Finished);
    let record = result.with_context(|| format!("Pulling {}", image.imgref))?;
    context.print(&format!(
        "Image   {}\nDigest  {}\nCommit  {}\n",
        image.imgref, record.manifest_digest, record.commit
    ))
}

async fn fetch(
    repo: &Repo,
    image: &OstreeImageReference,
    args: &ImagePullArgs,
    context: &Context,
    progress: Arc<dyn ProgressSink>,
) -> Result<ImageRecord> {
    progress.event(Event::Phase(Phase::Resolve));
    let options = context.source_options(&args.fetch, progress.clone());
    let source: Arc<dyn transport::ImageSource> =
        transport::open(&image.imgref, &options).await?.into();
    let options = PullOptions {
        arch: context.arch(&args.fetch),
        require_bootable: false,
    };
    let accept = |manifest: &Manifest| -> Result<(), trust::Denied> {
        let verdict = trust::check(image, manifest, &context.policy_paths())?;
        tracing::info!("{} is accepted unverified: {verdict}", image.imgref);
        Ok(())
    };
    match pull::prepare(repo, &*source, &image.imgref, &options).await? {
        Prepared::Unchanged(record) => {
            accept(&record.manifest)?;
            progress.event(nothing_to_fetch(&record.manifest));
            Ok(*record)
        }
        Prepared::Ready(mut plan) => {
            accept(&plan.manifest)?;
            pull::compare(repo, &*source, &mut plan, &progress).await?;
            let jobs = usize::try_from(args.fetch.jobs)?;
            pull::run(repo, source, *plan, jobs, progress).await
        }
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
