//! Ordinary layers, as a Containerfile makes them. A tar stream comes in; file objects go to
//! staging and a tree of checksums goes out. Never follows a path outside the tree and never
//! makes a device.

use std::collections::HashMap;
use std::io::BufRead;

use super::LayerError;
use super::derived_tree::{DerivedTree, components};
use super::gvariant;
use super::layer_stage::{LayerStage, Whole};
use super::object::{FileMeta, ObjectKind, S_IFDIR, S_IFLNK, S_IFREG};
use super::tar_stream::{Entry, Kind, TarStream};
use crate::image::Digest;

/// Most entries of one layer.
const MAX_ENTRIES: usize = 10_000_000;
/// Directories whose content no image keeps, so that devices and pipes there are no harm.
const VOLATILE: [&str; 5] = ["dev", "run", "tmp", "proc", "sys"];

/// Imports one layer whole. Hard links are resolved; paths are still those of the archive.
pub fn import<R: BufRead>(
    mut tar: TarStream<R>,
    stage: &mut LayerStage,
) -> Result<DerivedTree, LayerError> {
    let mut dirs = DirMetas::default();
    let mut tree = DerivedTree::new(dirs.get(stage, 0, 0, 0o755, Vec::new())?);
    let mut entries = 0;
    while let Some(entry) = tar.next_entry()? {
        entries += 1;
        if entries > MAX_ENTRIES {
            let reason = "comes after more entries than a layer may have";
            return Err(LayerError::Path {
                path: entry.display(),
                reason,
            });
        }
        take(entry, &mut tar, stage, &mut tree, &mut dirs)?;
    }
    tree.resolve_links()?;
    tar.drain()?;
    Ok(tree)
}

fn take<R: BufRead>(
    entry: Entry,
    tar: &mut TarStream<R>,
    stage: &mut LayerStage,
    tree: &mut DerivedTree,
    dirs: &mut DirMetas,
) -> Result<(), LayerError> {
    let path = components(&entry.path)?;
    let Entry {
        kind,
        uid,
        gid,
        mode,
        size,
        ..
    } = entry;
    let meta = |type_bits, target, xattrs| FileMeta {
        uid,
        gid,
        mode: type_bits | mode,
        target,
        xattrs,
    };
    match kind {
        Kind::Directory => {
            let meta = dirs.get(stage, uid, gid, mode, entry.xattrs)?;
            tree.directory(&path, meta)
        }
        Kind::Regular => {
            let meta = meta(S_IFREG, Vec::new(), entry.xattrs);
            let object = stage.file(&meta, size, None, tar)?;
            tree.file(&path, object)
        }
        Kind::Symlink => {
            if entry.link.is_empty() || entry.link.contains(&0) {
                return Err(refuse(&path, "is a symbolic link to nothing"));
            }
            let meta = meta(S_IFLNK, entry.link, entry.xattrs);
            let object = stage.file(&meta, 0, None, &mut Whole(None))?;
            tree.file(&path, object)
        }
        Kind::HardLink => {
            let target = components(&entry.link)
                .map_err(|_| refuse(&path, "is a hard link to a place outside the tree"))?;
            tree.hard_link(&path, target)
        }
        Kind::Device | Kind::Fifo => {
            let volatile = path
                .first()
                .is_some_and(|top| VOLATILE.contains(&top.as_str()));
            match volatile {
                true => Ok(()),
                false => Err(refuse(
                    &path,
                    "is a device or pipe, which only /dev may have",
                )),
            }
        }
    }
}

/// Dirmeta objects by what they say: an image has thousands of directories and a few of these.
#[derive(Debug, Default)]
struct DirMetas(HashMap<Vec<u8>, Digest>);

impl DirMetas {
    fn get(
        &mut self,
        stage: &mut LayerStage,
        uid: u32,
        gid: u32,
        mode: u32,
        xattrs: gvariant::Xattrs,
    ) -> Result<Digest, LayerError> {
        let data = gvariant::metadata(uid, gid, S_IFDIR | mode, &xattrs);
        if let Some(known) = self.0.get(&data) {
            return Ok(*known);
        }
        let checksum = stage.metadata(ObjectKind::DirMeta, &data)?;
        self.0.insert(data, checksum);
        Ok(checksum)
    }
}

fn refuse(path: &[String], reason: &'static str) -> LayerError {
    LayerError::Path {
        path: path.join("/"),
        reason,
    }
}
