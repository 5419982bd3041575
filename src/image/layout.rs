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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::image::ManifestOrIndex;

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn manifest(layers: &[(&str, Digest)]) -> Manifest {
        let json = |media_type: &str, digest: &Digest| json!({"mediaType": media_type, "digest": digest, "size": 1});
        let layers = layers
            .iter()
            .map(|(media_type, digest)| json(media_type, digest));
        let config = json(
            "application/vnd.oci.image.config.v1+json",
            &digest("config"),
        );
        let layers: Vec<_> = layers.collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        match ManifestOrIndex::parse(manifest.to_string().into(), None).unwrap() {
            ManifestOrIndex::Manifest(manifest) => manifest,
            other => panic!("{other:?}"),
        }
    }

    fn config(diff_ids: &[Digest], last: Option<&str>) -> ImageConfig {
        let labels = last.map(|last| json!({ LABEL_FINAL_DIFFID: last }));
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        ImageConfig::parse(config.to_string().into()).unwrap()
    }

    fn ids(count: usize) -> Vec<Digest> {
        (0..count).map(|n| digest(&format!("diff {n}"))).collect()
    }

    fn blobs(count: usize) -> Vec<(&'static str, Digest)> {
        let blob = |n| (GZIP, digest(&format!("blob {n}")));
        (0..count).map(blob).collect()
    }

    fn layout(count: usize, last: Option<&str>) -> Result<ImageLayout, LayoutError> {
        ImageLayout::new(&manifest(&blobs(count)), &config(&ids(count), last))
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert_eq!(layout(0, None), Err(LayoutError::Empty));
        let counts = ImageLayout::new(&manifest(&blobs(2)), &config(&ids(3), None));
        let (layers, diff_ids) = (2, 3);
        assert_eq!(counts, Err(LayoutError::Count { layers, diff_ids }));
        for label in [digest("other").to_string(), "nonsense".into()] {
            assert_eq!(
                layout(2, Some(&label)),
                Err(LayoutError::FinalDiffId(label))
            );
        }
    }

    #[test]
    fn the_last_layer_of_the_commit_must_be_unique() {
        let mut twice = blobs(3);
        twice[2] = twice[1];
        let label = ids(3)[1].to_string();
        let found = ImageLayout::new(&manifest(&twice), &config(&ids(3), Some(&label)));
        assert_eq!(found, Err(LayoutError::Twice(twice[1].1)));
        // Other layers may repeat: an empty layer often does.
        let label = ids(3)[0].to_string();
        assert!(ImageLayout::new(&manifest(&twice), &config(&ids(3), Some(&label))).is_ok());
    }

    #[test]
    fn reads_the_compression_off_the_media_type() {
        let oci = "application/vnd.oci.image.layer";
        let docker = "application/vnd.docker.image.rootfs";
        for (media_type, compression) in [
            (format!("{oci}.v1.tar"), Some(Compression::None)),
            (format!("{oci}.v1.tar+gzip"), Some(Compression::Gzip)),
            (format!("{oci}.v1.tar+zstd"), Some(Compression::Zstd)),
            (
                format!("{oci}.nondistributable.v1.tar"),
                Some(Compression::None),
            ),
            (
                format!("{oci}.nondistributable.v1.tar+gzip"),
                Some(Compression::Gzip),
            ),
            (
                format!("{oci}.nondistributable.v1.tar+zstd"),
                Some(Compression::Zstd),
            ),
            (format!("{docker}.diff.tar"), Some(Compression::None)),
            (format!("{docker}.diff.tar.gzip"), Some(Compression::Gzip)),
            (format!("{docker}.diff.tar.zstd"), Some(Compression::Zstd)),
            (
                format!("{docker}.foreign.diff.tar"),
                Some(Compression::None),
            ),
            (
                format!("{docker}.foreign.diff.tar.gzip"),
                Some(Compression::Gzip),
            ),
            (format!("{oci}.v1.tar+gzip+encrypted"), None),
            (format!("{oci}.v1.tar+invalid-suffix"), None),
            ("text/plain".into(), None),
            (String::new(), None),
        ] {
            let layer = (&*media_type, digest("blob"));
            let found = ImageLayout::new(&manifest(&[layer]), &config(&ids(1), None));
            let expected = compression.ok_or_else(|| LayoutError::MediaType {
                digest: layer.1,
                media_type: media_type.clone(),
            });
            assert_eq!(found.map(|l| l.layers()[0].compression), expected);
        }
    }

    proptest! {
        #[test]
        fn kinds_follow_the_label(count in 1..12usize, last in prop::option::of(0..12usize)) {
            let last = last.map(|last| last % count);
            let label = last.map(|last| ids(count)[last].to_string());
            let layout = layout(count, label.as_deref()).unwrap();
            let indices: Vec<_> = layout.layers().iter().map(|l| l.index).collect();
            prop_assert_eq!(indices, (0..count).collect::<Vec<_>>());
            for layer in layout.layers() {
                let kind = match last {
                    Some(_) if layer.index == 0 => LayerKind::Base,
                    Some(last) if layer.index <= last => LayerKind::Chunk,
                    _ => LayerKind::Derived,
                };
                prop_assert_eq!(layer.kind, kind);
                prop_assert_eq!(layer.diff_id, ids(count)[layer.index]);
                prop_assert_eq!(layer.descriptor.digest, blobs(count)[layer.index].1);
            }
            prop_assert_eq!(layout.base().is_some(), last.is_some());
            prop_assert_eq!(layout.of_kind(LayerKind::Chunk).count(), last.unwrap_or(0));
        }
    }
}
