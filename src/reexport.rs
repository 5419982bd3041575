//! A stored image goes back out. A repository, an image in it and a destination come in; the image under
//! another name goes out, with the same config and the same layers. Layers are put together again from
//! objects and checked against their diff_ids; only their compression, and with it the digests in the
//! manifest, may be others. What the destination has of the image already is used as it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use crate::image::{Compression, Digest, ImageLayout, Layer};
use crate::progress::{Event, ProgressSink};
use crate::repo::{ImageRecord, NoRecord, Repo};
use crate::transport::push::{Content, Destination, PushedManifest};
use crate::transport::{Blob, Error};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Annotations that say where in the compressed blob something is.
const POSITIONS: [&str; 2] = [
    "io.github.containers.zstd-chunked.",
    "io.containers.zstd-chunked.",
];
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
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
    destination: &Arc<Destination>,
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
    let written = write_layers(
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

async fn write_layers(
    repo: &Repo,
    layers: &ImageLayout,
    mut done: HashMap<Digest, Written>,
    destination: &Arc<Destination>,
    (compression, jobs): (Option<Compression>, usize),
    progress: &Arc<dyn ProgressSink>,
) -> Result<HashMap<Digest, Written>> {
    let limit = Arc::new(Semaphore::new(destination.at_once(jobs)));
    let mut running = JoinSet::new();
    announce(layers, &done, progress);
    for layer in layers.layers() {
        let wanted = compression.unwrap_or(layer.compression);
        let written = Written {
            digest: layer.diff_id,
            size: 0,
            compression: wanted,
            original: false,
        };
        // A layer that stands in the image twice is written once.
        if done.contains_key(&layer.diff_id) {
            continue;
        }
        done.insert(layer.diff_id, written);
        let work = Work {
            repo: repo.reopen()?,
            layer: layer.clone(),
            compression: wanted,
            destination: destination.clone(),
            progress: progress.clone(),
        };
        let limit = limit.clone();
        running.spawn(async move {
            let _turn = limit.acquire_owned().await?;
            work.run().await
        });
    }
    while let Some(result) = running.join_next().await {
        let (diff_id, written) = result.context("A worker died")??;
        done.insert(diff_id, written);
    }
    Ok(done)
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
    destination: Arc<Destination>,
    progress: Arc<dyn ProgressSink>,
}

impl Work {
    async fn run(self) -> Result<(Digest, Written)> {
        let (index, diff_id) = (self.layer.index, self.layer.diff_id);
        self.progress.event(Event::LayerStarted {
            index,
            digest: self.layer.descriptor.digest,
            size: self.layer.descriptor.size,
        });
        let (repo, layer, compression) = (self.repo, self.layer, self.compression);
        let blob = spawn_blocking(move || compress(&repo, &layer, compression)).await;
        let (written, file) = blob.context("A worker died")??;
        let there = self.destination.has_blob(&written.digest, written.size);
        if !there.await? {
            let content = Scratch(file);
            let put = (self.destination).put_blob(&written.digest, written.size, &content);
            put.await?;
        }
        self.progress.event(Event::LayerDone { index });
        Ok((diff_id, written))
    }
}

/// Puts a layer together and compresses it into a file without a name.
fn compress(repo: &Repo, layer: &Layer, compression: Compression) -> Result<(Written, File)> {
    let diff_id = &layer.diff_id;
    let work = || {
        let file = repo.scratch_file().context("Making a scratch file")?;
        let blob = Hashing::new(BufWriter::with_capacity(BUFFER, file));
        let (found, blob) = wrap(repo, diff_id, compression, blob)?;
        if found != *diff_id {
            let expected = *diff_id;
            return Err(ReexportError::DiffId { expected, found }.into());
        }
        let written = Written {
            digest: Digest::from_bytes(blob.hasher.finalize().into()),
            size: blob.size,
            compression,
            original: false,
        };
        let file = blob
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        anyhow::Ok((written, file))
    };
    work().with_context(|| format!("Putting layer {} together", layer.descriptor.digest))
}

/// Writes the stream through a compressor; gives its digest.
fn wrap<W: Write>(
    repo: &Repo,
    diff_id: &Digest,
    compression: Compression,
    blob: Hashing<W>,
) -> Result<(Digest, Hashing<W>)> {
    let digest = |hasher: Sha256| Digest::from_bytes(hasher.finalize().into());
    Ok(match compression {
        Compression::None => {
            let mut tar = Hashing::new(blob);
            repo.rebuild_layer(diff_id, &mut tar)?;
            (digest(tar.hasher), tar.out)
        }
        Compression::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let encoder = flate2::write::GzEncoder::new(blob, level);
            let mut tar = Hashing::new(BufWriter::with_capacity(BUFFER, encoder));
            repo.rebuild_layer(diff_id, &mut tar)?;
            let encoder = tar
                .out
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            (digest(tar.hasher), encoder.finish()?)
        }
        Compression::Zstd => {
            let encoder = zstd::Encoder::new(blob, ZSTD_LEVEL)?;
            let mut tar = Hashing::new(BufWriter::with_capacity(BUFFER, encoder));
            repo.rebuild_layer(diff_id, &mut tar)?;
            let encoder = tar
                .out
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            (digest(tar.hasher), encoder.finish()?)
        }
    })
}

/// Hashes and counts what it passes on.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            hasher: Sha256::new(),
            size: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that is read from its beginning.
struct Scratch(File);

#[async_trait]
impl Content for Scratch {
    async fn open(&self) -> Result<Blob, Error> {
        let open = || {
            let mut file = self.0.try_clone()?;
            file.seek(SeekFrom::Start(0))?;
            Ok::<Box<dyn Read + Send>, io::Error>(Box::new(file))
        };
        let reader = open().map_err(|source| Error::Io {
            place: "a scratch file".into(),
            source,
        })?;
        Ok(Blob::Reader(reader))
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
        let suffix = match written.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        entry["mediaType"] = format!("{LAYER}{suffix}").into();
        if let Some(annotations) = entry["annotations"].as_object_mut() {
            let names_position = |key: &str| POSITIONS.iter().any(|p| key.starts_with(p));
            annotations.retain(|key, _| !names_position(key));
        }
    }
    Ok(serde_json::to_vec(&json)?)
}
