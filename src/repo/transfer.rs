//! What a pull of an image cost, kept beside its merge commit: detached metadata under a key of our
//! own. Numbers in, numbers out; a note for people, which nothing depends on.

use anyhow::Result;
use fn_error_context::context;

use super::store::Repo;

/// Key in a merge commit's detached metadata: bytes fetched, bytes reused (`(tt)`).
const META_TRANSFER: &str = "bowline.transfer";

/// Bytes of layers as they travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes that came.
    pub fetched: u64,
    /// Bytes that did not have to come, since layers or files were here.
    pub reused: u64,
}

impl Repo {
    /// What the last pull of an image cost, where that is known.
    #[context("Reading what the pull of {commit} cost")]
    pub fn transfer(&self, commit: &str) -> Result<Option<Transfer>> {
        let found = self.detached(commit)?.lookup::<(u64, u64)>(META_TRANSFER);
        let numbers = found.ok().flatten();
        Ok(numbers.map(|(fetched, reused)| Transfer { fetched, reused }))
    }

    /// Notes what the pull of an image cost.
    #[context("Noting what the pull of {commit} cost")]
    pub fn set_transfer(&self, commit: &str, transfer: Transfer) -> Result<()> {
        let metadata = self.detached(commit)?;
        metadata.insert(META_TRANSFER, (transfer.fetched, transfer.reused));
        self.set_detached(commit, &metadata.end())
    }
}
