//! Image configs (image-spec, config.md; Docker's image spec v1.2 is close enough). Bytes of a
//! config blob come in; a typed view that keeps the exact bytes goes out. Never fetches a blob.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Digest, ManifestError, Platform};

/// An image config: typed view plus the exact bytes.
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
            what: "an image config",
            source,
        };
        let wire: WireConfig = serde_json::from_slice(&raw).map_err(json)?;
        Ok(Self {
            raw,
            architecture: wire.architecture,
            os: wire.os,
            created: wire.created,
            labels: wire.config.and_then(|c| c.labels).unwrap_or_default(),
            diff_ids: wire.rootfs.diff_ids.unwrap_or_default(),
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

    /// Whether the image is for Linux on `arch` (a GOARCH word; a variant behind it is for the
    /// choice from an index and does not count here).
    pub fn is_for(&self, arch: &str) -> bool {
        let host = Platform::linux(arch);
        self.os == host.os && self.architecture == host.architecture
    }

    /// Whether the image says that it boots (`ostree.bootable` or `containers.bootc`).
    pub fn is_bootable(&self) -> bool {
        ["ostree.bootable", "containers.bootc"]
            .iter()
            .any(|key| self.labels.contains_key(*key))
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with the members of an image config")]
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
    diff_ids: Option<Vec<Digest>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_config_is_told_in_words_of_a_person() {
        let error = ImageConfig::parse(b"[]".to_vec()).unwrap_err().to_string();
        let words = "it is not valid JSON of an image config: invalid length 0, expected an object \
                     with the members of an image config";
        assert!(error.starts_with(words), "{error}");
    }

    #[test]
    fn reads_a_config_with_little_in_it() {
        let raw = br#"{"architecture":"amd64","os":"linux","config":{"Labels":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(raw.to_vec()).unwrap();
        assert_eq!(config.raw(), raw);
        assert_eq!((config.version(), config.is_bootable()), (None, false));
        assert_eq!((config.diff_ids.len(), config.history.len()), (0, 0));
    }

    #[test]
    fn the_version_is_the_oci_label_first() {
        let with = |labels: &str| {
            let raw = format!(
                r#"{{"architecture":"a","os":"o","config":{{"Labels":{{{labels}}}}},"rootfs":{{"diff_ids":[]}}}}"#
            );
            ImageConfig::parse(raw.into()).unwrap()
        };
        let both = with(r#""version":"old","org.opencontainers.image.version":"42.1""#);
        assert_eq!(both.version(), Some("42.1"));
        assert_eq!(with(r#""version":"old""#).version(), Some("old"));
        assert!(with(r#""containers.bootc":"""#).is_bootable());
    }

    #[test]
    fn an_image_is_for_one_architecture() {
        let on = |os: &str, arch: &str| {
            let raw = format!(r#"{{"architecture":"{arch}","os":"{os}","rootfs":{{}}}}"#);
            ImageConfig::parse(raw.into()).unwrap()
        };
        assert!(on("linux", "amd64").is_for("amd64"));
        assert!(on("linux", "arm").is_for("arm/v7"));
        assert!(!on("linux", "amd64").is_for("arm64"));
        assert!(!on("windows", "amd64").is_for("amd64"));
    }
}
