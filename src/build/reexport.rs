//! A stored image goes back out. A repository, an image in it and a destination come in; the image under
//! another name goes out, with the same config and the same layers. Layers are put together again from
//! objects and checked against their diff_ids; only their compression, and with it the digests in the
//! manifest, may be others. What the destination has of the image already is used as it is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;

use super::compress::{Compressor, LayerBlob, LayerCompression};
use super::write_layers::{LayerJob, Stop, write_layers};
use crate::image::{Compression, Digest, ImageLayout, Layer};
use crate::progress::{Event, ProgressSink};
use crate::repo::{ImageRecord, NoRecord, Repo};
use crate::transport::push::{Destination, PushedManifest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Annotations that say where in the compressed blob something is.
const POSITIONS: [&str; 2] = [
    "io.github.containers.zstd-chunked.",
    "io.containers.zstd-chunked.",
];
/// Bytes of a layer that are compressed at once.
const BUFFER: usize = 64 << 10;

/// Why an image that is stored cannot go out as it came.
#[derive(Debug, Error)]
pub enum ReexportError {
    /// The config is not the one that the manifest names.
    #[error("the config that is stored for this image is not the one that its manifest names")]
    Config,
    /// What a layer was put together to is not what it was.
    #[error(
        "the layer with diff_id {expected} was put together to {found}: an object of it is damaged or missing"
    )]
    DiffId {
        /// What the config says.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
}

/// Brings an image to `destination`, `jobs` layers at a time, and gives the digest of its manifest there.
/// Layers get `compression`, or keep theirs.
pub async fn run(
    repo: &Repo,
    image: &ImageRecord,
    destination: &Destination,
    (compression, jobs): (Option<Compression>, usize),
    progress: &Arc<dyn ProgressSink>,
) -> Result<Digest> {
    let config = Bytes::copy_from_slice(image.config.raw());
    if Digest::of(&config) != image.manifest.config.digest {
        return Err(ReexportError::Config.into());
    }
    let layers = ImageLayout::new(&image.manifest, &image.config)?;
    let ready = existing(layers.layers(), destination, compression).await?;
    for layer in layers.layers() {
        let there = ready.contains_key(&layer.diff_id);
        if !there && !repo.has_record(&layer.diff_id)? {
            return Err(NoRecord(layer.diff_id).into());
        }
    }
    let written = write(
        repo,
        &layers,
        ready,
        destination,
        (compression, jobs),
        progress,
    );
    let blobs = written.await?;
    let manifest = manifest(image, &layers, &blobs)?;
    let (digest, size) = (image.manifest.config.digest, config.len() as u64);
    if !destination.has_blob(&digest, size).await? {
        destination.put_blob(&digest, size, &config).await?;
    }
    let digest = Digest::of(&manifest);
    let pushed = PushedManifest {
        bytes: &manifest,
        digest: &digest,
        media_type: MANIFEST,
    };
    destination.put_manifest(&pushed).await?;
    Ok(digest)
}

/// A layer's blob at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    digest: Digest,
    size: u64,
    compression: Compression,
    /// Whether it is the blob that the stored manifest names.
    original: bool,
}

/// The layers whose blobs are there already, by diff_id.
async fn existing(
    layers: &[Layer],
    destination: &Destination,
    compression: Option<Compression>,
) -> Result<HashMap<Digest, Written>> {
    let mut found = HashMap::new();
    for layer in layers {
        let Some(size) = layer.descriptor.size.filter(|size| *size > 0) else {
            continue;
        };
        let fits = compression.is_none_or(|wanted| wanted == layer.compression);
        let known = found.contains_key(&layer.diff_id);
        if fits && !known && destination.has_blob(&layer.descriptor.digest, size).await? {
            let written = Written {
                digest: layer.descriptor.digest,
                size,
                compression: layer.compression,
                original: true,
            };
            found.insert(layer.diff_id, written);
        }
    }
    Ok(found)
}

/// Writes the layers that are not in `done`; those that stand in the image twice are written once.
async fn write(
    repo: &Repo,
    layers: &ImageLayout,
    mut done: HashMap<Digest, Written>,
    destination: &Destination,
    (compression, jobs): (Option<Compression>, usize),
    progress: &Arc<dyn ProgressSink>,
) -> Result<HashMap<Digest, Written>> {
    announce(layers, &done, progress);
    let mut compressors = Compressors::default();
    let mut seen: HashSet<Digest> = done.keys().copied().collect();
    let mut work = Vec::new();
    for layer in layers.layers() {
        if !seen.insert(layer.diff_id) {
            continue;
        }
        let compression = compression.unwrap_or(layer.compression);
        work.push(Work {
            repo: repo.reopen()?,
            layer: layer.clone(),
            compression,
            compressor: compressors.of(compression)?,
            progress: progress.clone(),
        });
    }
    done.extend(write_layers(work, jobs.max(1), destination).await?);
    Ok(done)
}

/// One for each compression that is needed.
#[derive(Default)]
struct Compressors(Vec<(Compression, Compressor)>);

impl Compressors {
    fn of(&mut self, compression: Compression) -> Result<Compressor> {
        if let Some((_, found)) = self.0.iter().find(|(known, _)| *known == compression) {
            return Ok(found.clone());
        }
        let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let compressor = Compressor::new(how(compression), threads)?;
        self.0.push((compression, compressor.clone()));
        Ok(compressor)
    }
}

const fn how(compression: Compression) -> LayerCompression {
    match compression {
        Compression::None => LayerCompression::None,
        Compression::Gzip => LayerCompression::Gzip(LayerCompression::GZIP_LEVEL),
        Compression::Zstd => LayerCompression::Zstd(LayerCompression::ZSTD_LEVEL),
    }
}

fn announce(
    layers: &ImageLayout,
    done: &HashMap<Digest, Written>,
    progress: &Arc<dyn ProgressSink>,
) {
    let size = |layer: &Layer| layer.descriptor.size.unwrap_or(0);
    let (there, missing): (Vec<_>, Vec<_>) = layers
        .layers()
        .iter()
        .partition(|layer| done.contains_key(&layer.diff_id));
    progress.event(Event::Planned {
        layers: layers.layers().len(),
        layers_to_fetch: missing.len(),
        bytes_to_fetch: missing.into_iter().map(size).sum(),
        bytes_present: there.into_iter().map(size).sum(),
        bytes_reused: 0,
    });
}

/// One layer on its way.
struct Work {
    repo: Repo,
    layer: Layer,
    compression: Compression,
    compressor: Compressor,
    progress: Arc<dyn ProgressSink>,
}

impl LayerJob for Work {
    type Written = (Digest, Written);

    fn make(&self, file: Option<File>, stop: &Stop) -> Result<LayerBlob> {
        let (index, digest) = (self.layer.index, self.layer.descriptor.digest);
        self.progress.event(Event::LayerStarted {
            index,
            digest,
            size: self.layer.descriptor.size,
        });
        let made = self.rebuilt(file, stop);
        made.with_context(|| format!("Putting layer {digest} together"))
    }

    fn written(&self, blob: &LayerBlob) -> (Digest, Written) {
        let index = self.layer.index;
        self.progress.event(Event::LayerDone { index });
        let written = Written {
            digest: blob.digest,
            size: blob.size,
            compression: self.compression,
            original: false,
        };
        (self.layer.diff_id, written)
    }
}

impl Work {
    fn rebuilt(&self, file: Option<File>, stop: &Stop) -> Result<LayerBlob> {
        let file = file.map_or_else(|| self.repo.scratch_file(), Ok);
        let file = file.context("Making a scratch file")?;
        let out = stop.watch(self.compressor.layer(file)?);
        let mut out = BufWriter::with_capacity(BUFFER, out);
        let (expected, repo) = (self.layer.diff_id, &self.repo);
        repo.rebuild_layer(&expected, &mut out)?;
        let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let blob = out.inner.finish()?;
        match blob.diff_id {
            found if found == expected => Ok(blob),
            found => Err(ReexportError::DiffId { expected, found }.into()),
        }
    }
}

/// The stored manifest with the layers' blobs as they are now.
fn manifest(
    image: &ImageRecord,
    layers: &ImageLayout,
    blobs: &HashMap<Digest, Written>,
) -> Result<Vec<u8>> {
    let written = layers
        .layers()
        .iter()
        .map(|layer| blobs.get(&layer.diff_id));
    if written.clone().all(|w| w.is_some_and(|w| w.original)) {
        return Ok(image.manifest.raw().to_vec());
    }
    let mut json: Value = serde_json::from_slice(image.manifest.raw())?;
    let entries = json["layers"].as_array_mut().into_iter().flatten();
    for (entry, written) in entries.zip(written) {
        let written = written.context("A layer was forgotten")?;
        if written.original {
            continue;
        }
        entry["digest"] = written.digest.to_string().into();
        entry["size"] = written.size.into();
        entry["mediaType"] = how(written.compression).media_type().into();
        let annotations = entry.get_mut("annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            let names_position = |key: &str| POSITIONS.iter().any(|p| key.starts_with(p));
            annotations.retain(|key, _| !names_position(key));
        }
    }
    Ok(serde_json::to_vec(&json)?)
}
