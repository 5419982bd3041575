//! zstd:chunked layers as podman and buildah write them: a tar stream comes in, a layer whose blob
//! has a table of contents and tar-split data goes out. Everything in them can be changed before it is
//! written, so that tests can lie.
//!
//! Format: containers/storage, `pkg/chunked`; vbatts/tar-split.

use std::io::Read;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::oci::Layer;
use crate::image::{Compression, Digest};

const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// Where content is cut into frames of its own, bytes.
const CHUNK: usize = 40_000;
const ANNOTATION: &str = "io.github.containers.zstd-chunked.";

/// A layer in the making.
#[derive(Debug, Clone)]
pub struct ChunkedLayer {
    /// The layer's own frames.
    pub frames: Vec<u8>,
    /// Entries of the table of contents.
    pub entries: Vec<Value>,
    /// Entries of the tar-split data.
    pub split: Vec<Value>,
    /// Digest of the tar stream.
    pub diff_id: Digest,
}

impl ChunkedLayer {
    /// Takes a tar stream apart. No sparse files.
    pub fn new(tar: &[u8]) -> Result<Self> {
        let mut layer = Self {
            frames: Vec::new(),
            entries: Vec::new(),
            split: Vec::new(),
            diff_id: Digest::of(tar),
        };
        let mut at = 0;
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let start = usize::try_from(entry.raw_file_position())?;
            layer.segment(&tar[at..start])?;
            let mut content = Vec::new();
            if entry.header().entry_type().is_file() {
                entry.read_to_end(&mut content)?;
            }
            layer.file(&name, entry.header(), &content)?;
            at = start + content.len();
        }
        layer.segment(&tar[at..])?;
        Ok(layer)
    }

    fn segment(&mut self, bytes: &[u8]) -> Result<()> {
        let position = self.split.len();
        let payload = STANDARD.encode(bytes);
        self.split
            .push(json!({"type": 2, "payload": payload, "position": position}));
        self.frame(bytes)
    }

    fn frame(&mut self, bytes: &[u8]) -> Result<()> {
        self.frames.extend(zstd::encode_all(bytes, 3)?);
        Ok(())
    }

    fn file(&mut self, name: &str, header: &tar::Header, content: &[u8]) -> Result<()> {
        let position = self.split.len();
        let mut split = json!({"type": 1, "name": name, "payload": null, "position": position});
        let kind = match header.entry_type() {
            tar::EntryType::Regular => "reg",
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Link => "hardlink",
            _ => "char",
        };
        let mut entry = json!({
            "type": kind, "name": name, "mode": header.mode()?, "uid": header.uid()?,
            "gid": header.gid()?, "modtime": "1970-01-01T00:00:00Z",
        });
        let first = self.entries.len();
        if !content.is_empty() {
            split["size"] = content.len().into();
            split["payload"] = STANDARD.encode([0; 8]).into();
            entry["size"] = content.len().into();
            entry["digest"] = Digest::of(content).to_string().into();
            entry["offset"] = self.frames.len().into();
        }
        self.split.push(split);
        self.entries.push(entry);
        for (number, chunk) in content.chunks(CHUNK).enumerate() {
            if number > 0 {
                let offset = self.frames.len();
                self.entries.push(json!({
                    "type": "chunk", "name": name, "offset": offset,
                    "chunkOffset": number * CHUNK, "chunkSize": chunk.len(),
                    "chunkDigest": Digest::of(chunk),
                }));
            }
            self.frame(chunk)?;
        }
        if !content.is_empty() {
            self.entries[first]["endOffset"] = self.frames.len().into();
        }
        Ok(())
    }

    /// The table's entry of a file.
    pub fn entry(&mut self, name: &str) -> &mut Value {
        let mut entries = self.entries.iter_mut();
        entries
            .find(|entry| entry["name"] == name)
            .expect("the test knows its files")
    }

    /// Writes the layer.
    pub fn layer(&self) -> Result<Layer> {
        let lines: Vec<String> = self.split.iter().map(|line| format!("{line}\n")).collect();
        let lines = lines.concat();
        let split = zstd::encode_all(lines.as_bytes(), 3)?;
        let toc = json!({
            "version": 1, "entries": self.entries, "tarSplitDigest": Digest::of(&split),
        });
        let toc = toc.to_string();
        let packed = zstd::encode_all(toc.as_bytes(), 3)?;
        let mut blob = self.frames.clone();
        let toc_at = skippable(&mut blob, &packed);
        let split_at = skippable(&mut blob, &split);
        skippable(&mut blob, &[0; 64]);
        let annotations = [
            ("manifest-checksum", Digest::of(&packed).to_string()),
            (
                "manifest-position",
                format!("{toc_at}:{}:{}:1", packed.len(), toc.len()),
            ),
            (
                "tarsplit-position",
                format!("{split_at}:{}:{}", split.len(), lines.len()),
            ),
        ];
        let annotations = annotations
            .into_iter()
            .map(|(key, value)| (format!("{ANNOTATION}{key}"), value));
        Ok(Layer {
            digest: Digest::of(&blob),
            size: i64::try_from(blob.len())?,
            blob,
            diff_id: self.diff_id,
            compression: Compression::Zstd,
            media_type: None,
            annotations: annotations.collect(),
            history: "layer".into(),
        })
    }
}

/// Adds a skippable frame and tells where its data begins.
fn skippable(blob: &mut Vec<u8>, data: &[u8]) -> usize {
    blob.extend(SKIPPABLE);
    blob.extend((data.len() as u32).to_le_bytes());
    blob.extend(data);
    blob.len() - data.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tar;

    #[test]
    fn a_chunked_layer_is_plain_zstd_too() {
        let lines =
            "dir /usr 0 0 755\ndata /usr/big 0 0 644 100000 1\nfile /usr/e 0 0 644\nlink /l usr";
        let tar = tar::layer(lines).unwrap();
        let layer = ChunkedLayer::new(&tar).unwrap().layer().unwrap();
        assert_eq!(zstd::decode_all(&layer.blob[..]).unwrap(), tar);
        assert_eq!(layer.diff_id, Digest::of(&tar));
    }
}
