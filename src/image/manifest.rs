//! Manifests and indexes, OCI and Docker v2 schema 2. Bytes come in; a typed view that keeps the
//! exact bytes goes out (digests are over bytes). Never guesses between two kinds of manifest that
//! the bytes could be, and never takes an artifact for an image.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use thiserror::Error;

use super::{Digest, Index, IndexEntry, Platform};

/// The largest manifest, index or config that is read: the limit of containers/image, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Layer annotation with the names of the components of a chunk, comma-joined (ostree-ext's name).
pub const ANNOTATION_COMPONENTS: &str = "ostree.components";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.";

/// Why bytes are not a manifest, index or config that Bowline can use.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or JSON of another shape.
    #[error("it is not valid JSON of {what}: {source}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A media type Bowline does not read.
    #[error("its media type is {0:?}, which is neither an OCI nor a Docker v2 schema 2 manifest")]
    MediaType(String),
    /// Docker's first manifest format.
    #[error("it is a Docker schema 1 manifest, which is obsolete; push the image again")]
    Schema1,
    /// What the source says and what the manifest says are two different things.
    #[error("the source calls it {stated:?} but it is {found:?}")]
    Contradiction {
        /// The type beside the bytes.
        stated: String,
        /// The type in the bytes.
        found: String,
    },
    /// Members of two kinds of manifest at once.
    #[error("it could be read as two kinds of manifest (it has {0})")]
    Ambiguous(&'static str),
    /// An OCI artifact: something else than an image, kept in a registry.
    #[error("it is no image but an artifact (its config has media type {0:?})")]
    Artifact(String),
    /// A layer type that a Docker manifest cannot have.
    #[error("its layer has media type {0:?}, which a Docker manifest cannot have")]
    DockerLayer(String),
    /// No entry for the architecture.
    #[error("it has no image for {wanted}; it has {available}")]
    NoPlatform {
        /// The architecture asked for.
        wanted: String,
        /// What there is, comma-joined.
        available: String,
    },
}

/// A reference to a blob, by content (image-spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes; `None` where the manifest says -1.
    pub size: Option<u64>,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Whose files are in a layer, as far as it tells.
    pub fn components(&self) -> Vec<String> {
        let names = self.annotations.get(ANNOTATION_COMPONENTS);
        let names = names.into_iter().flat_map(|names| names.split(','));
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// A manifest of one image: typed view plus the exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    raw: Vec<u8>,
    digest: Digest,
    /// Whether it is a Docker v2 schema 2 manifest (else OCI).
    pub docker: bool,
    /// The image config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The bytes as they came.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Digest of the bytes as they came.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The manifest as OCI JSON, which is what an ostree merge commit stores.
    ///
    /// An OCI manifest is as it came. A Docker manifest is converted: media types only, so it goes
    /// on naming the config and the layers that were fetched. In both, a size of -1 becomes 0,
    /// since ostree-ext cannot read a stored manifest with a negative number in it.
    pub fn to_oci_json(&self) -> String {
        let blobs = || std::iter::once(&self.config).chain(&self.layers);
        let unchanged = !self.docker && blobs().all(|blob| blob.size.is_some());
        let parsed = serde_json::from_slice::<Value>(&self.raw).ok();
        let Some(mut json) = parsed.filter(|_| !unchanged) else {
            return String::from_utf8_lossy(&self.raw).into_owned();
        };
        if self.docker {
            json["mediaType"] = OCI_MANIFEST.into();
            json["config"]["mediaType"] = OCI_CONFIG.into();
        }
        amend(&mut json["config"], &self.config);
        let layers = json["layers"].as_array_mut().into_iter().flatten();
        for (layer, descriptor) in layers.zip(&self.layers) {
            amend(layer, descriptor);
        }
        json.to_string()
    }
}

/// Gives a descriptor's JSON its OCI media type, and a size that is no negative number.
fn amend(json: &mut Value, descriptor: &Descriptor) {
    if let Some(oci) = docker_to_oci(&descriptor.media_type) {
        json["mediaType"] = oci.into();
    }
    json["size"] = descriptor.size.unwrap_or(0).into();
}

/// The OCI type of a Docker layer; `None` for what is none.
fn docker_to_oci(docker: &str) -> Option<&'static str> {
    Some(match docker.strip_prefix(DOCKER_LAYER)? {
        "diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        "diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "foreign.diff.tar" => "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "foreign.diff.tar.gzip" => "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        _ => return None,
    })
}

/// Whether `media_type` is one of the four that a reference can lead to.
pub fn is_manifest_type(media_type: &str) -> bool {
    kind_of(media_type).is_some()
}

/// Whether a type is Docker's, and whether it is an index.
fn kind_of(media_type: &str) -> Option<(bool, bool)> {
    Some(match media_type {
        OCI_MANIFEST => (false, false),
        OCI_INDEX => (false, true),
        DOCKER_MANIFEST => (true, false),
        DOCKER_LIST => (true, true),
        _ => return None,
    })
}

/// What a reference can lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestOrIndex {
    /// One image.
    Manifest(Manifest),
    /// One image per platform.
    Index(Index),
}

impl ManifestOrIndex {
    /// Parses bytes; `stated` is the media type that the source gave beside them, if any. The type
    /// in the bytes wins; a stated type of another kind is an error, one that means nothing
    /// (`text/plain`) is not.
    pub fn parse(raw: Vec<u8>, stated: Option<&str>) -> Result<Self, ManifestError> {
        let wire: WireManifest = from_json(&raw)?;
        let (docker, is_index) = wire.kind(stated)?;
        let digest = Digest::of(&raw);
        if is_index {
            let entries = wire.manifests.unwrap_or_default();
            return Ok(Self::Index(Index {
                digest,
                entries: entries.into_iter().map(WireEntry::entry).collect(),
            }));
        }
        // An artifact may have an empty digest, so its type is looked at before anything else.
        wire.check_config_type(docker)?;
        let image: WireImage = from_json(&raw)?;
        Ok(Self::Manifest(Manifest {
            digest,
            docker,
            config: image.config.descriptor(),
            layers: image.layers(docker)?,
            annotations: image.annotations.unwrap_or_default(),
            raw,
        }))
    }
}

fn from_json<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(raw).map_err(|source| ManifestError::Json {
        what: "a manifest",
        source,
    })
}

/// The members that decide which kind of manifest this is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    schema_version: Option<i64>,
    media_type: Option<String>,
    config: Option<WireType>,
    layers: Option<IgnoredAny>,
    manifests: Option<Vec<WireEntry>>,
    fs_layers: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireType {
    media_type: Option<String>,
}

impl WireManifest {
    /// Whether this is Docker's, and whether it is an index.
    fn kind(&self, stated: Option<&str>) -> Result<(bool, bool), ManifestError> {
        let own = self.media_type.as_deref().filter(|t| !t.is_empty());
        if self.schema_version == Some(1)
            || own.is_some_and(|t| t.contains("distribution.manifest.v1+"))
        {
            return Err(ManifestError::Schema1);
        }
        let found = own.unwrap_or_else(|| self.guess());
        let clipped = |text: &str| text.chars().take(200).collect::<String>();
        let (docker, is_index) =
            kind_of(found).ok_or_else(|| ManifestError::MediaType(clipped(found)))?;
        if let Some(stated) = stated {
            // A Docker type promises more than an OCI one: media types that old clients know.
            let fits =
                kind_of(stated).is_none_or(|(d, i)| i == is_index && (is_index || docker || !d));
            if !fits {
                return Err(ManifestError::Contradiction {
                    stated: clipped(stated),
                    found: clipped(found),
                });
            }
        }
        self.check_members(is_index)?;
        Ok((docker, is_index))
    }

    /// OCI allows leaving the type out; Docker does not.
    fn guess(&self) -> &'static str {
        match &self.config {
            None if self.manifests.is_some() => OCI_INDEX,
            Some(config) if config.media_type.as_deref() != Some(DOCKER_CONFIG) => OCI_MANIFEST,
            _ => "",
        }
    }

    /// Refuses what another reader could take for something else (CVE-2021-41190).
    fn check_members(&self, is_index: bool) -> Result<(), ManifestError> {
        let foreign = [
            (self.fs_layers.is_some(), "fsLayers"),
            (self.history.is_some(), "history"),
            (is_index && self.config.is_some(), "config and manifests"),
            (is_index && self.layers.is_some(), "layers and manifests"),
            (
                !is_index && self.manifests.is_some(),
                "layers and manifests",
            ),
        ];
        match foreign.iter().find(|(present, _)| *present) {
            Some((_, names)) => Err(ManifestError::Ambiguous(names)),
            None => Ok(()),
        }
    }

    fn check_config_type(&self, docker: bool) -> Result<(), ManifestError> {
        let found = self.config.as_ref().map(|c| c.media_type.as_deref());
        let found = found.flatten().unwrap_or_default();
        let expected = match docker {
            // Docker manifests do not always name the type of their config rightly.
            true => matches!(
                found,
                DOCKER_CONFIG | OCI_CONFIG | "application/octet-stream"
            ),
            false => found == OCI_CONFIG,
        };
        match expected || self.config.is_none() {
            true => Ok(()),
            false => Err(ManifestError::Artifact(found.chars().take(200).collect())),
        }
    }
}

#[derive(Deserialize)]
struct WireImage {
    config: WireDescriptor,
    layers: Option<Vec<WireDescriptor>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl WireImage {
    fn layers(&self, docker: bool) -> Result<Vec<Descriptor>, ManifestError> {
        let layers = self.layers.iter().flatten().map(|layer| {
            let layer = layer.descriptor();
            match docker && docker_to_oci(&layer.media_type).is_none() {
                true => Err(ManifestError::DockerLayer(layer.media_type)),
                false => Ok(layer),
            }
        });
        layers.collect()
    }
}

#[derive(Deserialize)]
struct WireEntry {
    #[serde(flatten)]
    descriptor: WireDescriptor,
    platform: Option<Platform>,
}

impl WireEntry {
    fn entry(self) -> IndexEntry {
        IndexEntry {
            descriptor: self.descriptor.descriptor(),
            platform: self.platform,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: Option<String>,
    digest: Digest,
    size: i64,
    annotations: Option<BTreeMap<String, String>>,
}

impl WireDescriptor {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone().unwrap_or_default(),
            digest: self.digest,
            size: u64::try_from(self.size).ok(),
            annotations: self.annotations.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
