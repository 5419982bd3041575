//! The merge commit: an image's layers as one tree, with the manifest and config beside it. Layer
//! commits come in, one commit in staging goes out. Nothing is checked out; unread directories of
//! the base stay single checksums.

use std::collections::HashSet;

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::glib::prelude::*;

use super::catalog::{META_CONFIG, META_MANIFEST, META_MANIFEST_DIGEST};
use super::commit::{self, CommitInfo, IMPORTER, META_IMPORTER};
use super::derived_tree::is_everywhere;
use super::gvariant::DirTree;
use super::layer::path_rules;
use super::layer_stage::LayerStage;
use super::object::ObjectKind;
use super::selinux::Labeler;
use super::store::Repo;
use super::tree::{Dir, Node, TreeReader};
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
    let mut root = union(repo, layers)?;
    let moved_refs = match layers.derived.is_empty() {
        true => Vec::new(),
        false => relabel(repo, stage, &mut root, layers)?,
    };
    remove_left_behind(repo, &mut root)?;
    let tree = root.write(stage)?;
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
    let commit = commit::write(stage, &info, tree, root.meta)?;
    Ok(Merged {
        commit: commit.hex(),
        moved_refs,
    })
}

/// Lays the layers over each other.
fn union(repo: &Repo, layers: &LayerCommits) -> Result<Dir> {
    let open = |commit: &str| {
        let (tree, meta) = repo.commit_root(commit)?;
        anyhow::Ok(Dir::unread(tree, meta))
    };
    let rules = path_rules(repo, layers.base.as_deref())?;
    let mut root = layers.base.as_deref().map(open).transpose()?;
    for DerivedCommit { digest, commit, .. } in &layers.derived {
        let mut upper = open(commit)?;
        if !rules.allow_nonusr {
            // It may have been imported for another base.
            upper.entries(repo)?.retain(|name, _| is_everywhere(name));
        }
        let below = root.get_or_insert_with(|| Dir::empty(upper.meta));
        let applied = below.apply(&mut upper, repo);
        applied.with_context(|| format!("Applying layer {digest}"))?;
    }
    root.context("the image has no layers")
}

/// Labels the tree, and the ordinary layers too so that both share their objects; gives the refs
/// of the layers that changed.
fn relabel(
    repo: &Repo,
    stage: &mut LayerStage,
    root: &mut Dir,
    layers: &LayerCommits,
) -> Result<Vec<(String, String)>> {
    let Some(mut labeler) = Labeler::of_tree(repo, root, stage)? else {
        return Ok(Vec::new());
    };
    let mut moved_refs = Vec::new();
    for layer in &layers.derived {
        let Some(moved) = relabel_layer(repo, &mut labeler, stage, &layer.commit)? else {
            continue;
        };
        for name in [
            refs::of_blob(&layer.digest),
            refs::of_diff_id(&layer.diff_id),
        ] {
            if repo.resolve_ref(&name)?.as_ref() == Some(&layer.commit) {
                moved_refs.push((name, moved.clone()));
            }
        }
    }
    // After the layers: what turned out to need a label there needs it here.
    labeler.relabel(root, stage)?;
    Ok(moved_refs)
}

/// The same layer with labels of the image's policy; `None` when nothing changes.
fn relabel_layer(
    repo: &Repo,
    labeler: &mut Labeler<'_>,
    stage: &mut LayerStage,
    commit: &str,
) -> Result<Option<String>> {
    let (tree, meta) = repo.commit_root(commit)?;
    let mut root = Dir::unread(tree, meta);
    if !labeler.relabel_layer(&mut root, stage)? {
        return Ok(None);
    }
    let (variant, _) = repo.ostree().load_commit(commit)?;
    let timestamp = variant.child_value(5).get::<u64>().map_or(0, u64::from_be);
    let tree = root.write(stage)?;
    let metadata = variant.child_value(0);
    let root = (tree, root.meta);
    let moved = commit::write_with_metadata(stage, &metadata, None, timestamp, root)?;
    Ok(Some(moved.hex()))
}

fn remove_left_behind(repo: &Repo, root: &mut Dir) -> Result<()> {
    let Some(etc) = root.find_dir(&["usr", "etc"], repo)? else {
        return Ok(());
    };
    for name in LEFT_BEHIND {
        let Some(Node::File(file)) = etc.get(name) else {
            continue;
        };
        let (meta, size) = repo.file_meta(*file)?;
        if size == 0 && !meta.is_symlink() {
            etc.remove(name);
        }
    }
    Ok(())
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
    let mut seen = HashSet::new();
    let mut pending = vec![repo.commit_root(commit)?];
    while let Some((tree, meta)) = pending.pop() {
        if seen.insert((meta, ObjectKind::DirMeta)) {
            require(meta, ObjectKind::DirMeta)?;
        }
        if !seen.insert((tree, ObjectKind::DirTree)) {
            continue;
        }
        require(tree, ObjectKind::DirTree)?;
        let DirTree { files, dirs } = repo.dirtree(tree)?;
        for (_, file) in files {
            if seen.insert((file, ObjectKind::File)) {
                require(file, ObjectKind::File)?;
            }
        }
        pending.extend(dirs.into_iter().map(|(_, tree, meta)| (tree, meta)));
    }
    Ok(())
}
