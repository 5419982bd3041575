//! Manifests, indexes and image configs, OCI and Docker v2 schema 2. Bytes come in; a typed view
//! that keeps the exact bytes goes out (digests are over bytes). Never guesses a type that the
//! bytes leave ambiguous.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Digest;

/// The largest manifest, index or config that is read: the limit of containers/image, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Why bytes are not a manifest, index or config that Bowline can use.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or JSON of another shape.
    #[error("it is not valid JSON of a {what}: {source}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// A media type Bowline does not read.
    #[error("its media type is {0:?}, which is neither an OCI nor a Docker v2 schema 2 manifest")]
    MediaType(String),
    /// Members of two kinds of manifest at once.
    #[error("it could be read as two kinds of manifest (it has {0})")]
    Ambiguous(&'static str),
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

/// The machine an image of an index is for (image-spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH word (`amd64`, `arm64`).
    pub architecture: String,
    /// GOOS word (`linux`).
    pub os: String,
    /// CPU variant (`v8`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
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

    /// The manifest as OCI JSON, which is what an ostree merge commit stores: a Docker manifest
    /// is converted (media types only; every digest and size stays), an OCI one is as it came.
    pub fn to_oci_json(&self) -> String {
        if !self.docker {
            return String::from_utf8_lossy(&self.raw).into_owned();
        }
        let json = |d: &Descriptor, media_type: String| {
            serde_json::json!({
                "mediaType": media_type,
                "digest": d.digest.to_string(),
                "size": d.size.map_or(-1, |s| s as i64),
            })
        };
        let layers = self
            .layers
            .iter()
            .map(|l| json(l, oci_layer_type(&l.media_type)));
        let mut value = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": json(&self.config, OCI_CONFIG.into()),
            "layers": layers.collect::<Vec<_>>(),
        });
        if !self.annotations.is_empty() {
            value["annotations"] = serde_json::json!(self.annotations);
        }
        value.to_string()
    }
}

fn oci_layer_type(docker: &str) -> String {
    match docker.strip_prefix("application/vnd.docker.image.rootfs.") {
        Some("diff.tar") => "application/vnd.oci.image.layer.v1.tar".into(),
        Some("diff.tar.gzip") => "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        Some("diff.tar.zstd") => "application/vnd.oci.image.layer.v1.tar+zstd".into(),
        Some("foreign.diff.tar.gzip") => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into()
        }
        _ => docker.into(),
    }
}

/// Several images under one name, one per platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    digest: Digest,
    /// The entries in order.
    pub manifests: Vec<(Descriptor, Option<Platform>)>,
}

impl Index {
    /// Digest of the bytes as they came.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The entry for Linux on `arch` (a GOARCH word); entries without a platform match last.
    pub fn choose(&self, arch: &str) -> Result<&Descriptor, ManifestError> {
        let fits = |p: &Platform| p.architecture == arch && p.os == "linux";
        let exact = self
            .manifests
            .iter()
            .find(|(_, p)| p.as_ref().is_some_and(fits));
        let any = || self.manifests.iter().find(|(_, p)| p.is_none());
        exact.or_else(any).map(|(d, _)| d).ok_or_else(|| {
            let platforms = self.manifests.iter().filter_map(|(_, p)| p.as_ref());
            let names = platforms.map(|p| format!("{}/{}", p.os, p.architecture));
            ManifestError::NoPlatform {
                wanted: format!("linux/{arch}"),
                available: names.collect::<Vec<_>>().join(", "),
            }
        })
    }
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
    /// Parses bytes; `media_type` is what the source said, where it said something.
    pub fn parse(raw: Vec<u8>, media_type: Option<&str>) -> Result<Self, ManifestError> {
        let json = |source| ManifestError::Json {
            what: "manifest",
            source,
        };
        let wire: WireManifest = serde_json::from_slice(&raw).map_err(json)?;
        let is_index = match (&wire.manifests, &wire.layers) {
            (Some(_), Some(_)) => return Err(ManifestError::Ambiguous("layers and manifests")),
            (Some(_), None) => true,
            _ => false,
        };
        let default = if is_index { OCI_INDEX } else { OCI_MANIFEST };
        let stated = wire.media_type.as_deref().or(media_type).unwrap_or(default);
        let docker = match (stated, is_index) {
            (OCI_MANIFEST, false) | (OCI_INDEX, true) => false,
            (DOCKER_MANIFEST, false) | (DOCKER_LIST, true) => true,
            _ => return Err(ManifestError::MediaType(stated.chars().take(200).collect())),
        };
        let digest = Digest::of(&raw);
        if let Some(entries) = wire.manifests {
            let manifests = entries
                .into_iter()
                .map(|e| (e.descriptor(), e.platform))
                .collect();
            return Ok(Self::Index(Index { digest, manifests }));
        }
        let Some(config) = wire.config else {
            let missing = serde::de::Error::missing_field("config");
            return Err(json(missing));
        };
        Ok(Self::Manifest(Manifest {
            digest,
            docker,
            config: config.descriptor(),
            layers: wire
                .layers
                .unwrap_or_default()
                .iter()
                .map(WireDescriptor::descriptor)
                .collect(),
            annotations: wire.annotations.unwrap_or_default(),
            raw,
        }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    media_type: Option<String>,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
    manifests: Option<Vec<WireDescriptor>>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: Option<String>,
    digest: Digest,
    size: i64,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
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

/// An image config (image-spec, config.md): typed view plus the exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    raw: Vec<u8>,
    /// GOARCH word.
    pub architecture: String,
    /// GOOS word.
    pub os: String,
    /// When the image was made, RFC 3339, as written.
    pub created: Option<String>,
    /// `config.Labels`.
    pub labels: BTreeMap<String, String>,
    /// Digests of the uncompressed layers, base first.
    pub diff_ids: Vec<Digest>,
    /// How it was made.
    pub history: Vec<HistoryEntry>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    pub created: Option<String>,
    /// By which command.
    pub created_by: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses the bytes of a config blob.
    pub fn parse(raw: Vec<u8>) -> Result<Self, ManifestError> {
        let json = |source| ManifestError::Json {
            what: "image config",
            source,
        };
        let wire: WireConfig = serde_json::from_slice(&raw).map_err(json)?;
        Ok(Self {
            raw,
            architecture: wire.architecture,
            os: wire.os,
            created: wire.created,
            labels: wire.config.and_then(|c| c.labels).unwrap_or_default(),
            diff_ids: wire.rootfs.diff_ids,
            history: wire.history.unwrap_or_default(),
        })
    }

    /// The bytes as they came.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The image's version: the OCI label, else the older `version`.
    pub fn version(&self) -> Option<&str> {
        let label = |key| self.labels.get(key).map(String::as_str);
        label("org.opencontainers.image.version").or_else(|| label("version"))
    }

    /// Whether the image says that it boots (`ostree.bootable` or `containers.bootc`).
    pub fn is_bootable(&self) -> bool {
        ["ostree.bootable", "containers.bootc"]
            .iter()
            .any(|key| self.labels.contains_key(*key))
    }
}

#[derive(Deserialize)]
struct WireConfig {
    architecture: String,
    os: String,
    created: Option<String>,
    config: Option<WireRuntime>,
    rootfs: WireRootfs,
    history: Option<Vec<HistoryEntry>>,
}

#[derive(Deserialize)]
struct WireRuntime {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct WireRootfs {
    diff_ids: Vec<Digest>,
}

/// The machine's architecture as a GOARCH word.
pub const fn host_arch() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "powerpc64") {
        "ppc64le"
    } else if cfg!(target_arch = "riscv64") {
        "riscv64"
    } else {
        std::env::consts::ARCH
    }
}
