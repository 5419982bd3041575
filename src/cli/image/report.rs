//! What `image list` and `image inspect` say about a stored image: a record of the repository
//! comes in, a plain value that serializes to JSON and YAML goes out. Reads nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::utc;
use crate::image::{ImageConfig, ImageLayout, ImageReference, LayerKind, Manifest};
use crate::repo::ImageRecord;
use crate::trust::VerifiedBy;

/// One stored image, in a few words. Field names are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Canonical reference.
    pub image: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Version by label.
    pub version: Option<String>,
    /// When it was made, in UTC to the second; the config's own words where they are no time.
    pub created: Option<String>,
    /// Checksum of the merge commit.
    pub commit: String,
}

impl Summary {
    /// Sums up a record.
    pub fn new(imgref: &ImageReference, record: &ImageRecord) -> Self {
        Self {
            image: imgref.to_string(),
            digest: record.manifest_digest.to_string(),
            version: record.config.version().map(str::to_owned),
            created: record
                .config
                .created
                .as_deref()
                .map(|t| utc(t).unwrap_or_else(|| t.into())),
            commit: record.commit.clone(),
        }
    }
}

/// One stored image in full. Field names are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The same fields as in a list.
    #[serde(flatten)]
    pub summary: Summary,
    /// GOARCH word.
    pub architecture: String,
    /// Whether its labels say that it boots.
    pub bootable: bool,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Who vouched for it when it was last pulled, none where nobody did; absent where that was not
    /// recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Vec<VerifiedBy>>,
    /// Layers, base first.
    pub layers: Vec<LayerDetails>,
}

/// One layer of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerDetails {
    /// Digest of the blob.
    pub digest: String,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<String>,
    /// Media type of the blob.
    pub media_type: String,
    /// Bytes of the blob where the manifest says.
    pub size: Option<u64>,
    /// `base`, `chunk`, `derived`, or `unknown` where manifest and config do not fit together.
    pub kind: &'static str,
    /// What a chunk holds (package names).
    pub components: Vec<String>,
}

impl Details {
    /// Describes a record and who vouched for it.
    pub fn new(
        imgref: &ImageReference,
        record: &ImageRecord,
        verified: Option<Vec<VerifiedBy>>,
    ) -> Self {
        let config = &record.config;
        Self {
            summary: Summary::new(imgref, record),
            architecture: config.architecture.clone(),
            bootable: config.is_bootable(),
            labels: config.labels.clone(),
            verified,
            layers: layers(&record.manifest, config),
        }
    }
}

pub(in crate::cli) fn layers(manifest: &Manifest, config: &ImageConfig) -> Vec<LayerDetails> {
    // Another program may have stored an image that we would not pull; it can still be shown.
    let layout = ImageLayout::new(manifest, config).ok();
    let kind = |index: usize| match layout.as_ref().map(|l| l.layers()[index].kind) {
        Some(LayerKind::Base) => "base",
        Some(LayerKind::Chunk) => "chunk",
        Some(LayerKind::Derived) => "derived",
        None => "unknown",
    };
    let layer = |(index, layer): (usize, &crate::image::Descriptor)| LayerDetails {
        digest: layer.digest.to_string(),
        diff_id: config.diff_ids.get(index).map(ToString::to_string),
        media_type: layer.media_type.clone(),
        size: layer.size,
        kind: kind(index),
        components: layer.components(),
    };
    manifest.layers.iter().enumerate().map(layer).collect()
}
