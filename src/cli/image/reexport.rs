//! `image reexport`: a stored image goes back out. Arguments come in; name and digest are printed. Changes
//! nothing in the repository.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::args::{CompressionArg, ReexportArgs};
use crate::build::reexport;
use crate::cli::{Context, reference};
use crate::image::{Compression, RegistryName, Transport};
use crate::progress::{Event, Phase};
use crate::transport::push::{Destination, PushOptions};

/// Writes the image, and prints what stands where now.
pub fn run(args: &ReexportArgs, path: &Path, context: &Context) -> Result<()> {
    let repo = super::open(path)?;
    let (imgref, image) = super::find(&repo, &args.image)?;
    let to = reference::parse(&args.destination)?.imgref;
    let progress = context.progress(&imgref.to_string())?;
    let name = (imgref.transport == Transport::Registry).then(|| imgref.name.parse());
    let name = name.and_then(Result::<RegistryName, _>::ok);
    let options = PushOptions {
        source: context.source_options(&args.fetch, progress.clone()),
        mount_from: name.into_iter().collect(),
    };
    let compression = args.compression.map(|compression| match compression {
        CompressionArg::None => Compression::None,
        CompressionArg::Gzip => Compression::Gzip,
        CompressionArg::Zstd => Compression::Zstd,
    });
    let work = async {
        let destination = Destination::open(&to, &options).await?;
        progress.event(Event::Phase(Phase::Fetch));
        let how = (compression, usize::try_from(args.fetch.jobs)?);
        reexport::run(&repo, &image, &destination, how, &progress).await
    };
    let result = context.block_on(work);
    progress.event(Event::Finished);
    let digest = result.with_context(|| format!("Writing {imgref} to {to}"))?;
    context.print(&format!("Image   {to}\nDigest  {digest}\n"))
}
