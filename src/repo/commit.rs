//! Commit objects: a tree and what is known about it come in, the object goes out to staging.
//!
//! Shape: libostree, ostree-core.h, `OSTREE_COMMIT_GVARIANT_STRING`.

use anyhow::{Context, Result};
use ostree::glib::prelude::*;
use ostree::glib::{Bytes, Variant, VariantDict, VariantTy};

use super::derived_tree::CommitTree;
use super::digests::Digests;
use super::dirtree::write_flat;
use super::gvariant::{self, Malformed};
use super::import_ostree::twice;
use super::layer_stage::LayerStage;
use super::object::{ObjectKind, S_IFDIR};
use crate::image::Digest;

/// Metadata key with the version of what imported a layer or image.
pub const META_IMPORTER: &str = "ostree.importer.version";
/// What Bowline writes there.
pub const IMPORTER: &str = concat!("bowline-", env!("CARGO_PKG_VERSION"));

/// Checks that foreign bytes are a commit that libostree's fsck accepts.
pub fn validate(data: &[u8]) -> Result<(), Malformed> {
    let commit = normal(data, "(a{sv}aya(say)sstayay)").ok_or(Malformed("commit"))?;
    ostree::validate_structureof_commit(&commit).map_err(|_| Malformed("commit"))
}

/// Checks that foreign bytes are detached metadata of a commit.
pub fn validate_detached(data: &[u8]) -> Result<(), Malformed> {
    match detached_dictionary(data) {
        Some(_) => Ok(()),
        None => Err(Malformed("detached metadata")),
    }
}

/// Detached metadata of a commit, if that is what the bytes are.
pub fn detached_dictionary(data: &[u8]) -> Option<Variant> {
    normal(data, "a{sv}")
}

fn normal(data: &[u8], shape: &str) -> Option<Variant> {
    let shape = VariantTy::new(shape).ok()?;
    let variant = Variant::from_bytes_with_type(&Bytes::from(data), shape);
    variant.is_normal_form().then_some(variant)
}

/// What a commit says beside its tree.
#[derive(Debug, Default)]
pub struct CommitInfo<'a> {
    /// Metadata with text values, in the order given.
    pub metadata: Vec<(&'a str, Variant)>,
    /// The commit before it.
    pub parent: Option<Digest>,
    /// Seconds since 1970.
    pub timestamp: u64,
}

/// Writes a commit of a tree that is written already.
pub fn write(
    stage: &mut LayerStage,
    info: &CommitInfo<'_>,
    tree: Digest,
    meta: Digest,
) -> Result<Digest> {
    let dict = VariantDict::new(None);
    for (key, value) in &info.metadata {
        dict.insert_value(key, value);
    }
    write_with_metadata(
        stage,
        &dict.end(),
        info.parent,
        info.timestamp,
        (tree, meta),
    )
}

/// [`write`] with metadata that another commit had (`a{sv}`).
pub fn write_with_metadata(
    stage: &mut LayerStage,
    metadata: &Variant,
    parent: Option<Digest>,
    timestamp: u64,
    root: (Digest, Digest),
) -> Result<Digest> {
    let bytes = |digest: Digest| digest.as_bytes().to_vec().to_variant();
    let parent = parent.map_or_else(|| Vec::<u8>::new().to_variant(), bytes);
    let commit = Variant::tuple_from_iter([
        metadata.clone(),
        parent,
        Vec::<(String, Vec<u8>)>::new().to_variant(),
        "".to_variant(),
        "".to_variant(),
        timestamp.to_be().to_variant(),
        bytes(root.0),
        bytes(root.1),
    ]);
    let data = commit.normal_form();
    let written = stage.metadata(ObjectKind::Commit, data.data());
    let written = written.context("Writing a commit object")?;
    stage.no_other_detached_metadata(written);
    Ok(written)
}

/// Writes the commit of a chunk layer: a flat directory of its objects. The same objects give the
/// same commit, always. An object that came twice is an error.
pub fn write_chunk(stage: &mut LayerStage, files: Digests) -> Result<Digest> {
    let count = files.len();
    let tree = stage.stream(ObjectKind::DirTree, |out| {
        let mut last = None;
        write_flat(out, count, |each| {
            files.sorted(|file| match last.replace(file) == Some(file) {
                true => Err(twice(file)),
                false => Ok(each(file)?),
            })
        })
    });
    let tree = tree.context("Writing a directory tree")?;
    let meta = gvariant::metadata(0, 0, S_IFDIR | 0o755, &Vec::new());
    let meta = stage
        .metadata(ObjectKind::DirMeta, &meta)
        .context("Writing directory metadata")?;
    write(stage, &CommitInfo::default(), tree, meta)
}

/// Writes the commit of an ordinary layer.
pub fn write_derived(stage: &mut LayerStage, tree: &CommitTree) -> Result<Digest> {
    let mut metadata = vec![(META_IMPORTER, IMPORTER.to_variant())];
    if !tree.dropped.is_empty() {
        let dict = VariantDict::new(None);
        for (name, count) in &tree.dropped {
            dict.insert_value(name, &count.to_variant());
        }
        metadata.push((META_DROPPED, dict.end()));
    }
    let info = CommitInfo {
        metadata,
        ..CommitInfo::default()
    };
    write(stage, &info, tree.tree, tree.meta)
}

/// Metadata key of a layer's commit: how many entries were dropped per top-level name (`a{sv}`).
pub const META_DROPPED: &str = "bowline.dropped-paths";
