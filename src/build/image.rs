//! The words of an image around a commit: labels, config, manifest. What a commit says and what the user asks
//! for come in, bytes go out, the same each time. Pure: reads and writes nothing.
//!
//! Labels: those of ostree-ext and bootc; shapes: image-spec, config.md and manifest.md.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use chrono::DateTime;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::compress::LayerCompression;
use crate::image::{Digest, LABEL_FINAL_DIFFID, host_arch, is_arch, normalize_arch};
use crate::repo::CommitFacts;

/// Media type of the manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// The commit that is in the image.
const LABEL_COMMIT: &str = "ostree.commit";
const LABEL_VERSION: &str = "org.opencontainers.image.version";
/// That a host can boot it: ostree's key of a commit's metadata, which is the label, too, and bootc's label.
const KEY_BOOTABLE: &str = "ostree.bootable";
const LABEL_BOOTC: &str = "containers.bootc";
/// Release of the kernel, in both.
const KEY_LINUX: &str = "ostree.linux";
const KEY_VERSION: &str = "version";
/// Keys of a commit's metadata.
const KEY_COMMAND: &str = "ostree.container-cmd";
const KEY_ARCHITECTURE: &str = "ostree.architecture";

/// A key that the commit must have and has not.
#[derive(Debug, Error)]
#[error("the commit's metadata has no {0}")]
pub struct NoMetadata(String);

/// What the user asks for beside what the commit says.
#[derive(Debug, Clone, Default)]
pub struct ImageWishes {
    /// Labels; they win against all but those that name commit and layers.
    pub labels: BTreeMap<String, String>,
    /// Texts of the commit's metadata that become labels; each must be there.
    pub copied: Vec<String>,
    /// The same, where they are there.
    pub copied_if_there: Vec<String>,
    /// What a container runs, instead of what the commit says.
    pub command: Option<Vec<String>>,
    /// Properties of the image config's `config`.
    pub config: BTreeMap<String, Value>,
    /// When the image was made, RFC 3339, instead of the commit's time.
    pub created: Option<String>,
    /// GOARCH word, instead of what the commit says, or this machine's.
    pub arch: Option<String>,
}

/// What is known of a finished layer.
#[derive(Debug, Clone)]
pub struct WrittenLayer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Digest of the tar stream.
    pub diff_id: Digest,
    /// Annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
    /// Where it comes from, for people.
    pub history: String,
}

/// An image whose layers are finished.
#[derive(Debug)]
pub struct ImageText {
    /// The config.
    pub config: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// What an image is put together of.
#[derive(Debug)]
pub struct ImageParts<'a> {
    /// When it was made, RFC 3339.
    pub created: String,
    /// GOARCH word.
    pub architecture: String,
    /// What a container gets.
    pub config: BTreeMap<String, Value>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The layers, in order.
    pub layers: &'a [WrittenLayer],
    /// How they are compressed.
    pub compression: LayerCompression,
}

/// Puts the image of a commit together. The layers all belong to the commit.
pub fn image_text(
    commit: &CommitFacts,
    wishes: &ImageWishes,
    layers: &[WrittenLayer],
    compression: LayerCompression,
) -> Result<ImageText> {
    let last = layers.last().context("an image has layers")?.diff_id;
    let mut labels = labels(commit, wishes)?;
    labels.insert(LABEL_FINAL_DIFFID.into(), last.to_string());
    let parts = ImageParts {
        created: created(commit, wishes)?,
        architecture: architecture(commit, wishes)?,
        config: runtime(commit, wishes, &labels)?,
        annotations: labels,
        layers,
        compression,
    };
    parts.render()
}

impl ImageParts<'_> {
    /// The bytes.
    pub fn render(&self) -> Result<ImageText> {
        let history = self.layers.iter().map(|layer| History {
            created: &self.created,
            created_by: &layer.history,
        });
        let config = Config {
            created: &self.created,
            architecture: &self.architecture,
            os: "linux",
            config: &self.config,
            rootfs: RootFs {
                kind: "layers",
                diff_ids: self.layers.iter().map(|layer| layer.diff_id).collect(),
            },
            history: history.collect(),
        };
        let config = serde_json::to_vec(&config).context("Writing the config")?;
        let layers = self.layers.iter().map(|layer| Descriptor {
            media_type: self.compression.media_type(),
            digest: layer.digest,
            size: layer.size,
            annotations: &layer.annotations,
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            config: Descriptor {
                media_type: CONFIG_TYPE,
                digest: Digest::of(&config),
                size: config.len() as u64,
                annotations: &BTreeMap::new(),
            },
            layers: layers.collect(),
            annotations: &self.annotations,
        };
        let manifest = serde_json::to_vec(&manifest).context("Writing the manifest")?;
        Ok(ImageText { config, manifest })
    }
}

/// What the first layer is called in the history.
pub fn describe(commit: &CommitFacts) -> String {
    match commit.subject.is_empty() {
        true => format!("ostree export of commit {}", commit.checksum.hex()),
        false => commit.subject.clone(),
    }
}

fn labels(commit: &CommitFacts, wishes: &ImageWishes) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for key in &wishes.copied {
        let value = commit.text(key)?;
        let value = value.ok_or_else(|| NoMetadata(key.clone()))?;
        labels.insert(key.clone(), value);
    }
    for key in &wishes.copied_if_there {
        labels.extend(commit.text(key)?.map(|value| (key.clone(), value)));
    }
    if let Some(bootable) = commit.flag(KEY_BOOTABLE)? {
        labels.insert(KEY_BOOTABLE.into(), bootable.to_string());
        labels.insert(LABEL_BOOTC.into(), "1".into());
    }
    for (key, label) in [(KEY_LINUX, KEY_LINUX), (KEY_VERSION, LABEL_VERSION)] {
        labels.extend(commit.text(key)?.map(|value| (label.into(), value)));
    }
    labels.extend(wishes.labels.clone());
    labels.insert(LABEL_COMMIT.into(), commit.checksum.hex());
    Ok(labels)
}

pub(super) fn created(commit: &CommitFacts, wishes: &ImageWishes) -> Result<String> {
    if let Some(created) = &wishes.created {
        let parsed = DateTime::parse_from_rfc3339(created);
        parsed.with_context(|| format!("{created:?} is no time in the form of RFC 3339"))?;
        return Ok(created.clone());
    }
    format_time(commit.timestamp)
}

/// Seconds since 1970 as a config says them.
pub fn format_time(seconds: u64) -> Result<String> {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|time| DateTime::from_timestamp(time, 0));
    let time = time.with_context(|| format!("{seconds} seconds since 1970 are no time"))?;
    Ok(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn architecture(commit: &CommitFacts, wishes: &ImageWishes) -> Result<String> {
    if let Some(arch) = &wishes.arch {
        return Ok(arch.clone());
    }
    let said = commit.text(KEY_ARCHITECTURE)?;
    let known = said
        .map(|arch| normalize_arch(&arch))
        .filter(|arch| is_arch(arch));
    Ok(known.unwrap_or_else(host_arch))
}

/// What a container gets.
fn runtime(
    commit: &CommitFacts,
    wishes: &ImageWishes,
    labels: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>> {
    let mut config = wishes.config.clone();
    let mut all: BTreeMap<String, Value> = match config.remove("Labels") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(given)) => given.into_iter().collect(),
        Some(_) => bail!("Labels in the container configuration is no JSON object"),
    };
    let own = labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()));
    all.extend(own);
    config.insert("Labels".into(), all.into_iter().collect());
    let command = match &wishes.command {
        Some(command) => Some(command.clone()),
        None => commit.texts(KEY_COMMAND)?,
    };
    if let Some(command) = command {
        config.insert("Cmd".into(), command.into());
    }
    Ok(config)
}

#[derive(Serialize)]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    config: &'a BTreeMap<String, Value>,
    rootfs: RootFs<'a>,
    history: Vec<History<'a>>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: Vec<Digest>,
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::repo::Repo;
    use crate::testing::fixture::{Fixture, OS};

    fn facts(fixture: &Fixture) -> CommitFacts {
        let commit = fixture.commit(OS).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        repo.commit_facts(Digest::from_hex(&commit).unwrap())
            .unwrap()
    }

    fn layer(name: &str) -> WrittenLayer {
        WrittenLayer {
            digest: Digest::of(name.as_bytes()),
            size: 7,
            diff_id: Digest::of(format!("{name} tar").as_bytes()),
            annotations: BTreeMap::new(),
            history: name.into(),
        }
    }

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn labels_are_annotations_and_what_the_commit_says_is_said() {
        let facts = facts(&Fixture::new().unwrap());
        let wishes = ImageWishes {
            labels: BTreeMap::from([("a".into(), "b".into()), (LABEL_COMMIT.into(), "x".into())]),
            copied: vec!["version".into()],
            copied_if_there: vec!["none".into(), "ostree.linux".into()],
            command: Some(vec!["/bin/sh".into()]),
            config: BTreeMap::from([
                ("Labels".into(), json!({"c": "d", "a": "lost"})),
                ("User".into(), json!("1")),
            ]),
            arch: Some("arm64".into()),
            ..ImageWishes::default()
        };
        let layers = [layer("commit"), layer("chunk")];
        let text = image_text(&facts, &wishes, &layers, LayerCompression::Zstd(3)).unwrap();
        let (manifest, config) = (parse(&text.manifest), parse(&text.config));
        let expected = json!({
            "a": "b", "version": "1", "ostree.linux": "6.1.0", "ostree.bootable": "true",
            "containers.bootc": "1", "ostree.commit": facts.checksum.hex(),
            "org.opencontainers.image.version": "1",
            "ostree.final-diffid": layers[1].diff_id.to_string(),
        });
        assert_eq!(manifest["annotations"], expected);
        let mut in_config = expected;
        in_config["c"] = "d".into();
        assert_eq!(config["config"]["Labels"], in_config);
        assert_eq!(config["config"]["User"], "1");
        assert_eq!(config["config"]["Cmd"], json!(["/bin/sh"]));
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["created"], "2026-01-01T00:00:00Z");
        assert_eq!(
            config["history"][1],
            json!({"created": config["created"], "created_by": "chunk"})
        );
        assert_eq!(
            manifest["config"]["digest"],
            Digest::of(&text.config).to_string()
        );
        assert_eq!(
            manifest["layers"][0]["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+zstd"
        );
        assert_eq!(manifest["layers"][0].get("annotations"), None);
    }

    #[test]
    fn what_is_missing_or_no_time_is_refused() {
        let facts = facts(&Fixture::new().unwrap());
        let refused = |wishes: &ImageWishes| {
            let text = image_text(&facts, wishes, &[layer("l")], LayerCompression::None);
            format!("{:#}", text.unwrap_err())
        };
        let copied = vec!["none".into()];
        let wishes = ImageWishes {
            copied,
            ..ImageWishes::default()
        };
        assert_eq!(refused(&wishes), "the commit's metadata has no none");
        let created = Some("yesterday".into());
        let wishes = ImageWishes {
            created,
            ..ImageWishes::default()
        };
        assert!(refused(&wishes).contains("no time"));
        let config = BTreeMap::from([("Labels".into(), json!([]))]);
        let wishes = ImageWishes {
            config,
            ..ImageWishes::default()
        };
        assert!(refused(&wishes).contains("no JSON object"));
        assert!(format_time(u64::MAX).is_err());
    }
}
