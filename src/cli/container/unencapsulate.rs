//! `container unencapsulate`: the ostree commit in an image, into a repository. Arguments come in, the
//! commit's checksum is printed. Stores no image.

use anyhow::Result;

use super::args::UnencapsulateArgs;
use crate::cli::{Context, Outcome, image, reference};
use crate::image::Manifest;
use crate::progress::Event;
use crate::pull::{FetchCommit, fetch_commit};
use crate::transport;
use crate::trust;

/// Fetches the commit.
pub fn run(args: &UnencapsulateArgs, context: &Context) -> Result<Outcome> {
    let image = reference::parse(&args.image)?;
    let repo = image::open(&args.repo)?;
    let progress = context.progress(&image.imgref.to_string())?;
    let options = FetchCommit {
        arch: context.arch(&args.fetch),
        jobs: usize::try_from(args.fetch.jobs)?,
        write_ref: args.write_ref.clone(),
    };
    let work = async {
        let source = context.source_options(&args.fetch, progress.clone());
        let source = transport::open(&image.imgref, &source).await?;
        let accept = |manifest: &Manifest| {
            let verdict = trust::check(&image, manifest, &context.policy_paths())?;
            tracing::info!("{} is accepted unverified: {verdict}", image.imgref);
            Ok(())
        };
        let imgref = &image.imgref;
        fetch_commit(
            &repo,
            source.into(),
            imgref,
            &options,
            accept,
            progress.clone(),
        )
        .await
    };
    let result = context.block_on(work);
    progress.event(Event::Finished);
    context.print(&format!("{}\n", result?.commit))?;
    Ok(Outcome::Done)
}
