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
use crate::image::{Digest, ImageConfig, ImageReference, Manifest, Transport};
use crate::progress::Event;
use crate::transport::{self, SourceOptions};

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
    /// Signatures that are stored beside it; nothing is said about their being good.
    signatures: usize,
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
        let manifest = transport::resolve(&*source, &arch).await?.manifest;
        let config = transport::fetch_config(&*source, &manifest).await?;
        let signatures = signatures(&image, manifest.digest(), &options).await?;
        anyhow::Ok(inspected(&image, &manifest, &config, signatures))
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
    signatures: usize,
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

/// How many signatures there are: in a registry or a layout under a tag made of the digest, as cosign stores
/// them; in skopeo's directories as files.
async fn signatures(
    image: &ImageReference,
    digest: Digest,
    options: &SourceOptions,
) -> Result<usize> {
    let place = match image.transport {
        Transport::Dir => return Ok(signature_files(&image.name)),
        Transport::Registry | Transport::OciDir => signature_place(image, digest),
        _ => return Ok(0),
    };
    let found = async {
        let source = transport::open(&place, options).await?;
        source.manifest(None).await
    };
    match found.await {
        Ok(raw) => {
            let json: serde_json::Value = serde_json::from_slice(&raw.bytes).unwrap_or_default();
            Ok(json["layers"].as_array().map_or(0, Vec::len))
        }
        Err(transport::Error::NotFound { .. }) => Ok(0),
        Err(error) => Err(error).context("Asking for signatures"),
    }
}

/// The same repository or layout with the tag for signatures.
fn signature_place(image: &ImageReference, digest: Digest) -> ImageReference {
    let name = image.name.split('@').next().unwrap_or_default();
    let end = match image.transport {
        Transport::OciDir => name.find(':'),
        // A colon before the last slash is that of a port.
        _ => name
            .rfind(':')
            .filter(|colon| !name[*colon..].contains('/')),
    };
    ImageReference {
        transport: image.transport,
        name: format!(
            "{}:sha256-{}.sig",
            &name[..end.unwrap_or(name.len())],
            digest.hex()
        ),
    }
}

fn signature_files(dir: &str) -> usize {
    let file = |number: &usize| std::path::Path::new(dir).join(format!("signature-{number}"));
    (1..).take_while(|number| file(number).is_file()).count()
}

fn human(image: &Inspected) -> String {
    let optional = |text: &Option<String>| text::clean(text.as_deref().unwrap_or("-"));
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
        ("Signatures", image.signatures.to_string()),
    ] {
        lines += &format!("{name:<14}{value}\n");
    }
    lines + &labels_and_layers(&image.labels, &image.layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_beside_the_image() {
        let digest = Digest::of(b"x");
        let tag = format!("sha256-{}.sig", digest.hex());
        for (image, place) in [
            (
                "docker://localhost:5000/a/b:t",
                "docker://localhost:5000/a/b",
            ),
            ("docker://localhost:5000/a/b", "docker://localhost:5000/a/b"),
            ("docker://h/a:t@sha256:0", "docker://h/a"),
            ("oci:/srv/x:t:u", "oci:/srv/x"),
            ("oci:/srv/x", "oci:/srv/x"),
        ] {
            let image: ImageReference = image.parse().unwrap();
            let found = signature_place(&image, digest).to_string();
            assert_eq!(found, format!("{place}:{tag}"));
        }
        let dir = tempfile::tempdir().unwrap();
        for number in [1, 2, 4] {
            std::fs::write(dir.path().join(format!("signature-{number}")), "").unwrap();
        }
        assert_eq!(signature_files(dir.path().to_str().unwrap()), 2);
    }
}
