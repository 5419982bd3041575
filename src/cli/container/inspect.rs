//! `container inspect`: what an image is, wherever it is. Fetches manifest and config, and asks whether there
//! are signatures beside; stores nothing and verifies no signature.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::args::InspectArgs;
use super::format;
use crate::cli::image::report::{LayerDetails, layers};
use crate::cli::image::show::labels_and_layers;
use crate::cli::{Context, Outcome, reference, text};
use crate::host::utc;
use crate::image::{ImageConfig, ImageReference, Manifest};
use crate::progress::Event;
use crate::transport::{self, ImageSource, Resolved};

const LABEL_COMMIT: &str = "ostree.commit";

/// An image. Field names are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    /// Canonical reference.
    image: String,
    /// Digest of the manifest.
    digest: String,
    /// Version by label.
    version: Option<String>,
    /// When it was made, in UTC to the second; the config's own words where they are no time.
    created: Option<String>,
    /// GOARCH word.
    architecture: String,
    /// Whether its labels say that it boots.
    bootable: bool,
    /// The commit that is in it, by label.
    commit: Option<String>,
    /// Bytes of all layers, as far as the manifest tells.
    size: u64,
    /// Signatures of it or of the index that led to it; nothing is said about their being good. None
    /// where they could not be asked for.
    signatures: Option<usize>,
    /// Labels of the config.
    labels: BTreeMap<String, String>,
    /// Layers, base first.
    layers: Vec<LayerDetails>,
}

/// Looks at an image.
pub fn run(args: &InspectArgs, context: &Context) -> Result<Outcome> {
    let image = reference::parse(&args.image)?.imgref;
    let progress = context.progress(&image.to_string())?;
    let options = context.source_options(&args.fetch, progress.clone());
    let arch = context.arch(&args.fetch);
    let work = async {
        let source = transport::open(&image, &options).await?;
        let resolved = transport::resolve(&*source, &arch).await?;
        let config = transport::fetch_config(&*source, &resolved.manifest).await?;
        let signatures = signatures(&*source, &resolved).await;
        anyhow::Ok(inspected(&image, &resolved.manifest, &config, signatures))
    };
    let found = context.block_on(work);
    progress.event(Event::Finished);
    let found = found.with_context(|| format!("Looking at {image}"))?;
    context.print(&format(args.format, human, &found)?)?;
    Ok(Outcome::Done)
}

fn inspected(
    image: &ImageReference,
    manifest: &Manifest,
    config: &ImageConfig,
    signatures: Option<usize>,
) -> Inspected {
    let created = config.created.as_deref();
    let sizes = manifest.layers.iter().filter_map(|layer| layer.size);
    Inspected {
        image: image.to_string(),
        digest: manifest.digest().to_string(),
        version: config.version().map(str::to_owned),
        created: created.map(|time| utc(time).unwrap_or_else(|| time.into())),
        architecture: config.architecture.clone(),
        bootable: config.is_bootable(),
        commit: config.labels.get(LABEL_COMMIT).cloned(),
        size: sizes.fold(0, u64::saturating_add),
        signatures,
        labels: config.labels.clone(),
        layers: layers(manifest, config),
    }
}

/// How many signatures there are, wherever a pull would look for them. That nobody could be asked is no
/// reason to tell nothing about the image.
async fn signatures(source: &dyn ImageSource, resolved: &Resolved) -> Option<usize> {
    let index = resolved.index.into_iter();
    let digests: Vec<_> = [resolved.manifest.digest()]
        .into_iter()
        .chain(index)
        .collect();
    match source.signatures(&digests).await {
        Ok(found) => Some(found.len()),
        Err(error) => {
            tracing::warn!("what signatures there are: {error}");
            None
        }
    }
}

fn human(image: &Inspected) -> String {
    let optional = |text: &Option<String>| text::clean(text.as_deref().unwrap_or("-"));
    let signatures = image.signatures.map(|count| count.to_string());
    let signatures = signatures.unwrap_or_else(|| "unknown".into());
    let mut lines = String::new();
    for (name, value) in [
        ("Image", text::clean(&image.image)),
        ("Digest", image.digest.clone()),
        ("Version", optional(&image.version)),
        ("Created", optional(&image.created)),
        ("Architecture", text::clean(&image.architecture)),
        ("Bootable", if image.bootable { "yes" } else { "no" }.into()),
        ("Commit", optional(&image.commit)),
        ("Size", text::bytes(image.size)),
        ("Signatures", signatures),
    ] {
        lines += &format!("{name:<14}{value}\n");
    }
    lines + &labels_and_layers(&image.labels, &image.layers)
}
