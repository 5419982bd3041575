//! What a pull does about each layer, as a value to be shown. A plan comes in, or an image that is
//! here; one step per layer goes out. Pure.

use super::plan::{LayerState, PlannedLayer, PullPlan};
use crate::image::{Digest, ImageLayout, LayerKind};
use crate::repo::ImageRecord;

/// What is done about a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it is here.
    Present,
    /// The same content is here under another compression.
    Reuse,
    /// Nothing: it is the same blob as the layer with this number.
    SameAs(usize),
    /// Its blob is fetched.
    Whole,
    /// Parts of its blob are fetched; the rest is in files that are here.
    Parts,
}

/// A layer and what is done about it. Bytes are those of blobs, as they travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerStep {
    /// Its place in the image, from 1.
    pub number: usize,
    /// Its blob.
    pub digest: Digest,
    /// What it holds.
    pub kind: LayerKind,
    /// Bytes of the blob, where the manifest says.
    pub size: Option<u64>,
    /// What is done.
    pub action: Action,
    /// Bytes to fetch, its table of contents included.
    pub to_fetch: u64,
    /// Bytes that need not come, since files that are here have them.
    pub reused: u64,
    /// Bytes that need not come, since an interrupted pull has fetched them.
    pub kept: u64,
}

impl PullPlan {
    /// What is done about each layer, in order.
    pub fn steps(&self) -> Vec<LayerStep> {
        self.layers.iter().map(step).collect()
    }
}

fn step(planned: &PlannedLayer) -> LayerStep {
    let layer = &planned.layer;
    let action = match (&planned.state, &planned.parts) {
        (LayerState::Present(_), _) => Action::Present,
        (LayerState::Reuse(_), _) => Action::Reuse,
        (LayerState::SameAs(first), _) => Action::SameAs(first + 1),
        (LayerState::Fetch, None) => Action::Whole,
        (LayerState::Fetch, Some(_)) => Action::Parts,
    };
    LayerStep {
        number: layer.index + 1,
        digest: layer.descriptor.digest,
        kind: layer.kind,
        size: layer.descriptor.size,
        action,
        to_fetch: planned.to_fetch() + planned.listed,
        reused: planned.reused(),
        kept: planned.kept,
    }
}

/// The same of an image that is here whole. One whose config is not known has no steps.
pub fn steps_of_stored(image: &ImageRecord) -> Vec<LayerStep> {
    let layout = ImageLayout::new(&image.manifest, &image.config);
    let present = |layer: &crate::image::Layer| LayerStep {
        number: layer.index + 1,
        digest: layer.descriptor.digest,
        kind: layer.kind,
        size: layer.descriptor.size,
        action: Action::Present,
        to_fetch: 0,
        reused: 0,
        kept: 0,
    };
    let steps = layout.map(|layout| layout.layers().iter().map(present).collect());
    steps.unwrap_or_default()
}
