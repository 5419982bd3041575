//! From a source to one image's manifest and config: walks an index to the host's architecture and
//! checks every digest on the way. One request for a plain manifest. Never opens a layer.

use futures_util::TryStreamExt;

use super::files::{read_bounded, too_large, verify};
use super::{Blob, Error, ImageSource, RawManifest, Resolved};
use crate::image::{
    Descriptor, Digest, ImageConfig, Index, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    ManifestOrIndex,
};

/// Indexes that may lie above a manifest: an index of an index is used, more is a riddle.
const MAX_INDEX_LEVELS: usize = 2;

/// Asks `source` for its manifest and walks an index to the entry for `arch` (a GOARCH word).
///
/// The manifest may still be for another architecture, since a plain manifest does not say:
/// callers compare the config.
pub async fn resolve(source: &dyn ImageSource, arch: &str) -> Result<Resolved, Error> {
    let mut found = parse(source, source.manifest(None).await?)?;
    let mut outer = None;
    for level in 0.. {
        match found {
            ManifestOrIndex::Manifest(manifest) => {
                return Ok(Resolved {
                    manifest,
                    index: outer,
                });
            }
            ManifestOrIndex::Index(_) if level == MAX_INDEX_LEVELS => break,
            ManifestOrIndex::Index(index) => {
                outer = outer.or(Some(index.digest()));
                found = descend(source, &index, arch).await?;
            }
        }
    }
    Err(Error::Refused {
        place: source.place(),
        detail: format!("more than {MAX_INDEX_LEVELS} indexes lie above the image"),
    })
}

async fn descend(
    source: &dyn ImageSource,
    index: &Index,
    arch: &str,
) -> Result<ManifestOrIndex, Error> {
    let entry = index
        .choose(arch)
        .map_err(|error| unusable(source, index.digest(), error))?;
    let raw = source.manifest(Some(&entry.digest)).await?;
    verify(&raw.bytes, &entry.digest, entry.size, &source.place())?;
    let stated = Some(entry.media_type.clone()).filter(|t| !t.is_empty());
    parse(
        source,
        RawManifest {
            media_type: raw.media_type.or(stated),
            ..raw
        },
    )
}

fn parse(source: &dyn ImageSource, raw: RawManifest) -> Result<ManifestOrIndex, Error> {
    if raw.bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(too_large(&source.place()));
    }
    let digest = Digest::of(&raw.bytes);
    ManifestOrIndex::parse(raw.bytes, raw.media_type.as_deref())
        .map_err(|error| unusable(source, digest, error))
}

fn unusable(source: &dyn ImageSource, digest: Digest, error: ManifestError) -> Error {
    Error::Manifest {
        place: source.place(),
        digest,
        source: error,
    }
}

/// Fetches the config of `manifest`, checks its size and digest, and parses it.
pub async fn fetch_config(
    source: &dyn ImageSource,
    manifest: &Manifest,
) -> Result<ImageConfig, Error> {
    let config = &manifest.config;
    let place = format!("config {} of {}", config.digest, source.place());
    if config.size.is_some_and(|size| size > MAX_MANIFEST_BYTES) {
        return Err(too_large(&place));
    }
    let bytes = loop {
        let bytes = read_blob(source, config, &place).await?;
        match verify(&bytes, &config.digest, config.size, &place) {
            Ok(()) => break bytes,
            Err(_) if source.discredit(&config.digest) => {}
            Err(error) => return Err(error),
        }
    };
    ImageConfig::parse(bytes).map_err(|error| unusable(source, config.digest, error))
}

async fn read_blob(
    source: &dyn ImageSource,
    blob: &Descriptor,
    place: &str,
) -> Result<Vec<u8>, Error> {
    let mut stream = match source.blob(blob).await? {
        Blob::Reader(reader) => return read_bounded(reader, place),
        Blob::Stream(stream) => stream,
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(too_large(place));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    /// Blobs by digest; the last manifest that was put in is the one the name leads to.
    #[derive(Debug, Default)]
    struct Memory {
        blobs: HashMap<Digest, Vec<u8>>,
        name: Vec<u8>,
        requests: AtomicUsize,
    }

    impl Memory {
        /// Puts something in and gives its descriptor.
        fn put(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
            let digest = Digest::of(&bytes);
            let descriptor = json!({
                "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()
            });
            self.name.clone_from(&bytes);
            self.blobs.insert(digest, bytes);
            descriptor
        }

        fn image(&mut self, config: Vec<u8>) -> Value {
            let config = self.put("application/vnd.oci.image.config.v1+json", config);
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
            self.put(MANIFEST, manifest.to_string().into())
        }

        fn index(&mut self, entry: Value) -> Value {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            self.put(INDEX, index.to_string().into())
        }

        fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let found = self.blobs.get(digest).cloned();
            found.ok_or_else(|| Error::NotFound {
                place: digest.to_string(),
            })
        }
    }

    #[async_trait::async_trait]
    impl ImageSource for Memory {
        async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error> {
            let digest = digest.copied().unwrap_or(Digest::of(&self.name));
            Ok(RawManifest {
                bytes: self.get(&digest)?,
                media_type: None,
            })
        }

        async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error> {
            let bytes = self.get(&blob.digest)?;
            let half = bytes.len() / 2;
            let chunks = [bytes[..half].to_vec(), bytes[half..].to_vec()];
            let chunks = chunks.map(|c| Ok(c.into()));
            Ok(Blob::Stream(Box::pin(futures_util::stream::iter(chunks))))
        }

        fn place(&self) -> String {
            "memory".into()
        }
    }

    fn config() -> Vec<u8> {
        br#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]}}"#.to_vec()
    }

    fn on(mut entry: Value, arch: &str) -> Value {
        entry["platform"] = json!({"os": "linux", "architecture": arch});
        entry
    }

    #[tokio::test]
    async fn a_plain_manifest_costs_one_request() {
        let mut source = Memory::default();
        let entry = source.image(config());
        let resolved = resolve(&source, "amd64").await.unwrap();
        assert_eq!(resolved.manifest.digest().to_string(), entry["digest"]);
        assert_eq!(resolved.index, None);
        assert_eq!(source.requests.load(Ordering::Relaxed), 1);
        let found = fetch_config(&source, &resolved.manifest).await.unwrap();
        assert_eq!(found.raw(), config());
    }

    #[tokio::test]
    async fn indexes_are_walked_to_the_architecture() {
        let mut source = Memory::default();
        let image = source.image(config());
        let inner = source.index(on(image.clone(), "amd64"));
        let resolved = resolve(&source, "amd64").await.unwrap();
        assert_eq!(resolved.manifest.digest().to_string(), image["digest"]);
        let index = |r: &Resolved| r.index.map(|d| json!(d.to_string()));
        assert_eq!(index(&resolved), Some(inner["digest"].clone()));
        let error = resolve(&source, "arm64").await.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("it has no image for linux/arm64; it has linux/amd64")
        );
        let outer = source.index(inner);
        let resolved = resolve(&source, "amd64").await.unwrap();
        assert_eq!(index(&resolved), Some(outer["digest"].clone()));
        source.index(outer);
        let error = resolve(&source, "amd64").await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_an_index_leads_to_is_verified() {
        for (key, value) in [
            ("size", json!(7)),
            ("digest", json!(Digest::of(b"x").to_string())),
        ] {
            let mut source = Memory::default();
            let mut image = source.image(config());
            source.blobs.insert(Digest::of(b"x"), source.name.clone());
            image[key] = value;
            source.index(on(image, "amd64"));
            let error = resolve(&source, "amd64").await.unwrap_err();
            assert!(matches!(error, Error::Mismatch { .. }), "{key}: {error}");
        }
    }

    #[tokio::test]
    async fn a_config_is_verified_and_bounded() {
        let mut source = Memory::default();
        source.image(config());
        let mut manifest = resolve(&source, "amd64").await.unwrap().manifest;
        let right = manifest.config.clone();
        manifest.config.size = Some(7);
        let wrong_size = fetch_config(&source, &manifest).await.unwrap_err();
        assert!(matches!(wrong_size, Error::Mismatch { .. }));
        let other = Digest::of(b"other");
        source.blobs.insert(other, config());
        manifest.config = Descriptor {
            digest: other,
            ..right.clone()
        };
        let wrong_digest = fetch_config(&source, &manifest).await.unwrap_err();
        assert!(matches!(wrong_digest, Error::Mismatch { .. }));
        source
            .blobs
            .insert(other, vec![b' '; MAX_MANIFEST_BYTES as usize + 1]);
        for size in [None, Some(MAX_MANIFEST_BYTES + 1)] {
            manifest.config = Descriptor {
                digest: other,
                size,
                ..right.clone()
            };
            let large = fetch_config(&source, &manifest).await.unwrap_err();
            assert!(matches!(large, Error::Refused { .. }), "{large}");
        }
    }
}
