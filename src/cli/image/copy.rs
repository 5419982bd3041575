//! `image copy`: an image from one place to another, byte for byte. Arguments come in; name and digest
//! are printed. Touches no repository.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::args::ImageCopyArgs;
use crate::cli::{Context, reference};
use crate::image::{ImageReference, RegistryName, Transport};
use crate::progress::{Event, Phase, ProgressSink};
use crate::pull;
use crate::transport::push::{CopyPlan, Destination, PushOptions, Selection, copy};
use crate::transport::{self, ImageSource, Resolved};

/// Copies, and prints what stands where now.
pub fn run(args: &ImageCopyArgs, context: &Context) -> Result<()> {
    let from = reference::parse(&args.source)?;
    let to = reference::parse(&args.destination)?.imgref;
    let progress = context.progress(&from.imgref.to_string())?;
    let work = async {
        let options = context.source_options(&args.fetch, progress.clone());
        let source: Arc<dyn ImageSource> = transport::open(&from.imgref, &options).await?.into();
        progress.event(Event::Phase(Phase::Resolve));
        let selection = match args.all {
            true => Selection::All,
            false => Selection::Arch(context.arch(&args.fetch)),
        };
        let rules = context.trust_rules()?;
        let plan = CopyPlan::new(&*source, &selection).await?;
        for manifest in plan.manifests.iter().filter_map(|m| m.image.as_ref()) {
            let resolved = Resolved {
                manifest: manifest.clone(),
                index: plan.digest(),
            };
            pull::accept_copy(&*source, &from, resolved, &rules).await?;
            if args.fetch.arch.is_some() {
                let (image, arch) = (from.imgref.to_string(), context.arch(&args.fetch));
                pull::insist_on_arch(&*source, manifest, &image, &arch).await?;
            }
        }
        let options = push_options(args, &from.imgref, context, progress.clone());
        let destination = Destination::open(&to, &options).await?;
        progress.event(Event::Phase(Phase::Fetch));
        let jobs = usize::try_from(args.fetch.jobs)?;
        copy::carry_out(&plan, &source, &destination, jobs, &progress).await?;
        let digest = plan.digest().map(|d| d.to_string()).unwrap_or_default();
        Ok(format!("Image   {to}\nDigest  {digest}\n"))
    };
    let result = context.block_on(work);
    progress.event(Event::Finished);
    let text = result.with_context(|| format!("Copying {} to {to}", from.imgref))?;
    context.print(&text)
}

/// Within a registry, blobs can be taken over from where they are.
fn push_options(
    args: &ImageCopyArgs,
    from: &ImageReference,
    context: &Context,
    progress: Arc<dyn ProgressSink>,
) -> PushOptions {
    let mut source = context.source_options(&args.fetch, progress);
    if args.dest_authfile.is_some() {
        source.authfile = args.dest_authfile.clone();
    }
    let name = (from.transport == Transport::Registry).then(|| from.name.parse::<RegistryName>());
    PushOptions {
        source,
        mount_from: name.and_then(Result::ok).into_iter().collect(),
    }
}
