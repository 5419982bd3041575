//! A commit to an image in a destination. A commit, layers as planned and what the user asks for come in;
//! layers are written and compressed side by side, and each goes out as soon as it is finished; config and
//! manifest come last. Never decides what goes into which layer.
//!
//! An interruption leaves at most blobs at the destination that nothing names.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::compress::{Compressor, LayerBlob, LayerCompression};
use super::image::{ImageText, ImageWishes, MANIFEST_TYPE, WrittenLayer, describe, image_text};
use super::listing::Listing;
use super::tar_export::{FormatVersion, chunk_layer, commit_layer};
use super::write_layers::{LayerJob, Stop};
use crate::image::{ANNOTATION_COMPONENTS, Digest};
use crate::repo::{CommitFacts, Repo};
use crate::sys::fs as sysfs;
use crate::transport::push::{Destination, PushedManifest};

/// Most names of packages that a history entry lists.
const MAX_NAMES: usize = 5;

/// A layer of file objects, as planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerPlan {
    /// For people.
    pub name: String,
    /// Whose files they are.
    pub components: Vec<String>,
    /// The objects, ascending; no two layers have the same.
    pub objects: Vec<Digest>,
    /// Annotations of the layer, beside the components.
    pub annotations: BTreeMap<String, String>,
}

impl LayerPlan {
    /// A name made of those of its components.
    pub fn name_of(components: &[String]) -> String {
        match components {
            [] => "other files".into(),
            few if few.len() <= MAX_NAMES => few.join(", "),
            many => {
                let (first, rest) = many.split_at(MAX_NAMES - 1);
                format!("{} and {} more", first.join(", "), rest.len())
            }
        }
    }
}

/// How an image is written.
#[derive(Debug, Clone)]
pub struct EncapsulateOptions {
    /// How layers are compressed.
    pub compression: LayerCompression,
    /// What of paths stands in chunk layers.
    pub format: FormatVersion,
    /// What the image says.
    pub wishes: ImageWishes,
    /// Where layers wait until they are at the destination; a directory with room for a few.
    pub scratch: PathBuf,
    /// How many threads work.
    pub threads: NonZeroUsize,
}

/// An image that has been written.
#[derive(Debug)]
pub struct Encapsulated {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its layers, the commit layer first.
    pub layers: Vec<WrittenLayer>,
}

/// Whether the image of a commit can say what it is to say: what is wrong is known before the work.
pub fn check(commit: &CommitFacts, options: &EncapsulateOptions) -> Result<()> {
    let layers = [placeholder()];
    image_text(commit, &options.wishes, &layers, options.compression).map(drop)
}

/// Writes the image of a commit. Objects that are in no layer of the plan stay with the commit.
pub async fn encapsulate(
    repo: &Repo,
    commit: CommitFacts,
    plan: Vec<LayerPlan>,
    options: &EncapsulateOptions,
    destination: Arc<Destination>,
) -> Result<Encapsulated> {
    check(&commit, options)?;
    let own = repo.reopen()?;
    let work = spawn_blocking(move || prepare(&own, commit, plan));
    let work = Arc::new(work.await.context("A worker died")??);
    let layers = write_layers(repo, &work, options, &destination).await?;
    let text = image_text(&work.commit, &options.wishes, &layers, options.compression)?;
    let digest = put_text(&destination, text).await?;
    Ok(Encapsulated { digest, layers })
}

/// Writes config and manifest, and lets the destination's name mean the image from then on.
pub(super) async fn put_text(destination: &Destination, text: ImageText) -> Result<Digest> {
    let config = Bytes::from(text.config);
    let size = config.len() as u64;
    let written = destination
        .put_blob(&Digest::of(&config), size, &config)
        .await;
    written.context("Writing the config")?;
    let digest = Digest::of(&text.manifest);
    let manifest = PushedManifest {
        bytes: &text.manifest,
        digest: &digest,
        media_type: MANIFEST_TYPE,
    };
    let written = destination.put_manifest(&manifest).await;
    written.context("Writing the manifest")?;
    Ok(digest)
}

fn placeholder() -> WrittenLayer {
    WrittenLayer {
        digest: Digest::of(b""),
        size: 0,
        diff_id: Digest::of(b""),
        annotations: BTreeMap::new(),
        history: String::new(),
    }
}

/// What all workers read.
#[derive(Debug)]
struct Work {
    commit: CommitFacts,
    listing: Listing,
    plan: Vec<LayerPlan>,
    /// Objects that are in no planned layer.
    rest: Vec<Digest>,
}

fn prepare(repo: &Repo, commit: CommitFacts, mut plan: Vec<LayerPlan>) -> Result<Work> {
    let listing = Listing::of(repo, &commit)?;
    let mut taken = HashSet::new();
    for layer in &mut plan {
        let here = |object: &Digest| listing.object(*object).is_some();
        layer
            .objects
            .retain(|object| here(object) && taken.insert(*object));
        layer.objects.sort_unstable();
    }
    plan.retain(|layer| !layer.objects.is_empty());
    let objects = listing.objects().map(|object| object.checksum());
    let rest = objects.filter(|object| !taken.contains(object)).collect();
    Ok(Work {
        commit,
        listing,
        plan,
        rest,
    })
}

async fn write_layers(
    repo: &Repo,
    work: &Arc<Work>,
    options: &EncapsulateOptions,
    destination: &Destination,
) -> Result<Vec<WrittenLayer>> {
    let compressor = Compressor::new(options.compression, options.threads)?;
    let job = |index| {
        anyhow::Ok(Layer {
            repo: repo.reopen()?,
            work: work.clone(),
            index,
            format: options.format,
            compressor: compressor.clone(),
            scratch: options.scratch.clone(),
        })
    };
    let jobs = (0..=work.plan.len()).map(job).collect::<Result<Vec<_>>>()?;
    let threads = options.threads.get();
    let mut layers = super::write_layers::write_layers(jobs, threads, destination).await?;
    layers.sort_by_key(|(index, _)| *index);
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}

/// The destination's file for a layer, or else one in the scratch directory.
pub(super) fn file_or_scratch(file: Option<File>, dir: &Path) -> Result<File> {
    if let Some(file) = file {
        return Ok(file);
    }
    let file = sysfs::open_dir_path(dir).and_then(sysfs::unnamed);
    file.with_context(|| format!("Making a file in {}", dir.display()))
}

/// One layer on its way.
struct Layer {
    repo: Repo,
    work: Arc<Work>,
    /// 0 is the commit layer.
    index: usize,
    format: FormatVersion,
    compressor: Compressor,
    scratch: PathBuf,
}

impl LayerJob for Layer {
    type Written = (usize, WrittenLayer);

    fn make(&self, file: Option<File>, stop: &Stop) -> Result<LayerBlob> {
        let out = self
            .compressor
            .layer(file_or_scratch(file, &self.scratch)?)?;
        let (out, work) = (stop.watch(out), &*self.work);
        let out = match self.plan() {
            None => {
                let rest = work.rest.iter().copied();
                commit_layer(&self.repo, &work.commit, &work.listing, rest, out)?
            }
            Some(plan) => {
                let objects = &plan.objects;
                chunk_layer(&self.repo, &work.listing, objects, self.format, out)?
            }
        };
        out.inner.finish()
    }

    fn written(&self, blob: &LayerBlob) -> (usize, WrittenLayer) {
        let mut annotations = blob.annotations.clone();
        if let Some(plan) = self.plan() {
            annotations.extend(plan.annotations.clone());
            let mut components = plan.components.clone();
            components.sort();
            annotations.insert(ANNOTATION_COMPONENTS.into(), components.join(","));
        }
        let history = match self.plan() {
            Some(plan) => plan.name.clone(),
            None => describe(&self.work.commit),
        };
        let written = WrittenLayer {
            digest: blob.digest,
            size: blob.size,
            diff_id: blob.diff_id,
            annotations,
            history,
        };
        (self.index, written)
    }
}

impl Layer {
    fn plan(&self) -> Option<&LayerPlan> {
        self.work.plan.get(self.index.checked_sub(1)?)
    }
}
