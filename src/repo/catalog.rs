//! Which images and layers a repository holds. Refs and commit metadata come in, plain records go
//! out; removal of an image takes its ref away and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::gio;
use ostree::glib::{Variant, VariantDict};

use super::commit::{META_DROPPED, META_IMPORTER};
use super::object::ObjectKind;
use super::refs::{self, LayerName};
use super::store::Repo;
use crate::image::{Digest, ImageConfig, ImageReference, Manifest, ManifestOrIndex};

/// Key of a merge commit: digest of the manifest as the source had it.
pub const META_MANIFEST_DIGEST: &str = "ostree.manifest-digest";
/// Key of a merge commit: the manifest as OCI JSON.
pub const META_MANIFEST: &str = "ostree.manifest";
/// Key of a merge commit: the image config.
pub const META_CONFIG: &str = "ostree.container.image-config";
/// What stands for a config that an old importer did not keep.
const NO_CONFIG: &str = r#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#;

/// A layer in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its commit.
    pub commit: String,
    /// Whether it was imported as an ordinary layer (else as part of an ostree commit).
    pub derived: bool,
    /// Whether objects of it are missing, as far as its state says.
    pub partial: bool,
    /// Whether paths were left out of it that the base of its image did not allow.
    pub filtered: bool,
}

/// A snapshot of the layers in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// By digest of the blob.
    pub blobs: HashMap<Digest, StoredLayer>,
    /// By digest of the uncompressed layer, where it was computed here: the same content under
    /// another compression. What a config merely claims is not in here.
    pub diff_ids: HashMap<Digest, StoredLayer>,
}

impl Inventory {
    /// Whether the layer of a commit may have this diff_id: it was computed here, or nothing was
    /// (who imported it was somebody else).
    pub fn may_be(&self, commit: &str, diff_id: &Digest) -> bool {
        let known = |stored: &StoredLayer| stored.commit == commit;
        self.diff_ids.get(diff_id).is_some_and(known) || !self.diff_ids.values().any(known)
    }
}

/// An image in the repository.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The merge commit.
    pub commit: String,
    /// The manifest as stored: OCI, perhaps serialised anew, so that its own digest means nothing.
    pub manifest: Manifest,
    /// Digest of the manifest as the source had it.
    pub manifest_digest: Digest,
    /// The image config.
    pub config: ImageConfig,
}

impl Repo {
    /// The references of all images, sorted by their text.
    #[context("Listing images of the repository")]
    pub fn images(&self) -> Result<Vec<ImageReference>> {
        let names = self.refs_below(refs::IMAGE_PREFIX)?;
        let mut images = Vec::new();
        for name in names.keys() {
            let text = refs::unescape(name);
            match text.map(|text| text.parse::<ImageReference>()) {
                Ok(Ok(image)) => images.push(image),
                other => tracing::warn!("ref {name} names no image: {other:?}"),
            }
        }
        images.sort_by_cached_key(ToString::to_string);
        Ok(images)
    }

    /// The root directories of the images that are here.
    pub(super) fn image_roots(&self) -> Result<BTreeSet<Digest>> {
        let commits = self.refs_below(refs::IMAGE_PREFIX)?.into_values();
        let roots = commits.filter_map(|commit| Some(self.commit_root(&commit).ok()?.0));
        Ok(roots.collect())
    }

    /// Whether nothing is kept here.
    pub fn is_empty(&self) -> Result<bool> {
        let refs = self.ostree().list_refs(None, gio::Cancellable::NONE);
        Ok(refs.context("Listing refs")?.is_empty())
    }

    /// Names below a prefix, without it, with the commits they point to.
    pub(super) fn refs_below(&self, prefix: &str) -> Result<BTreeMap<String, String>> {
        let all = self.ostree().list_refs_ext(
            Some(prefix),
            ostree::RepoListRefsExtFlags::EXCLUDE_REMOTES,
            gio::Cancellable::NONE,
        );
        let all = all.with_context(|| format!("Listing refs below {prefix}"))?;
        let strip = |name: &str| Some(name.strip_prefix(prefix)?.strip_prefix('/')?.to_owned());
        let below = all
            .into_iter()
            .filter_map(|(name, commit)| Some((strip(&name)?, commit)));
        Ok(below.collect())
    }

    /// What is here, for planning a pull: layers by digest and by diff_id.
    #[context("Taking stock of the repository's layers")]
    pub fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        for (name, commit) in self.refs_below(refs::BLOB_PREFIX)? {
            let Some(name) = LayerName::parse(&name) else {
                continue;
            };
            let Ok(checksum) = Digest::from_hex(&commit) else {
                continue;
            };
            if !self.has(checksum, ObjectKind::Commit)? {
                continue;
            }
            let stored = self.stored_layer(commit)?;
            match name {
                LayerName::Blob(digest) => inventory.blobs.insert(digest, stored),
                LayerName::DiffId(diff_id) => inventory.diff_ids.insert(diff_id, stored),
            };
        }
        Ok(inventory)
    }

    fn stored_layer(&self, commit: String) -> Result<StoredLayer> {
        let (variant, state) = self.ostree().load_commit(&commit)?;
        let metadata = VariantDict::new(Some(&variant.child_value(0)));
        // An image that was encapsulated once more is no ordinary layer.
        let derived = metadata.contains(META_IMPORTER) && !metadata.contains(META_MANIFEST_DIGEST);
        Ok(StoredLayer {
            commit,
            derived,
            partial: state.contains(ostree::RepoCommitState::PARTIAL),
            filtered: metadata.contains(META_DROPPED),
        })
    }

    /// The image under a reference; `None` too where its commit has been lost.
    #[context("Looking up image {imgref}")]
    pub fn image(&self, imgref: &ImageReference) -> Result<Option<ImageRecord>> {
        match self.resolve_ref(&refs::of_image(imgref)?)? {
            Some(commit) if self.has(Digest::from_hex(&commit)?, ObjectKind::Commit)? => {
                self.image_of_commit(&commit)
            }
            _ => Ok(None),
        }
    }

    /// The image whose merge commit this is; `None` for any other commit.
    #[context("Reading the image in commit {commit}")]
    pub fn image_of_commit(&self, commit: &str) -> Result<Option<ImageRecord>> {
        let (variant, _) = self.ostree().load_commit(commit)?;
        let text = |key| metadata_text(&variant.child_value(0), key);
        let Some(digest) = text(META_MANIFEST_DIGEST) else {
            return Ok(None);
        };
        let manifest = text(META_MANIFEST).context("it has a manifest digest but no manifest")?;
        let config = text(META_CONFIG).filter(|text| text.trim() != "null");
        let record = ImageRecord {
            commit: commit.into(),
            manifest: parse_manifest(manifest)?,
            manifest_digest: digest.parse().context("its manifest digest")?,
            config: ImageConfig::parse(config.unwrap_or_else(|| NO_CONFIG.into()).into_bytes())?,
        };
        Ok(Some(record))
    }

    /// Takes an image's ref away; false when there is none. Its layers stay until the next prune.
    #[context("Removing image {imgref}")]
    pub fn remove_image(&self, imgref: &ImageReference) -> Result<bool> {
        let name = refs::of_image(imgref)?;
        if self.resolve_ref(&name)?.is_none() {
            return Ok(false);
        }
        self.remove_ref(&name)?;
        Ok(true)
    }

    /// Gives an image another name, which then leads to its merge commit.
    ///
    /// Interrupted, the image has both names.
    #[context("Renaming image {from} to {to}")]
    pub fn rename_image(&self, from: &ImageReference, to: &ImageReference) -> Result<()> {
        let (old, new) = (refs::of_image(from)?, refs::of_image(to)?);
        if old == new {
            return Ok(());
        }
        let commit = self.resolve_ref(&old)?.context("there is no such image")?;
        let named =
            self.ostree()
                .set_ref_immediate(None, &new, Some(&commit), gio::Cancellable::NONE);
        named.with_context(|| format!("Writing ref {new}"))?;
        self.remove_ref(&old)
    }

    pub(super) fn remove_ref(&self, name: &str) -> Result<()> {
        let removed = self
            .ostree()
            .set_ref_immediate(None, name, None, gio::Cancellable::NONE);
        removed.with_context(|| format!("Removing ref {name}"))
    }
}

/// Parses a manifest that must be of one image.
pub fn parse_manifest(text: String) -> Result<Manifest> {
    match ManifestOrIndex::parse(text.into_bytes(), None)? {
        ManifestOrIndex::Manifest(manifest) => Ok(manifest),
        ManifestOrIndex::Index(_) => anyhow::bail!("the stored manifest is an index"),
    }
}

/// A text value of commit metadata (`a{sv}`).
pub fn metadata_text(metadata: &Variant, key: &str) -> Option<String> {
    let value = VariantDict::new(Some(metadata)).lookup_value(key, None)?;
    value.str().map(Into::into)
}
