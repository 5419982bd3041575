//! The merge commit: an image's layers as one tree, with the manifest and config beside it. Layer
//! commits come in, one commit in staging goes out. Nothing is checked out; unread directories of
//! the base stay single checksums.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use fn_error_context::context;
use ostree::glib::prelude::*;

use super::catalog::{META_CONFIG, META_MANIFEST, META_MANIFEST_DIGEST};
use super::commit::{self, CommitInfo, IMPORTER, META_IMPORTER};
use super::derived_tree::is_everywhere;
use super::dirtree::{DirTree, Entry};
use super::layer::path_rules;
use super::layer_stage::LayerStage;
use super::object::ObjectKind;
use super::selinux::Labeler;
use super::store::Repo;
use super::tree::TreeStore;
use super::union::{Part, TreeReader, TreeWriter, Union};
use super::{LayerError, refs};
use crate::image::{Digest, ImageConfig, Manifest};

/// Files that container builds leave behind empty (containers/buildah#4242).
const LEFT_BEHIND: [&str; 2] = ["hostname", "resolv.conf"];

/// The commits of an image's layers; all are in the repository.
#[derive(Debug, Clone, Default)]
pub struct LayerCommits {
    /// The encapsulated commit.
    pub base: Option<String>,
    /// Ordinary layers in order.
    pub derived: Vec<DerivedCommit>,
}

/// An ordinary layer in the repository.
#[derive(Debug, Clone)]
pub struct DerivedCommit {
    /// Digest of its blob.
    pub digest: Digest,
    /// Digest of its tar stream.
    pub diff_id: Digest,
    /// Its commit.
    pub commit: String,
}

/// What the merge wrote.
#[derive(Debug)]
pub struct Merged {
    /// The merge commit.
    pub commit: String,
    /// Refs of layers that point to relabelled commits now: ref name and commit.
    pub moved_refs: Vec<(String, String)>,
}

/// Writes the merge commit of an image.
#[context("Merging the image's layers")]
pub fn merge(
    repo: &Repo,
    stage: &mut LayerStage,
    layers: &LayerCommits,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Merged> {
    let mut union = union(repo, layers)?;
    let left_behind = left_behind(repo, &union)?;
    let labeler = match layers.derived.is_empty() {
        true => None,
        false => Labeler::of_tree(repo, &union, stage)?,
    };
    let mut weave = Weave {
        repo,
        stage: &mut *stage,
        labeler,
    };
    let moved_refs = weave.relabel_layers(layers, &mut union)?;
    let (tree, meta) = union.write(&mut weave, &left_behind)?;
    let parent = layers.base.as_deref().map(Digest::from_hex).transpose()?;
    let mut metadata = vec![
        (
            META_MANIFEST_DIGEST,
            manifest.digest().to_string().to_variant(),
        ),
        (META_MANIFEST, manifest.to_oci_json().to_variant()),
        (
            META_CONFIG,
            String::from_utf8_lossy(config.raw()).to_variant(),
        ),
        (META_IMPORTER, IMPORTER.to_variant()),
    ];
    // libostree puts it into the title of the boot entry.
    let version = config.version();
    if let Some(version) = version.filter(|v| !v.contains(char::is_control)) {
        metadata.push(("version", version.to_variant()));
    }
    let info = CommitInfo {
        metadata,
        parent,
        timestamp: timestamp(manifest, config),
    };
    let commit = commit::write(stage, &info, tree, meta)?;
    Ok(Merged {
        commit: commit.hex(),
        moved_refs,
    })
}

/// The layers over each other.
fn union(repo: &Repo, layers: &LayerCommits) -> Result<Union> {
    let rules = path_rules(repo, layers.base.as_deref())?;
    let mut parts = Vec::new();
    if let Some(base) = &layers.base {
        parts.push(root_of(repo, base, false)?);
    }
    for layer in &layers.derived {
        parts.push(root_of(repo, &layer.commit, true)?);
    }
    if parts.is_empty() {
        bail!("the image has no layers");
    }
    let mut union = Union::of(parts);
    if !rules.allow_nonusr {
        // Layers may have been imported for another base.
        union.keep = is_everywhere;
    }
    Ok(union)
}

fn root_of(repo: &Repo, commit: &str, layered: bool) -> Result<Part> {
    let (tree, meta) = repo.commit_root(commit)?;
    Ok(Part {
        tree,
        meta,
        layered,
    })
}

/// Paths of files that container builds left behind.
fn left_behind(repo: &Repo, union: &Union) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let Some(etc) = union.find(&["usr", "etc"], repo)? else {
        return Ok(paths);
    };
    for name in LEFT_BEHIND {
        let Some(file) = etc.file(name, repo)? else {
            continue;
        };
        let (meta, size) = repo.file_meta(file)?;
        if size == 0 && !meta.is_symlink() {
            paths.push(format!("/usr/etc/{name}"));
        }
    }
    Ok(paths)
}

/// Reads trees from the repository and the stage, and writes to the stage, with labels if the image
/// has a policy.
struct Weave<'a> {
    repo: &'a Repo,
    stage: &'a mut LayerStage,
    labeler: Option<Labeler<'a>>,
}

impl Weave<'_> {
    /// Labels the ordinary layers, so that they share their objects with the merged tree, and puts
    /// them into the union; gives the refs of those that changed.
    fn relabel_layers(
        &mut self,
        layers: &LayerCommits,
        union: &mut Union,
    ) -> Result<Vec<(String, String)>> {
        let mut moved_refs = Vec::new();
        if self.labeler.is_none() {
            return Ok(moved_refs);
        }
        let parts = union.parts.iter_mut().filter(|part| part.layered);
        for (layer, part) in layers.derived.iter().zip(parts) {
            let Some(moved) = self.relabel_layer(&layer.commit, part)? else {
                continue;
            };
            for name in [
                refs::of_blob(&layer.digest),
                refs::of_diff_id(&layer.diff_id),
            ] {
                if self.repo.resolve_ref(&name)?.as_ref() == Some(&layer.commit) {
                    moved_refs.push((name, moved.clone()));
                }
            }
        }
        Ok(moved_refs)
    }

    /// The same layer with labels of the image's policy; `None` when nothing changes.
    fn relabel_layer(&mut self, commit: &str, part: &mut Part) -> Result<Option<String>> {
        let layer = Union::of(vec![Part {
            layered: false,
            ..*part
        }]);
        self.doubt_labels(true);
        let root = layer.write(self, &[]);
        self.doubt_labels(false);
        let root = root?;
        if root == (part.tree, part.meta) {
            return Ok(None);
        }
        (part.tree, part.meta) = root;
        let (variant, _) = self.repo.ostree().load_commit(commit)?;
        let timestamp = variant.child_value(5).get::<u64>().map_or(0, u64::from_be);
        let metadata = variant.child_value(0);
        let moved = commit::write_with_metadata(self.stage, &metadata, None, timestamp, root)?;
        Ok(Some(moved.hex()))
    }

    /// Files of an ordinary layer may never have been given a label.
    fn doubt_labels(&mut self, doubt: bool) {
        if let Some(labeler) = &mut self.labeler {
            labeler.doubt = doubt;
        }
    }
}

impl TreeReader for Weave<'_> {
    fn tree(&self, checksum: Digest) -> Result<Vec<u8>> {
        let tree = self.stage.read_tree(checksum);
        tree.with_context(|| format!("Reading directory tree {checksum}"))
    }

    fn is_symlink(&self, checksum: Digest) -> Result<bool> {
        match self.stage.staged_file(checksum)? {
            Some(meta) => Ok(meta.is_symlink()),
            None => self.repo.is_symlink(checksum),
        }
    }
}

impl TreeWriter for Weave<'_> {
    fn write_tree(&mut self, data: &[u8]) -> Result<Digest> {
        let written = self.stage.write_tree(data);
        written.context("Writing a directory tree")
    }

    fn labels(&self) -> bool {
        self.labeler.is_some()
    }

    fn file(&mut self, path: &str, object: Digest) -> Result<Digest> {
        match &mut self.labeler {
            Some(labeler) => labeler.file(path, object, self.stage),
            None => Ok(object),
        }
    }

    fn dir(&mut self, path: &str, meta: Digest) -> Result<Digest> {
        match &mut self.labeler {
            Some(labeler) => labeler.dir(path, meta, self.stage),
            None => Ok(meta),
        }
    }
}

/// When the image was made: the manifest's annotation, else the config's word, else now; seconds.
fn timestamp(manifest: &Manifest, config: &ImageConfig) -> u64 {
    let annotation = manifest.annotations.get("org.opencontainers.image.created");
    let text = annotation.or(config.created.as_ref());
    let parsed = text.and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let seconds = parsed.map_or_else(|| chrono::Utc::now().timestamp(), |time| time.timestamp());
    u64::try_from(seconds).unwrap_or(0)
}

/// Checks that everything an encapsulated commit refers to has come; the first that has not is the
/// error. Without this a chunk that lacks a file would only be noticed when the host boots.
pub fn verify_complete(repo: &Repo, commit: &str) -> Result<()> {
    let require = |digest: Digest, kind: ObjectKind| match repo.has(digest, kind)? {
        true => anyhow::Ok(()),
        false => Err(anyhow::Error::from(LayerError::Incomplete {
            commit: commit.into(),
            object: format!("{}.{}", digest.hex(), kind.extension(false)),
        })),
    };
    // A tree that many others have would else be gone through for each of them.
    let mut seen = HashSet::new();
    let (root, meta) = repo.commit_root(commit)?;
    require(meta, ObjectKind::DirMeta)?;
    let mut pending = vec![root];
    while let Some(tree) = pending.pop() {
        if !seen.insert(tree) {
            continue;
        }
        require(tree, ObjectKind::DirTree)?;
        let data = repo.tree(tree)?;
        let entries = DirTree::parse(&data);
        let entries = entries.with_context(|| format!("Reading directory tree {tree}"))?;
        for entry in entries.entries() {
            match entry {
                Entry::File(_, file) => require(Digest::from_bytes(*file), ObjectKind::File)?,
                Entry::Dir(_, tree, meta) => {
                    require(Digest::from_bytes(*meta), ObjectKind::DirMeta)?;
                    pending.push(Digest::from_bytes(*tree));
                }
            }
        }
    }
    Ok(())
}
