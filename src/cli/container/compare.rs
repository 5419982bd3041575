//! `container compare`: what users of one image download for another, and what becomes of packages. Fetches
//! manifests, and of each image the layers that the other has not; stores nothing.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use tokio::task::spawn_blocking;

use super::args::CompareArgs;
use super::{format, render_compare};
use crate::build::LayerFiles;
use crate::build::compare::{Comparison, only_in};
use crate::cli::{Context, Outcome, reference};
use crate::image::{
    Digest, ImageLayout, ImageReference, Layer, LayerKind, Manifest, VerifyingReader,
};
use crate::packages::{self, Package};
use crate::progress::Event;
use crate::pull::{Failure, split};
use crate::transport::{self, ImageSource, SourceOptions};

/// Compares two images.
pub fn run(args: &CompareArgs, context: &Context) -> Result<Outcome> {
    let old = reference::parse(&args.old)?.imgref;
    let new = reference::parse(&args.new)?.imgref;
    let progress = context.progress(&new.to_string())?;
    let options = context.source_options(&args.fetch, progress.clone());
    let arch = context.arch(&args.fetch);
    let work = async {
        let old = Side::open(&old, &arch, &options).await?;
        let new = Side::open(&new, &arch, &options).await?;
        if args.manifests_only {
            return Ok(Comparison::of_manifests(&old.manifest, &new.manifest));
        }
        let (before, after) = packages(&old, &new, context).await?;
        let (old, new) = (&old.manifest, &new.manifest);
        anyhow::Ok(Comparison::of_images((old, &before), (new, &after)))
    };
    let found = context.block_on(work);
    progress.event(Event::Finished);
    context.print(&format(args.format, render_compare::human, &found?)?)?;
    Ok(Outcome::Done)
}

/// One of the two images.
struct Side {
    name: String,
    source: Arc<dyn ImageSource>,
    manifest: Manifest,
    layers: Vec<Layer>,
}

impl Side {
    async fn open(image: &ImageReference, arch: &str, options: &SourceOptions) -> Result<Self> {
        let context = || format!("Looking at {image}");
        let work = async {
            let source = transport::open(image, options).await?;
            let manifest = transport::resolve(&*source, arch).await?.manifest;
            let config = transport::fetch_config(&*source, &manifest).await?;
            let layout = ImageLayout::new(&manifest, &config)?;
            anyhow::Ok(Self {
                name: image.to_string(),
                source: source.into(),
                layers: layout.layers().to_vec(),
                manifest,
            })
        };
        work.await.with_context(context)
    }

    /// The package databases in some of the layers.
    async fn databases(&self, wanted: &[Digest], context: &Context) -> Result<LayerFiles> {
        let mut files = LayerFiles::new(&context.environment.large_temporary());
        for layer in &self.layers {
            if wanted.contains(&layer.descriptor.digest) {
                files = self.take(files, layer).await.with_context(|| {
                    format!("Reading layer {} of {}", layer.descriptor.digest, self.name)
                })?;
            }
        }
        Ok(files)
    }

    async fn take(&self, mut files: LayerFiles, layer: &Layer) -> Result<LayerFiles> {
        let blob = self.source.blob(&layer.descriptor).await?;
        let failure: Failure = Arc::new(Mutex::new(None));
        let (reader, feed) = split(blob, failure.clone());
        let layer = layer.clone();
        let work = spawn_blocking(move || {
            let mut blob = VerifyingReader::new(reader, &layer.descriptor);
            files.take(&mut blob, layer.compression)?;
            blob.finish()?;
            anyhow::Ok(files)
        });
        let (files, ()) = tokio::join!(work, feed);
        // A transfer that broke explains what came of it.
        if let Some(error) = failure.lock().ok().and_then(|mut failure| failure.take()) {
            return Err(error.into());
        }
        files.context("A worker died")?
    }
}

/// The packages of both, as far as they can differ: a database that is in a layer of both is the same.
async fn packages(
    old: &Side,
    new: &Side,
    context: &Context,
) -> Result<(Vec<Package>, Vec<Package>)> {
    let digests = |one: &Side, other: &Side| -> Vec<Digest> {
        let layers = only_in(&one.manifest, &other.manifest);
        layers.into_iter().map(|layer| layer.digest).collect()
    };
    let all = |side: &Side| -> Vec<Digest> {
        side.manifest
            .layers
            .iter()
            .map(|layer| layer.digest)
            .collect()
    };
    let mut before = old.databases(&digests(old, new), context).await?;
    let mut after = new.databases(&digests(new, old), context).await?;
    // A layer of one image hides a database, or a part of it, that the other shows.
    let derived = |side: &Side| side.layers.iter().any(|l| l.kind == LayerKind::Derived);
    let layered = derived(old) || derived(new);
    let differ = match layered {
        true => !before.paths().eq(after.paths()),
        false => before.is_empty() != after.is_empty(),
    };
    if differ {
        before = old.databases(&all(old), context).await?;
        after = new.databases(&all(new), context).await?;
    }
    let list = |files: &LayerFiles, side: &Side| {
        packages::list(files).with_context(|| format!("Reading the packages of {}", side.name))
    };
    Ok((list(&before, old)?, list(&after, new)?))
}
