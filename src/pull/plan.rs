//! What a pull has to do, as a value: which layers are here, which can be reused under another
//! name, which must be fetched. A manifest, a config and an inventory come in; pure.

use std::collections::HashSet;

use crate::image::{
    ImageConfig, ImageLayout, ImageReference, Layer, LayerKind, LayoutError, Manifest,
};
use crate::repo::{ImageRecord, Inventory, StoredLayer};

/// What is to be done about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// It is here under its digest.
    Present(String),
    /// The same content is here under another compression; it gets a second name.
    Reuse(String),
    /// It must be fetched.
    Fetch,
    /// An earlier layer of the image is the same blob.
    SameAs(usize),
}

/// A layer and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// The layer.
    pub layer: Layer,
    /// What is to be done.
    pub state: LayerState,
}

impl PlannedLayer {
    const fn is_missing(&self) -> bool {
        matches!(self.state, LayerState::Fetch)
    }
}

/// A pull that can be carried out or shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PullPlan {
    /// The name under which the image is stored.
    pub imgref: ImageReference,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers in order, never empty.
    pub layers: Vec<PlannedLayer>,
    /// What is stored under the name now.
    pub previous: Option<ImageRecord>,
}

impl PullPlan {
    /// Plans a pull of `manifest` into a repository that holds `inventory`.
    pub fn new(
        imgref: ImageReference,
        manifest: Manifest,
        config: ImageConfig,
        inventory: &Inventory,
        previous: Option<ImageRecord>,
    ) -> Result<Self, LayoutError> {
        let layout = ImageLayout::new(&manifest, &config)?;
        let mut seen = std::collections::HashMap::new();
        let layers = layout.layers().iter().map(|layer| {
            let first = *seen.entry(layer.descriptor.digest).or_insert(layer.index);
            let state = match first {
                first if first != layer.index => LayerState::SameAs(first),
                _ => state(layer, inventory),
            };
            PlannedLayer {
                layer: layer.clone(),
                state,
            }
        });
        let layers = layers.collect();
        Ok(Self {
            imgref,
            manifest,
            config,
            layers,
            previous,
        })
    }

    /// The layers to fetch, in order.
    pub fn missing(&self) -> impl Iterator<Item = &Layer> {
        self.layers
            .iter()
            .filter(|l| l.is_missing())
            .map(|l| &l.layer)
    }

    /// How many layers must be fetched.
    pub fn layers_to_fetch(&self) -> usize {
        self.missing().count()
    }

    /// Bytes to fetch, as far as the manifest gives sizes.
    pub fn bytes_to_fetch(&self) -> u64 {
        self.missing().filter_map(|l| l.descriptor.size).sum()
    }

    /// Compressed bytes of layers that are here already; each blob counts once.
    pub fn bytes_present(&self) -> u64 {
        let mut seen = HashSet::new();
        let present = self.layers.iter().filter(|l| !l.is_missing());
        let present = present.filter(|l| !matches!(l.state, LayerState::SameAs(_)));
        let present = present.filter(|l| seen.insert(l.layer.descriptor.digest));
        present.filter_map(|l| l.layer.descriptor.size).sum()
    }
}

fn state(layer: &Layer, inventory: &Inventory) -> LayerState {
    // A blob that was imported as the other kind has another commit than this image needs.
    let fits = |stored: &&StoredLayer| stored.derived == (layer.kind == LayerKind::Derived);
    if let Some(stored) = inventory.blobs.get(&layer.descriptor.digest).filter(fits) {
        return LayerState::Present(stored.commit.clone());
    }
    match inventory.diff_ids.get(&layer.diff_id).filter(fits) {
        Some(stored) => LayerState::Reuse(stored.commit.clone()),
        None => LayerState::Fetch,
    }
}
