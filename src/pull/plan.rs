//! What a pull has to do, as a value: which layers are here, which can be reused under another
//! name, which must be fetched. A manifest, a config and an inventory come in; pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::chunked::Parts;
use crate::image::{
    ImageConfig, ImageLayout, ImageReference, Layer, LayerKind, LayoutError, Manifest,
};
use crate::repo::kept::Piece;
use crate::repo::{Inventory, StoredLayer};

/// What is to be done about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// It is here under its digest.
    Present(String),
    /// The same content is here under another compression. It gets no second name: that the blob has this
    /// content is only what the image says.
    Reuse(String),
    /// It must be fetched.
    Fetch,
    /// An earlier layer of the image is the same blob.
    SameAs(usize),
}

/// A layer and what is to be done about it.
#[derive(Debug, Clone)]
pub struct PlannedLayer {
    /// The layer.
    pub layer: Layer,
    /// What is to be done.
    pub state: LayerState,
    /// Where it must be fetched: which parts of it, and what of it is here.
    pub parts: Option<Arc<Parts>>,
    /// Bytes of its table of contents, where that was fetched to know that.
    pub listed: u64,
    /// Bytes of what must be fetched that an interrupted pull has fetched.
    pub kept: u64,
}

impl PartialEq for PlannedLayer {
    fn eq(&self, other: &Self) -> bool {
        let ranges = |layer: &Self| layer.parts.as_ref().map(|parts| parts.ranges.clone());
        (&self.layer, &self.state) == (&other.layer, &other.state) && ranges(self) == ranges(other)
    }
}

impl PlannedLayer {
    const fn is_missing(&self) -> bool {
        matches!(self.state, LayerState::Fetch)
    }

    /// The commit that is here for it.
    pub fn commit(&self) -> Option<&str> {
        match &self.state {
            LayerState::Present(commit) | LayerState::Reuse(commit) => Some(commit),
            LayerState::Fetch | LayerState::SameAs(_) => None,
        }
    }

    /// Bytes to fetch, as far as the manifest gives its size.
    pub fn to_fetch(&self) -> u64 {
        let needed = self.parts.as_ref().map(|parts| parts.to_fetch);
        let needed = needed.or(self.layer.descriptor.size).unwrap_or(0);
        match self.is_missing() {
            true => needed.saturating_sub(self.kept),
            false => 0,
        }
    }

    /// Bytes that need not come, since files that are here have them.
    pub fn reused(&self) -> u64 {
        let parts = self.parts.as_ref().filter(|_| self.is_missing());
        parts.map_or(0, |parts| parts.reused)
    }

    /// Counts on what is kept of its blob, which `length` knows. Goes on with the whole blob where
    /// that costs less than its parts.
    fn count_on(&mut self, length: impl Fn(&Piece) -> u64) {
        let blob = &self.layer.descriptor;
        let whole = blob
            .size
            .map(|size| (size, length(&Piece::whole(&blob.digest, size))));
        let parts = self.parts.as_ref().map(|parts| {
            let kept = length(&Piece::ranges(&blob.digest, &parts.ranges));
            (parts.to_fetch, kept)
        });
        let left = |(size, kept): (u64, u64)| size.saturating_sub(kept);
        self.kept = match (whole, parts) {
            (Some(whole), Some(parts)) if whole.1 > 0 && left(whole) < left(parts) => {
                self.parts = None;
                whole.1
            }
            (_, Some(parts)) => parts.1,
            (whole, None) => whole.map_or(0, |whole| whole.1),
        };
    }

    /// Fetches it although it seems to be here.
    pub fn refetch(&mut self) {
        if self.commit().is_some() {
            self.state = LayerState::Fetch;
        }
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
    /// The ostree remote that must vouch for the commit inside, before anything is written.
    pub remote: Option<String>,
}

impl PullPlan {
    /// Plans a pull of `manifest` into a repository that holds `inventory`.
    pub fn new(
        imgref: ImageReference,
        manifest: Manifest,
        config: ImageConfig,
        inventory: &Inventory,
    ) -> Result<Self, LayoutError> {
        let layout = ImageLayout::new(&manifest, &config)?;
        let mut seen = HashMap::new();
        let layers = layout.layers().iter().map(|layer| {
            let role = (layer.descriptor.digest, layer.kind == LayerKind::Derived);
            let first = *seen.entry(role).or_insert(layer.index);
            let state = match first {
                first if first != layer.index => LayerState::SameAs(first),
                _ => state(layer, inventory),
            };
            PlannedLayer {
                layer: layer.clone(),
                state,
                parts: None,
                listed: 0,
                kept: 0,
            }
        });
        let mut layers: Vec<_> = layers.collect();
        complete_base(&mut layers, inventory);
        Ok(Self {
            imgref,
            manifest,
            config,
            layers,
            remote: None,
        })
    }

    /// Fetches ordinary layers again that lack what the base of another image did not allow.
    pub fn refetch_filtered(&mut self, inventory: &Inventory) {
        for layer in &mut self.layers {
            let mut stored = stored(&layer.layer, inventory).into_iter().flatten();
            if layer.layer.kind == LayerKind::Derived && stored.any(|s| s.filtered) {
                layer.refetch();
            }
        }
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
        self.layers.iter().map(PlannedLayer::to_fetch).sum()
    }

    /// Bytes of the layers to fetch that need not come, since files that are here have them or an
    /// interrupted pull has fetched them.
    pub fn bytes_reused(&self) -> u64 {
        self.layers.iter().map(|l| l.reused() + l.kept).sum()
    }

    /// Bytes that were fetched already, to know which bytes to fetch.
    pub fn bytes_listed(&self) -> u64 {
        self.layers.iter().map(|l| l.listed).sum()
    }

    /// Counts on what interrupted pulls have kept of the layers to fetch, which `length` knows.
    pub fn count_on_kept(&mut self, length: impl Fn(&Piece) -> u64) {
        let missing = self.layers.iter_mut().filter(|l| l.is_missing());
        missing.for_each(|layer| layer.count_on(&length));
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
    match stored(layer, inventory) {
        [Some(blob), _] => LayerState::Present(blob.commit.clone()),
        [None, Some(same)] => LayerState::Reuse(same.commit.clone()),
        [None, None] => LayerState::Fetch,
    }
}

/// What can stand for a layer: the blob itself, and the same content under another compression.
fn stored<'a>(layer: &Layer, inventory: &'a Inventory) -> [Option<&'a StoredLayer>; 2] {
    // A blob that was imported as the other kind has another commit than this image needs. A base
    // is partial until its chunks are here.
    let fits = |stored: &&StoredLayer| {
        let whole = !stored.partial || layer.kind == LayerKind::Base;
        whole && stored.derived == (layer.kind == LayerKind::Derived)
    };
    let blob = inventory.blobs.get(&layer.descriptor.digest);
    let same = inventory.diff_ids.get(&layer.diff_id);
    // A blob whose content is known to be another one is not what this image means, whoever
    // brought it here under that digest.
    let blob = blob.filter(|stored| inventory.may_be(&stored.commit, &layer.diff_id));
    [blob.filter(fits), same.filter(fits)]
}

/// A base that is partial although all its chunks are here lacks something of its own.
fn complete_base(layers: &mut [PlannedLayer], inventory: &Inventory) {
    let missing = |l: &PlannedLayer| l.layer.kind == LayerKind::Chunk && l.is_missing();
    if layers.iter().any(missing) {
        return;
    }
    let base = layers.first_mut();
    if let Some(base) = base.filter(|l| l.layer.kind == LayerKind::Base) {
        if stored(&base.layer, inventory)[0].is_some_and(|stored| stored.partial) {
            base.refetch();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::image::{Digest, ManifestOrIndex};

    fn blob(layer: usize) -> Digest {
        Digest::of(format!("blob {layer}").as_bytes())
    }

    fn diff_id(layer: usize) -> Digest {
        Digest::of(format!("diff {layer}").as_bytes())
    }

    /// An image of these layers, the first `ostree` of them an ostree commit's; sizes 1, 2, 4 …
    fn image(layers: &[usize], ostree: usize) -> (Manifest, ImageConfig) {
        let descriptors = layers.iter().map(|l| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": blob(*l), "size": 1u64 << l,
            })
        });
        let descriptors: Vec<_> = descriptors.collect();
        let manifest = json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(b"config"), "size": 6,
            },
            "layers": descriptors,
        });
        let diff_ids: Vec<_> = layers.iter().map(|l| diff_id(*l)).collect();
        let mut config = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        if ostree > 0 {
            config["config"] = json!({"Labels": {"ostree.final-diffid": diff_id(ostree - 1)}});
        }
        let manifest = ManifestOrIndex::parse(manifest.to_string().into_bytes(), None).unwrap();
        let ManifestOrIndex::Manifest(manifest) = manifest else {
            panic!()
        };
        (
            manifest,
            ImageConfig::parse(config.to_string().into_bytes()).unwrap(),
        )
    }

    fn plan(layers: &[usize], ostree: usize, inventory: &Inventory) -> PullPlan {
        let (manifest, config) = image(layers, ostree);
        let imgref = "oci:/x".parse().unwrap();
        PullPlan::new(imgref, manifest, config, inventory).unwrap()
    }

    fn stored(layer: usize, derived: bool) -> StoredLayer {
        StoredLayer {
            commit: format!("commit {layer}"),
            derived,
            partial: false,
            filtered: false,
        }
    }

    proptest! {
        #[test]
        fn every_layer_is_here_or_fetched(
            count in 1usize..8, ostree in 0usize..8, here: [bool; 8], same: [bool; 8],
        ) {
            let ostree = ostree.min(count);
            let layers: Vec<usize> = (0..count).collect();
            let mut inventory = Inventory::default();
            for layer in layers.iter().copied() {
                let stored = stored(layer, layer >= ostree);
                if here[layer] {
                    inventory.blobs.insert(blob(layer), stored.clone());
                }
                if same[layer] {
                    inventory.diff_ids.insert(diff_id(layer), stored);
                }
            }
            let plan = plan(&layers, ostree, &inventory);
            for layer in layers.iter().copied() {
                let commit = format!("commit {layer}");
                let expected = match (here[layer], same[layer]) {
                    (true, _) => LayerState::Present(commit),
                    (false, true) => LayerState::Reuse(commit),
                    (false, false) => LayerState::Fetch,
                };
                prop_assert_eq!(&plan.layers[layer].state, &expected);
            }
            let all = (1u64 << count) - 1;
            prop_assert_eq!(plan.bytes_to_fetch() + plan.bytes_present(), all);
        }
    }

    #[test]
    fn a_blob_that_stands_twice_is_fetched_once() {
        let plan = plan(&[3, 1, 3], 0, &Inventory::default());
        let states: Vec<_> = plan.layers.iter().map(|l| l.state.clone()).collect();
        assert_eq!(
            states,
            [LayerState::Fetch, LayerState::Fetch, LayerState::SameAs(0)]
        );
        assert_eq!((plan.layers_to_fetch(), plan.bytes_to_fetch()), (2, 8 + 2));
    }

    #[test]
    fn the_same_blob_in_two_roles_is_fetched_for_each() {
        // The ostree commit is layers 0 to 2.
        let plan = plan(&[0, 1, 2, 1], 3, &Inventory::default());
        assert!(plan.layers.iter().all(|l| l.state == LayerState::Fetch));
    }

    #[test]
    fn what_is_partial_is_fetched() {
        let fetched = |partial: usize, missing: Option<usize>| {
            let mut inventory = Inventory::default();
            for layer in (0..3).filter(|layer| Some(*layer) != missing) {
                let mut here = stored(layer, layer == 2);
                here.partial = layer == partial;
                inventory.blobs.insert(blob(layer), here);
            }
            let plan = plan(&[0, 1, 2], 2, &inventory);
            plan.missing().map(|l| l.index).collect::<Vec<_>>()
        };
        // A base is partial for as long as a chunk is missing.
        assert_eq!(fetched(0, Some(1)), [1]);
        assert_eq!(fetched(0, None), [0]);
        assert_eq!(fetched(1, None), [1]);
        assert_eq!(fetched(2, None), [2]);
    }

    #[test]
    fn a_layer_imported_as_the_other_kind_is_no_use() {
        let mut inventory = Inventory::default();
        inventory.blobs.insert(blob(0), stored(0, true));
        assert_eq!(plan(&[0], 1, &inventory).layers[0].state, LayerState::Fetch);
        assert_eq!(plan(&[0], 0, &inventory).layers_to_fetch(), 0);
    }
}
