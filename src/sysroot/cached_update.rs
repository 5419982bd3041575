//! What an available update would bring, kept beside the commit that it would replace: detached
//! metadata under ostree-ext's keys. Other keys of that dictionary are kept. Never fetches.

use anyhow::Result;
use fn_error_context::context;

use super::{LockedSysroot, Sysroot};

const DIGEST: &str = "ostree-ext.cached.manifest-digest";
const MANIFEST: &str = "ostree-ext.cached.manifest";
const CONFIG: &str = "ostree-ext.cached.config";

/// An update that was seen but not deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedUpdate {
    /// Digest of its manifest, with its algorithm.
    pub manifest_digest: String,
    /// The manifest, OCI JSON.
    pub manifest: String,
    /// The image config, JSON.
    pub config: String,
}

impl Sysroot {
    /// The update that was recorded for `commit`, where there is one.
    #[context("Reading what is known about updates of {commit}")]
    pub fn cached_update(&self, commit: &str) -> Result<Option<CachedUpdate>> {
        let dict = self.repo()?.detached(commit)?;
        let text = |key| dict.lookup::<String>(key).ok().flatten();
        Ok((|| {
            Some(CachedUpdate {
                manifest_digest: text(DIGEST)?,
                manifest: text(MANIFEST)?,
                config: text(CONFIG)?,
            })
        })())
    }
}

impl LockedSysroot {
    /// Records the update that is available for `commit`, or that there is none.
    #[context("Recording what is known about updates of {commit}")]
    pub fn set_cached_update(&self, commit: &str, update: Option<&CachedUpdate>) -> Result<()> {
        if self.cached_update(commit)?.as_ref() == update {
            return Ok(());
        }
        let repo = self.repo()?;
        let values = repo.detached(commit)?;
        for key in [DIGEST, MANIFEST, CONFIG] {
            values.remove(key);
        }
        if let Some(update) = update {
            values.insert(DIGEST, &update.manifest_digest);
            values.insert(MANIFEST, &update.manifest);
            values.insert(CONFIG, &update.config);
        }
        repo.set_detached(commit, &values.end())
    }
}
