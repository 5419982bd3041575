//! Layers to an image: manifest, config, and the OCI layout directory that holds them. Tar streams
//! come in, finished bytes go out; every value that a reader checks can be made wrong on purpose.
//! Never looks into a layer.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use fn_error_context::context;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::image::{Compression, Digest, host_arch};

/// One layer, wrapped and measured. The fields are what the manifest and the config will say.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The bytes of the blob.
    pub blob: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes; negative where a writer did not know.
    pub size: i64,
    /// Digest of the tar stream.
    pub diff_id: Digest,
    /// How it is wrapped.
    pub compression: Compression,
    /// Its media type, where it is not the one that follows from `compression`.
    pub media_type: Option<String>,
    /// Annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
    /// `created_by` of its history entry.
    pub history: String,
}

impl Layer {
    /// Wraps a finished tar stream.
    pub fn new(tar: &[u8], compression: Compression) -> Result<Self> {
        Self::write(compression, |out| Ok(out.write_all(tar)?))
    }

    /// Wraps the tar stream that `fill` writes.
    pub fn write(
        compression: Compression,
        fill: impl FnOnce(&mut LayerWriter) -> Result<()>,
    ) -> Result<Self> {
        let mut writer = LayerWriter::new(compression)?;
        fill(&mut writer)?;
        let (blob, diff_id) = writer.finish()?;
        Ok(Self {
            digest: Digest::of(&blob),
            size: i64::try_from(blob.len())?,
            blob,
            diff_id,
            compression,
            media_type: None,
            annotations: BTreeMap::new(),
            history: "layer".into(),
        })
    }

    /// The same tar stream under another compression.
    pub fn recompressed(&self, compression: Compression) -> Result<Self> {
        let mut tar = Vec::new();
        let mut input: Box<dyn io::Read + '_> = match self.compression {
            Compression::None => Box::new(self.blob.as_slice()),
            Compression::Gzip => Box::new(flate2::read::GzDecoder::new(self.blob.as_slice())),
            Compression::Zstd => Box::new(zstd::Decoder::new(self.blob.as_slice())?),
        };
        io::copy(&mut input, &mut tar)?;
        Ok(Self {
            annotations: self.annotations.clone(),
            history: self.history.clone(),
            ..Self::new(&tar, compression)?
        })
    }

    fn media_type(&self, docker: bool) -> String {
        let stem = match docker {
            true => "application/vnd.docker.image.rootfs.diff.tar",
            false => "application/vnd.oci.image.layer.v1.tar",
        };
        let suffix = match (self.compression, docker) {
            (Compression::None, _) => "",
            (Compression::Gzip, true) => ".gzip",
            (Compression::Gzip, false) => "+gzip",
            (Compression::Zstd, _) => "+zstd",
        };
        let usual = || format!("{stem}{suffix}");
        self.media_type.clone().unwrap_or_else(usual)
    }
}

/// Takes a tar stream, hashes and compresses it.
pub struct LayerWriter {
    hash: Sha256,
    out: Encoder,
}

enum Encoder {
    None(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LayerWriter")
    }
}

impl LayerWriter {
    fn new(compression: Compression) -> Result<Self> {
        let out = match compression {
            Compression::None => Encoder::None(Vec::new()),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            Compression::Zstd => Encoder::Zstd(zstd::Encoder::new(Vec::new(), 3)?),
        };
        let hash = Sha256::new();
        Ok(Self { hash, out })
    }

    fn finish(self) -> Result<(Vec<u8>, Digest)> {
        let blob = match self.out {
            Encoder::None(blob) => blob,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        Ok((blob, Digest::from_bytes(self.hash.finalize().into())))
    }
}

impl Write for LayerWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = match &mut self.out {
            Encoder::None(out) => out.write(data)?,
            Encoder::Gzip(out) => out.write(data)?,
            Encoder::Zstd(out) => out.write(data)?,
        };
        self.hash.update(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an image is made of, before it is bytes.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    /// The layers, base first.
    pub layers: Vec<Layer>,
    /// `config.Labels`.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// GOARCH word.
    pub architecture: String,
    /// Whether to write a Docker v2 schema 2 manifest instead of an OCI one.
    pub docker: bool,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: "2026-01-01T00:00:00Z".into(),
            architecture: host_arch(),
            docker: false,
        }
    }
}

impl ImageBuilder {
    /// Puts one more layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Puts one more layer on top, given as fixture lines, gzip-compressed.
    pub fn derived(self, lines: &str) -> Result<Self> {
        let layer = Layer::new(&super::tar::layer(lines)?, Compression::Gzip)?;
        Ok(self.layer(layer))
    }

    /// Renders manifest and config.
    pub fn build(&self) -> Image {
        let config = self.config().to_string().into_bytes();
        let (manifest_type, config_type) = match self.docker {
            true => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
            false => (
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.config.v1+json",
            ),
        };
        let layers = self.layers.iter().map(|layer| {
            let mut descriptor = json!({
                "mediaType": layer.media_type(self.docker),
                "digest": layer.digest,
                "size": layer.size,
            });
            if !layer.annotations.is_empty() {
                descriptor["annotations"] = json!(layer.annotations);
            }
            descriptor
        });
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {
                "mediaType": config_type,
                "digest": Digest::of(&config),
                "size": config.len(),
            },
            "layers": layers.collect::<Vec<_>>(),
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        let layers = self.layers.iter().map(|l| (l.digest, l.blob.clone()));
        Image {
            blobs: layers.collect(),
            manifest: manifest.to_string().into_bytes(),
            media_type: manifest_type.into(),
            architecture: self.architecture.clone(),
            config,
        }
    }

    fn config(&self) -> Value {
        let history = self.layers.iter();
        let history = history.map(|l| json!({"created": self.created, "created_by": l.history}));
        let diff_ids = self.layers.iter().map(|l| l.diff_id);
        json!({
            "created": self.created,
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>() },
            "history": history.collect::<Vec<_>>(),
        })
    }
}

/// An image as bytes. Change a blob to make it corrupt.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// The config.
    pub config: Vec<u8>,
    /// The layers' bytes by the digest that the manifest gives.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// GOARCH word.
    pub architecture: String,
}

impl Image {
    /// Digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Digest of the config.
    pub fn config_digest(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// Writes the image under `tag` into an OCI layout directory, which is made where it is
    /// missing; another image under that tag loses it.
    #[context("Writing image {tag} to {}", dir.display())]
    pub fn write_layout(&self, dir: &Path, tag: &str) -> Result<()> {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let own = [
            (self.digest(), &self.manifest),
            (self.config_digest(), &self.config),
        ];
        for (digest, bytes) in self.blobs.iter().map(|(d, b)| (*d, b)).chain(own) {
            std::fs::write(blobs.join(digest.hex()), bytes)?;
        }
        let path = dir.join("index.json");
        let mut entries: Vec<Value> = match std::fs::read(&path) {
            Ok(old) => {
                serde_json::from_value(serde_json::from_slice::<Value>(&old)?["manifests"].take())?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e.into()),
        };
        entries.retain(|e| e["annotations"]["org.opencontainers.image.ref.name"] != tag);
        entries.push(self.descriptor(tag));
        let index = json!({"schemaVersion": 2, "manifests": entries});
        Ok(std::fs::write(path, index.to_string())?)
    }

    fn descriptor(&self, tag: &str) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest(),
            "size": self.manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag },
            "platform": { "architecture": self.architecture, "os": "linux" },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ImageConfig, ImageLayout, LayerKind, ManifestOrIndex};

    fn parsed(image: &Image) -> ImageLayout {
        let manifest = ManifestOrIndex::parse(image.manifest.clone(), None).unwrap();
        let ManifestOrIndex::Manifest(manifest) = manifest else {
            panic!("it is an index");
        };
        assert_eq!(manifest.config.digest, image.config_digest());
        let config = ImageConfig::parse(image.config.clone()).unwrap();
        ImageLayout::new(&manifest, &config).unwrap()
    }

    #[test]
    fn both_kinds_of_manifest_are_read_back() {
        let (none, gzip, zstd) = (Compression::None, Compression::Gzip, Compression::Zstd);
        // There is no Docker media type of a zstd layer.
        for (docker, expected) in [(false, vec![none, gzip, zstd]), (true, vec![none, gzip])] {
            let mut builder = ImageBuilder {
                docker,
                ..ImageBuilder::default()
            };
            for compression in expected.clone() {
                let layer = Layer::new(b"not a tar", compression).unwrap();
                assert_eq!(layer.diff_id, Digest::of(b"not a tar"));
                builder = builder.layer(layer);
            }
            let layout = parsed(&builder.build());
            let kinds = layout.layers().iter().map(|l| l.compression);
            assert_eq!(kinds.collect::<Vec<_>>(), expected);
            assert_eq!(layout.of_kind(LayerKind::Derived).count(), expected.len());
        }
    }

    #[test]
    fn recompressing_keeps_the_diff_id() {
        let gzip = Layer::new(b"bytes", Compression::Gzip).unwrap();
        let zstd = gzip.recompressed(Compression::Zstd).unwrap();
        assert_eq!(gzip.diff_id, zstd.diff_id);
        assert_ne!(gzip.digest, zstd.digest);
    }

    #[test]
    fn a_tag_moves() {
        let dir = tempfile::tempdir().unwrap();
        let image = |label: &str| {
            let mut builder = ImageBuilder::default();
            builder.labels.insert("l".into(), label.into());
            builder.build()
        };
        for (name, tag) in [("a", "x"), ("b", "y"), ("c", "x")] {
            image(name).write_layout(dir.path(), tag).unwrap();
        }
        let index = std::fs::read(dir.path().join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let digests = index["manifests"].as_array().unwrap().iter();
        let digests: Vec<String> = digests
            .map(|m| m["digest"].as_str().unwrap().into())
            .collect();
        let expected = ["b", "c"].map(|name| image(name).digest().to_string());
        assert_eq!(digests, expected);
    }
}
