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
    let bytes = read_blob(source, config, &place).await?;
    verify(&bytes, &config.digest, config.size, &place)?;
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
