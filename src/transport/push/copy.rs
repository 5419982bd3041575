//! From one place to another: a source comes in, a plan of manifests and blobs goes out, and is
//! carried out. Manifests are copied byte for byte, so that digests and signatures stay good.
//! Never looks into a layer and never decides whether an image may be used.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::super::files::verify;
use super::{Content, Copied, Destination, PushedManifest};
use crate::image::{Descriptor, Digest, Index, Manifest, ManifestError, ManifestOrIndex};
use crate::progress::{Event, ProgressSink};
use crate::transport::{Blob, Error, ImageSource, RawManifest, resolve};

/// Images that an index may hold, itself and those below it: more is a riddle.
const MAX_MANIFESTS: usize = 1000;

/// Bytes between two progress events.
const REPORT_EVERY: u64 = 1 << 20;

/// What of a multi-platform image is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The image for an architecture (a GOARCH word).
    Arch(String),
    /// The index and all its images.
    All,
}

/// A manifest or index to copy.
#[derive(Debug)]
pub struct PlannedManifest {
    bytes: Vec<u8>,
    digest: Digest,
    media_type: String,
    /// The image, unless this is an index or no image at all.
    pub image: Option<Manifest>,
}

/// What is to be copied.
#[derive(Debug)]
pub struct CopyPlan {
    /// The manifests, each before the index that names it; the last one is what the name will mean.
    pub manifests: Vec<PlannedManifest>,
    /// The blobs, each once.
    blobs: Vec<Descriptor>,
}

impl CopyPlan {
    /// Reads manifests until it is known what belongs to the image.
    pub async fn new(source: &dyn ImageSource, selection: &Selection) -> Result<Self, Error> {
        let mut plan = Self {
            manifests: Vec::new(),
            blobs: Vec::new(),
        };
        match selection {
            Selection::Arch(arch) => {
                let manifest = resolve(source, arch).await?.manifest;
                let bytes = manifest.raw().to_vec();
                let raw = RawManifest {
                    bytes,
                    media_type: None,
                };
                plan.add(source, raw)?;
            }
            Selection::All => {
                plan.add_all(source).await?;
                // Those that were found first are named by none that was found later.
                plan.manifests.reverse();
            }
        }
        plan.forget_doubles();
        Ok(plan)
    }

    /// Digest of what the name will mean.
    pub fn digest(&self) -> Option<Digest> {
        self.manifests.last().map(|manifest| manifest.digest)
    }

    async fn add_all(&mut self, source: &dyn ImageSource) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut open = self.add(source, source.manifest(None).await?)?;
        while let Some(entry) = open.pop() {
            if !seen.insert(entry.digest) {
                continue;
            }
            if seen.len() > MAX_MANIFESTS {
                return Err(Error::Refused {
                    place: source.place(),
                    detail: format!("its index names more than {MAX_MANIFESTS} manifests"),
                });
            }
            let raw = source.manifest(Some(&entry.digest)).await?;
            verify(&raw.bytes, &entry.digest, entry.size, &source.place())?;
            let stated = Some(entry.media_type).filter(|t| !t.is_empty());
            let media_type = raw.media_type.or(stated);
            open.extend(self.add(source, RawManifest { media_type, ..raw })?);
        }
        Ok(())
    }

    /// Adds a manifest and its blobs; gives what it names if it is an index.
    fn add(
        &mut self,
        source: &dyn ImageSource,
        raw: RawManifest,
    ) -> Result<Vec<Descriptor>, Error> {
        let digest = Digest::of(&raw.bytes);
        let unusable = |source_error| Error::Manifest {
            place: source.place(),
            digest,
            source: source_error,
        };
        let media_type = media_type(&raw).map_err(unusable)?;
        let parsed = ManifestOrIndex::parse(raw.bytes.clone(), raw.media_type.as_deref());
        let (image, entries) = match parsed {
            Ok(ManifestOrIndex::Manifest(manifest)) => (Some(manifest), Vec::new()),
            Ok(ManifestOrIndex::Index(index)) => (None, descriptors(index)),
            // What an index has besides images (a signature, a list of packages) goes along.
            Err(ManifestError::Artifact(_)) if !self.manifests.is_empty() => {
                self.blobs.extend(artifact(&raw.bytes).map_err(unusable)?);
                (None, Vec::new())
            }
            Err(error) => return Err(unusable(error)),
        };
        if let Some(image) = &image {
            self.blobs.push(image.config.clone());
            self.blobs.extend(image.layers.iter().cloned());
        }
        self.manifests.push(PlannedManifest {
            bytes: raw.bytes,
            digest,
            media_type,
            image,
        });
        Ok(entries)
    }

    fn forget_doubles(&mut self) {
        let mut seen = HashSet::new();
        self.blobs.retain(|blob| seen.insert(blob.digest));
    }
}

fn descriptors(index: Index) -> Vec<Descriptor> {
    index.entries.into_iter().map(|e| e.descriptor).collect()
}

/// What the bytes call themselves, or else what they were called.
fn media_type(raw: &RawManifest) -> Result<String, ManifestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let wire: Wire = serde_json::from_slice(&raw.bytes).map_err(|source| ManifestError::Json {
        what: "a manifest",
        source,
    })?;
    let stated = raw
        .media_type
        .clone()
        .filter(|t| crate::image::is_manifest_type(t));
    let guess = match wire.manifests {
        Some(_) => "application/vnd.oci.image.index.v1+json",
        None => "application/vnd.oci.image.manifest.v1+json",
    };
    let own = wire.media_type.filter(|t| !t.is_empty());
    Ok(own.or(stated).unwrap_or_else(|| guess.into()))
}

/// The blobs of an artifact (image-spec, manifest.md).
fn artifact(bytes: &[u8]) -> Result<Vec<Descriptor>, ManifestError> {
    #[derive(Deserialize)]
    struct Wire {
        config: Blob,
        #[serde(default)]
        layers: Vec<Blob>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Blob {
        #[serde(default)]
        media_type: String,
        digest: Digest,
        size: u64,
    }
    let wire: Wire = serde_json::from_slice(bytes).map_err(|source| ManifestError::Json {
        what: "an artifact",
        source,
    })?;
    let blobs = [wire.config].into_iter().chain(wire.layers);
    let blobs = blobs.map(|blob| Descriptor {
        media_type: blob.media_type,
        digest: blob.digest,
        size: Some(blob.size),
        annotations: Default::default(),
    });
    Ok(blobs.collect())
}

/// Copies blobs, `jobs` at once, and then the manifests; the last of them gets the name.
pub async fn carry_out(
    plan: &CopyPlan,
    source: &Arc<dyn ImageSource>,
    destination: &Destination,
    jobs: usize,
    progress: &Arc<dyn ProgressSink>,
) -> Result<(), Error> {
    let missing = missing(plan, destination, jobs, progress).await?;
    let transfers = missing.into_iter().map(|(index, blob, size)| {
        let content = Counted {
            inner: Copied {
                source: source.clone(),
                blob: blob.clone(),
            },
            index,
            progress: progress.clone(),
        };
        async move {
            let digest = blob.digest;
            content.progress.event(Event::LayerStarted {
                index,
                digest,
                size: Some(size),
            });
            destination.put_blob(&digest, size, &content).await?;
            content.progress.event(Event::LayerDone { index });
            Ok::<_, Error>(())
        }
    });
    let transfers = stream::iter(transfers).buffer_unordered(destination.at_once(jobs));
    transfers.try_collect::<()>().await?;
    let Some((named, instances)) = plan.manifests.split_last() else {
        return Ok(());
    };
    for manifest in instances {
        destination.put_instance(&manifest.pushed()).await?;
    }
    destination.put_manifest(&named.pushed()).await
}

impl PlannedManifest {
    fn pushed(&self) -> PushedManifest<'_> {
        PushedManifest {
            bytes: &self.bytes,
            digest: &self.digest,
            media_type: &self.media_type,
        }
    }
}

/// The blobs that the destination has not, with their sizes.
async fn missing<'a>(
    plan: &'a CopyPlan,
    destination: &Destination,
    jobs: usize,
    progress: &Arc<dyn ProgressSink>,
) -> Result<Vec<(usize, &'a Descriptor, u64)>, Error> {
    let questions = plan
        .blobs
        .iter()
        .enumerate()
        .map(|(index, blob)| async move {
            let size = blob.size.ok_or_else(|| Error::Refused {
                place: format!("blob {} for {}", blob.digest, destination.place()),
                detail: "its manifest does not say how large it is".into(),
            })?;
            let there = destination.has_blob(&blob.digest, size).await?;
            Ok::<_, Error>((index, blob, size, there))
        });
    let answers = stream::iter(questions).buffered(jobs.max(1));
    let answers: Vec<_> = answers.try_collect().await?;
    let bytes = |wanted: bool| {
        let some = answers.iter().filter(|(.., there)| *there == wanted);
        some.map(|(_, _, size, _)| size).sum()
    };
    progress.event(Event::Planned {
        layers: answers.len(),
        layers_to_fetch: answers.iter().filter(|(.., there)| !there).count(),
        bytes_to_fetch: bytes(false),
        bytes_present: bytes(true),
        bytes_reused: 0,
    });
    let missing = answers.into_iter().filter(|(.., there)| !there);
    Ok(missing
        .map(|(index, blob, size, _)| (index, blob, size))
        .collect())
}

/// Tells how far a blob is.
struct Counted {
    inner: Copied,
    index: usize,
    progress: Arc<dyn ProgressSink>,
}

#[async_trait]
impl Content for Counted {
    async fn open(&self) -> Result<Blob, Error> {
        let (index, progress) = (self.index, self.progress.clone());
        let (taken, told) = (AtomicU64::new(0), AtomicU64::new(0));
        let tell = move |length: usize| {
            let bytes = taken.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
            if bytes - told.load(Ordering::Relaxed) >= REPORT_EVERY {
                told.store(bytes, Ordering::Relaxed);
                progress.event(Event::LayerProgress { index, bytes });
            }
        };
        Ok(match self.inner.open().await? {
            Blob::Reader(reader) => Blob::Reader(Box::new(CountedReader(reader, Box::new(tell)))),
            Blob::Stream(stream) => {
                let tell = move |chunk: &bytes::Bytes| tell(chunk.len());
                Blob::Stream(stream.inspect_ok(tell).boxed())
            }
        })
    }
}

struct CountedReader(Box<dyn Read + Send>, Box<dyn Fn(usize) + Send>);

impl Read for CountedReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.read(buffer)?;
        (self.1)(length);
        Ok(length)
    }
}
