//! Who vouched for an image when it was pulled, kept beside its merge commit: detached metadata under
//! a key of our own. Text in, text out; a note for people, which nothing depends on.

use anyhow::Result;
use fn_error_context::context;

use super::store::Repo;

/// Key in a merge commit's detached metadata (`s`).
const META_VOUCHED: &str = "bowline.vouched";

impl Repo {
    /// What was noted about who vouched for an image; `None` where nobody has noted anything.
    #[context("Reading who vouched for {commit}")]
    pub fn vouched(&self, commit: &str) -> Result<Option<String>> {
        let found = self.detached(commit)?.lookup::<String>(META_VOUCHED);
        Ok(found.ok().flatten())
    }

    /// Notes who vouched for an image.
    #[context("Noting who vouched for {commit}")]
    pub fn set_vouched(&self, commit: &str, text: &str) -> Result<()> {
        let metadata = self.detached(commit)?;
        metadata.insert(META_VOUCHED, text);
        self.set_detached(commit, &metadata.end())
    }
}
