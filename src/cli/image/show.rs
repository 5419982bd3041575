//! `image list`, `image inspect` and `image history`: what is stored, for people and programs.
//! Reads the repository, changes nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::args::{HistoryArgs, InspectArgs, ListArgs, Raw};
use super::report::{Details, LayerDetails, Summary};
use super::{find, open};
use crate::cli::args::Format;
use crate::cli::{Context, text};
use crate::image::{HistoryEntry, ImageReference, Manifest};
use crate::pull;
use crate::repo::{ImageRecord, Repo};
use crate::trust::VerifiedBy;

/// Prints all images of the repository.
pub fn list(args: &ListArgs, repo: &std::path::Path, context: &Context) -> Result<()> {
    let repo = open(repo)?;
    let images = stored(&repo)?;
    if context.quiet && args.format == Format::Human {
        let names = images.iter().map(|(imgref, _)| format!("{imgref}\n"));
        return context.print(&names.collect::<String>());
    }
    let summaries: Vec<Summary> = images.iter().map(|(i, r)| Summary::new(i, r)).collect();
    match args.format {
        Format::Human => context.print(&list_table(&summaries)),
        format => context.print(&serialized(&summaries, format)?),
    }
}

fn stored(repo: &Repo) -> Result<Vec<(ImageReference, ImageRecord)>> {
    let mut images = Vec::new();
    for imgref in repo.images()? {
        // Somebody else may have removed it since.
        if let Some(record) = repo.image(&imgref)? {
            images.push((imgref, record));
        }
    }
    Ok(images)
}

fn list_table(images: &[Summary]) -> String {
    let optional = |text: &Option<String>| text::clean(text.as_deref().unwrap_or("-"));
    let row = |image: &Summary| {
        vec![
            text::clean(&image.image),
            text::shorten(image.digest.trim_start_matches("sha256:")),
            optional(&image.version),
            optional(&image.created),
            text::shorten(&image.commit),
        ]
    };
    let rows: Vec<_> = images.iter().map(row).collect();
    text::table(&["IMAGE", "DIGEST", "VERSION", "CREATED", "COMMIT"], &rows)
}

/// Prints one image in full, or its stored manifest or config.
pub fn inspect(args: &InspectArgs, repo: &std::path::Path, context: &Context) -> Result<()> {
    let repo = open(repo)?;
    let (imgref, record) = find(&repo, &args.image)?;
    match args.raw {
        Some(Raw::Manifest) => return context.print_bytes(record.manifest.raw()),
        Some(Raw::Config) => return context.print_bytes(record.config.raw()),
        None => {}
    }
    let details = Details::new(&imgref, &record, pull::noted(&repo, &record.commit)?);
    match args.format {
        Format::Human => context.print(&inspect_text(&details)),
        format => context.print(&serialized(&details, format)?),
    }
}

fn inspect_text(image: &Details) -> String {
    let optional = |text: &Option<String>| text::clean(text.as_deref().unwrap_or("-"));
    let mut lines = String::new();
    for (name, value) in [
        ("Image", text::clean(&image.summary.image)),
        ("Digest", image.summary.digest.clone()),
        ("Version", optional(&image.summary.version)),
        ("Created", optional(&image.summary.created)),
        ("Architecture", text::clean(&image.architecture)),
        ("Bootable", if image.bootable { "yes" } else { "no" }.into()),
        ("Commit", image.summary.commit.clone()),
    ] {
        lines += &format!("{name:<14}{value}\n");
    }
    for words in verified(image.verified.as_deref()) {
        lines += &format!("{:<14}{}\n", "Verified", text::clean(&words));
    }
    lines + &labels_and_layers(&image.labels, &image.layers)
}

/// What an image says, and what it is made of.
pub(in crate::cli) fn labels_and_layers(
    labels: &BTreeMap<String, String>,
    layers: &[LayerDetails],
) -> String {
    let mut lines = String::from("\nLabels:\n");
    for (key, value) in labels {
        lines += &format!("  {}={}\n", text::clean(key), text::clean(value));
    }
    let rows: Vec<_> = layers.iter().map(layer_row).collect();
    lines + "\n" + &text::table(&["LAYER", "KIND", "SIZE", "COMPONENTS"], &rows)
}

/// Who vouched for it when it was pulled.
fn verified(by: Option<&[VerifiedBy]>) -> Vec<String> {
    match by {
        None => vec!["not recorded".into()],
        Some([]) => vec!["no, by nobody".into()],
        Some(by) => by.iter().map(VerifiedBy::to_string).collect(),
    }
}

fn layer_row(layer: &LayerDetails) -> Vec<String> {
    vec![
        text::shorten(layer.digest.trim_start_matches("sha256:")),
        layer.kind.into(),
        size(layer.size),
        text::clean(&layer.components.join(", ")),
    ]
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".into(), text::bytes)
}

/// Prints how an image was made, layer by layer, base first.
pub fn history(args: &HistoryArgs, repo: &std::path::Path, context: &Context) -> Result<()> {
    let repo = open(repo)?;
    let (_, record) = find(&repo, &args.image)?;
    context.print(&history_table(&record.manifest, &record.config.history))
}

fn history_table(manifest: &Manifest, history: &[HistoryEntry]) -> String {
    // Steps that made no layer have no counterpart in the manifest.
    let mut steps = history.iter().filter(|step| !step.empty_layer);
    let row = |layer: &crate::image::Descriptor| {
        let made_by = steps.next().and_then(|step| step.created_by.as_deref());
        vec![
            text::short(&layer.digest),
            size(layer.size),
            text::clean(made_by.unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = manifest.layers.iter().map(row).collect();
    text::table(&["LAYER", "SIZE", "CREATED BY"], &rows)
}

/// A value as JSON or YAML, ending with a line break.
pub(super) fn serialized(value: &impl Serialize, format: Format) -> Result<String> {
    Ok(match format {
        Format::Yaml => serde_yaml_ng::to_string(value)?,
        Format::Json | Format::Human => serde_json::to_string_pretty(value)? + "\n",
    })
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
