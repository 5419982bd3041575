//! `container unencapsulate`: the ostree commit in an image, into a repository. Arguments come in, the
//! commit's checksum is printed. Stores no image.

use anyhow::Result;

use super::args::UnencapsulateArgs;
use crate::cli::{Context, Outcome, image, reference};
use crate::progress::Event;
use crate::pull::{self, FetchCommit, fetch_commit};
use crate::transport;

/// Fetches the commit.
pub fn run(args: &UnencapsulateArgs, context: &Context) -> Result<Outcome> {
    let image = reference::parse(&args.image)?;
    reference::check_ref_name(args.write_ref.as_deref())?;
    let repo = image::open(&args.repo)?;
    let progress = context.progress(&image.imgref.to_string())?;
    let options = FetchCommit {
        jobs: usize::try_from(args.fetch.jobs)?,
        write_ref: args.write_ref.clone(),
    };
    let work = async {
        let source = context.source_options(&args.fetch, progress.clone());
        let source = transport::open(&image.imgref, &source).await?;
        let (arch, rules) = (context.arch(&args.fetch), context.trust_rules()?);
        let accepted = pull::accept(&*source, &image, &arch, &rules).await?;
        fetch_commit(&repo, source.into(), &accepted, &options, progress.clone()).await
    };
    let result = context.block_on(work);
    progress.event(Event::Finished);
    context.print(&format!("{}\n", result?.commit))?;
    Ok(Outcome::Done)
}
