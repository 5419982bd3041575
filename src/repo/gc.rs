//! What nothing needs any more. Refs and deployments come in, the refs of layers to drop go out
//! (pure), and the sweep removes them and every object that no ref reaches.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::gio;

use super::refs;
use super::store::Repo;

/// Prefixes of refs that keep commits besides images: deployments, and bases of local commits.
const DEPLOYMENT_PREFIXES: [&str; 3] = ["ostree/0", "ostree/1", "rpmostree/base"];

/// What a prune removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Refs of layers.
    pub layers: usize,
    /// Objects.
    pub objects: u64,
    /// Bytes of those objects.
    pub bytes: u64,
}

/// The layers to drop: those that no image needs.
pub fn unneeded_layers(present: &BTreeSet<String>, needed: &BTreeSet<String>) -> Vec<String> {
    present.difference(needed).cloned().collect()
}

impl Repo {
    /// Drops layers that no image and no deployment needs, then every object without a ref.
    ///
    /// Waits for pulls to end, and new ones wait for it. Interrupted, it leaves objects that the
    /// next prune removes. Goes through the objects only if anything can have become superfluous
    /// since the last prune.
    #[context("Pruning the repository")]
    pub fn prune(&self) -> Result<PruneReport> {
        if let Ok(kept) = self.found_blobs() {
            // It is in nobody's way.
            if let Err(error) = kept.keep_only(&[]) {
                tracing::warn!("removing what interrupted pulls have fetched: {error}");
            }
        }
        // Before anything is decided: a layer whose image is not there yet looks unneeded.
        let _no_pulls = self.wait_for_pulls()?;
        let layers = self.refs_below(refs::BLOB_PREFIX)?;
        let present = layers.keys().cloned().collect();
        let needed = self.needed_layers()?;
        self.drop_records(&needed);
        let unneeded = unneeded_layers(&present, &needed);
        for name in &unneeded {
            self.remove_ref(&format!("{}/{name}", refs::BLOB_PREFIX))?;
        }
        // A layer may have several names.
        let (gone, kept): (Vec<_>, Vec<_>) = layers
            .into_iter()
            .partition(|(name, _)| unneeded.contains(name));
        let commits = |layers: Vec<(String, String)>| -> BTreeSet<String> {
            layers.into_iter().map(|(_, commit)| commit).collect()
        };
        let gone = commits(gone).difference(&commits(kept)).count();
        if self.is_still_pruned().unwrap_or(false) {
            return Ok(PruneReport {
                layers: gone,
                ..PruneReport::default()
            });
        }
        let pruned =
            self.ostree()
                .prune(ostree::RepoPruneFlags::REFS_ONLY, 0, gio::Cancellable::NONE);
        let (_, objects, bytes) = pruned.context("Removing objects that no ref reaches")?;
        // Without it the next prune looks again.
        if let Err(error) = self.note_pruned() {
            tracing::debug!("how the repository is after the prune is not kept: {error:#}");
        }
        Ok(PruneReport {
            layers: gone,
            objects: objects.max(0) as u64,
            bytes,
        })
    }

    /// Takes names (refs) off layers, except where an image needs them. Their objects stay until the next
    /// prune.
    #[context("Removing the names of layers")]
    pub fn forget_layers(&self, names: &[String]) -> Result<()> {
        let needed = self.needed_layers()?;
        let present = self.refs_below(refs::BLOB_PREFIX)?;
        for name in names {
            let short = name.strip_prefix(refs::BLOB_PREFIX);
            let short = short.and_then(|name| name.strip_prefix('/'));
            if short.is_some_and(|name| present.contains_key(name) && !needed.contains(name)) {
                self.remove_ref(name)?;
                if let Some(refs::LayerName::DiffId(id)) = short.and_then(refs::LayerName::parse) {
                    self.remove_record(&id).context("Removing a record")?;
                }
            }
        }
        Ok(())
    }

    /// Whether a ref of this repository may be called so.
    pub fn is_ref_name(name: &str) -> bool {
        !name.contains(':') && ostree::validate_rev(name).is_ok()
    }

    /// Points a ref to a commit; what it pointed to before does not matter.
    #[context("Setting ref {name}")]
    pub fn set_ref(&self, name: &str, commit: &str) -> Result<()> {
        let none = gio::Cancellable::NONE;
        Ok(self
            .ostree()
            .set_ref_immediate(None, name, Some(commit), none)?)
    }

    /// Removes the records of layers that are not needed; what cannot be removed is in nobody's way.
    fn drop_records(&self, needed: &BTreeSet<String>) {
        let names = needed
            .iter()
            .filter_map(|name| refs::LayerName::parse(name));
        let diff_ids = names.filter_map(|name| match name {
            refs::LayerName::DiffId(diff_id) => Some(diff_id),
            refs::LayerName::Blob(_) => None,
        });
        if let Err(error) = self.keep_records(&diff_ids.collect()) {
            tracing::warn!("removing records of layers: {error}");
        }
    }

    /// Escaped names of the layers of every image that a ref or a deployment keeps.
    fn needed_layers(&self) -> Result<BTreeSet<String>> {
        let mut commits = BTreeSet::new();
        let prefixes = [refs::IMAGE_PREFIX, refs::BASE_IMAGE_PREFIX];
        for prefix in prefixes.into_iter().chain(DEPLOYMENT_PREFIXES) {
            commits.extend(self.refs_below(prefix)?.into_values());
        }
        let mut needed = BTreeSet::new();
        for commit in commits {
            let Some(image) = self.image_of_commit(&commit)? else {
                continue;
            };
            let name = |full: String| {
                full.strip_prefix(refs::BLOB_PREFIX)?
                    .strip_prefix('/')
                    .map(Into::into)
            };
            let layers = image.manifest.layers.iter();
            needed.extend(layers.filter_map(|layer| name(refs::of_blob(&layer.digest))));
            let diff_ids = image.config.diff_ids.iter();
            needed.extend(diff_ids.filter_map(|id| name(refs::of_diff_id(id))));
        }
        Ok(needed)
    }
}
