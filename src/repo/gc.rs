//! What nothing needs any more. Refs and deployments come in, the refs of layers to drop go out
//! (pure), and the sweep removes them and every object that no ref reaches.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::gio;

use super::refs;
use super::store::Repo;
use crate::image::Digest;

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
    /// next prune removes.
    #[context("Pruning the repository")]
    pub fn prune(&self) -> Result<PruneReport> {
        // Before anything is decided: a layer whose image is not there yet looks unneeded.
        let _no_pulls = self.wait_for_pulls()?;
        let present = self.refs_below(refs::BLOB_PREFIX)?.into_keys().collect();
        let unneeded = unneeded_layers(&present, &self.needed_layers()?);
        for name in &unneeded {
            self.remove_ref(&format!("{}/{name}", refs::BLOB_PREFIX))?;
        }
        let pruned =
            self.ostree()
                .prune(ostree::RepoPruneFlags::REFS_ONLY, 0, gio::Cancellable::NONE);
        let (_, objects, bytes) = pruned.context("Removing objects that no ref reaches")?;
        Ok(PruneReport {
            layers: unneeded.len(),
            objects: objects.max(0) as u64,
            bytes,
        })
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
            let name = |digest: &Digest| format!("sha256_3A_{}", digest.hex());
            needed.extend(
                image
                    .manifest
                    .layers
                    .iter()
                    .map(|layer| name(&layer.digest)),
            );
        }
        Ok(needed)
    }
}
