//! Several images under one name. The entries of an OCI index or Docker manifest list come in;
//! the one for a machine goes out. Never fetches what an entry names.

use std::cmp::Reverse;

use super::{Descriptor, Digest, ManifestError, Platform};

/// Says in an entry that the image's layers are zstd-compressed.
const ANNOTATION_ZSTD: &str = "io.github.containers.compression.zstd";

/// One image of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its manifest, or a further index.
    pub descriptor: Descriptor,
    /// The machine it is for; an entry without one is for any.
    pub platform: Option<Platform>,
}

/// Several images under one name, one per platform (image-spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub(super) digest: Digest,
    /// The entries in order.
    pub entries: Vec<IndexEntry>,
}

impl Index {
    /// Digest of the bytes as they came.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The entry for Linux on `arch` (a GOARCH word, perhaps with a variant: `arm/v7`).
    pub fn choose(&self, arch: &str) -> Result<&Descriptor, ManifestError> {
        self.choose_for(&Platform::linux(arch))
    }

    /// The entry for `host`: the best platform, then zstd before gzip, then the first. Entries
    /// without a platform fit any host, but only after those that match.
    pub fn choose_for(&self, host: &Platform) -> Result<&Descriptor, ManifestError> {
        let ranked = self.entries.iter().filter_map(|entry| {
            let rank = match &entry.platform {
                Some(platform) => platform.rank_for(host)?,
                None => usize::MAX,
            };
            let zstd = entry.descriptor.annotations.get(ANNOTATION_ZSTD);
            Some((rank, Reverse(zstd.is_some_and(|z| z == "true")), entry))
        });
        // `min_by_key` keeps the first of equals.
        let best = ranked.min_by_key(|(rank, zstd, _)| (*rank, *zstd));
        best.map(|(_, _, entry)| &entry.descriptor)
            .ok_or_else(|| ManifestError::NoPlatform {
                wanted: host.to_string(),
                available: self.platforms(),
            })
    }

    /// What there is, comma-joined, for messages.
    fn platforms(&self) -> String {
        let platforms = self.entries.iter().filter_map(|e| e.platform.as_ref());
        // Attestations stand in an index as images for unknown/unknown.
        let names = platforms
            .filter(|p| p.os != "unknown")
            .map(ToString::to_string);
        let names: Vec<_> = names.collect();
        match names.is_empty() {
            true => "no platform at all".into(),
            false => names.join(", "),
        }
    }
}
