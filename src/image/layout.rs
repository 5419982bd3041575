//! Which layer of an image is what. A manifest and its config come in; layers with both their
//! digests and their role in an encapsulated ostree commit go out. Never fetches anything.

use thiserror::Error;

use super::{Descriptor, Digest, ImageConfig, Manifest};

/// The label that names the last layer which still belongs to the ostree commit.
pub const LABEL_FINAL_DIFFID: &str = "ostree.final-diffid";

/// How a layer's tar stream is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip.
    Gzip,
    /// zstd; zstd:chunked reads as plain zstd.
    Zstd,
}

/// What a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// The encapsulated commit: commit, tree and directory objects, and files in no chunk.
    Base,
    /// File objects of the encapsulated commit.
    Chunk,
    /// An ordinary layer, as a Containerfile makes it.
    Derived,
}

/// One layer with both identities: the blob's digest (compressed) and the diff_id (uncompressed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Position in the manifest.
    pub index: usize,
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// How the blob is wrapped.
    pub compression: Compression,
    /// What it holds.
    pub kind: LayerKind,
}

/// Why the layers of an image make no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// No layer at all.
    #[error("the manifest has no layers")]
    Empty,
    /// Manifest and config disagree.
    #[error("the manifest has {layers} layers but the config has {diff_ids} diff_ids")]
    Count {
        /// Layers of the manifest.
        layers: usize,
        /// diff_ids of the config.
        diff_ids: usize,
    },
    /// The label names no diff_id of the config.
    #[error("label {LABEL_FINAL_DIFFID} names {0}, which is no layer of this image")]
    FinalDiffId(String),
    /// The label's layer stands in the manifest twice.
    #[error("layer {0}, the last of the ostree commit, stands in the manifest more than once")]
    Twice(Digest),
    /// A media type that is no layer.
    #[error("layer {digest} has media type {media_type:?}, which is not a layer Bowline can read")]
    MediaType {
        /// The blob.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
}

/// All layers of an image, in the order of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayout {
    layers: Vec<Layer>,
}

impl ImageLayout {
    /// Pairs the manifest's layers with the config's diff_ids and gives each its kind.
    pub fn new(manifest: &Manifest, config: &ImageConfig) -> Result<Self, LayoutError> {
        let (layers, diff_ids) = (&manifest.layers, &config.diff_ids);
        if layers.is_empty() {
            return Err(LayoutError::Empty);
        }
        if layers.len() != diff_ids.len() {
            return Err(LayoutError::Count {
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let last = config
            .labels
            .get(LABEL_FINAL_DIFFID)
            .map(|id| final_index(id, manifest, config));
        let last = last.transpose()?;
        let kind = |index| match (index, last) {
            (0, Some(_)) => LayerKind::Base,
            (i, Some(last)) if i <= last => LayerKind::Chunk,
            _ => LayerKind::Derived,
        };
        let pairs = layers.iter().zip(diff_ids).enumerate();
        let layers = pairs.map(|(index, (descriptor, diff_id))| {
            Ok(Layer {
                index,
                compression: compression(descriptor)?,
                descriptor: descriptor.clone(),
                diff_id: *diff_id,
                kind: kind(index),
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_, LayoutError>>()?,
        })
    }

    /// Every layer, in the order of the manifest; never empty.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer with the encapsulated commit, where the image has one.
    pub fn base(&self) -> Option<&Layer> {
        self.layers.first().filter(|l| l.kind == LayerKind::Base)
    }

    /// The layers of one kind.
    pub fn of_kind(&self, kind: LayerKind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |l| l.kind == kind)
    }
}

fn final_index(
    label: &str,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<usize, LayoutError> {
    let index = config
        .diff_ids
        .iter()
        .position(|id| id.to_string() == label);
    let index = index.ok_or_else(|| LayoutError::FinalDiffId(label.into()))?;
    let target = manifest.layers[index].digest;
    match manifest
        .layers
        .iter()
        .filter(|l| l.digest == target)
        .count()
    {
        1 => Ok(index),
        _ => Err(LayoutError::Twice(target)),
    }
}

/// Reads the wrapping off the media type (image-spec, layer.md; Docker's image manifest v2.2).
fn compression(layer: &Descriptor) -> Result<Compression, LayoutError> {
    let stem = |media_type: &str| match media_type {
        "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Some(Compression::None),
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Some(Compression::Gzip),
        "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Some(Compression::Zstd),
        _ => None,
    };
    stem(&layer.media_type).ok_or_else(|| LayoutError::MediaType {
        digest: layer.digest,
        media_type: layer.media_type.clone(),
    })
}
