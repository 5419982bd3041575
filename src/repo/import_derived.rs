//! Ordinary layers, as a Containerfile makes them. A tar stream comes in; file objects go to
//! staging and a tree of checksums goes out. Never follows a path outside the tree and never
//! makes a device.

use std::io::BufRead;

use super::LayerError;
use super::derived_tree::{DerivedTree, components};
use super::gvariant;
use super::layer_stage::{LayerStage, NoContent};
use super::object::{FileMeta, ObjectKind, S_IFDIR, S_IFLNK, S_IFREG};
use super::record::Tape;
use super::tar_stream::{Entry, Kind, TarStream};
use crate::image::Digest;

/// Directories whose content no image keeps, so that devices and pipes there are no harm.
const VOLATILE: [&str; 5] = ["dev", "run", "tmp", "proc", "sys"];

/// Imports one layer whole. Hard links are resolved; paths are still those of the archive. Gives the
/// record, too.
pub fn import<R: BufRead>(
    mut tar: TarStream<R>,
    stage: &mut LayerStage,
) -> Result<(DerivedTree, Option<Tape>), LayerError> {
    let mut tree = DerivedTree::new(dir_meta(stage, (0, 0, 0o755), &Vec::new())?);
    while let Some(entry) = tar.next_entry()? {
        take(entry, &mut tar, stage, &mut tree)?;
    }
    tree.resolve_links(stage)?;
    let tape = tar.drain()?;
    Ok((tree, tape))
}

fn take<R: BufRead>(
    entry: Entry,
    tar: &mut TarStream<R>,
    stage: &mut LayerStage,
    tree: &mut DerivedTree,
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
            let meta = dir_meta(stage, (uid, gid, mode), &entry.xattrs)?;
            tree.directory(stage, &path, meta)
        }
        Kind::Regular => {
            let meta = meta(S_IFREG, Vec::new(), entry.xattrs);
            // What is in these directories never stays: the record has it at once.
            let stays = !path.first().is_some_and(|top| is_volatile(top));
            if stays {
                tar.leave_out();
            }
            let object = stage.file_at(&path, &meta, size, tar)?;
            if stays {
                tar.is_content_of((object, ObjectKind::File))?;
            }
            tree.file(stage, &path, object)
        }
        Kind::Symlink => {
            if entry.link.is_empty() || entry.link.contains(&0) {
                return Err(refuse(&path, "is a symbolic link to nothing"));
            }
            let meta = meta(S_IFLNK, entry.link, entry.xattrs);
            let object = stage.file(&meta, 0, None, &mut NoContent)?;
            tree.file(stage, &path, object)
        }
        Kind::HardLink => {
            let target = components(&entry.link)
                .map_err(|_| refuse(&path, "is a hard link to a place outside the tree"))?;
            tree.hard_link(stage, &path, &target)
        }
        Kind::Device | Kind::Fifo => match path.first().is_some_and(|top| is_volatile(top)) {
            true => Ok(()),
            false => Err(refuse(
                &path,
                "is a device or pipe, which only /dev may have",
            )),
        },
    }
}

fn is_volatile(top: &str) -> bool {
    VOLATILE.contains(&top)
}

fn dir_meta(
    stage: &mut LayerStage,
    (uid, gid, mode): (u32, u32, u32),
    xattrs: &gvariant::Xattrs,
) -> Result<Digest, LayerError> {
    let data = gvariant::metadata(uid, gid, S_IFDIR | mode, xattrs);
    Ok(stage.metadata(ObjectKind::DirMeta, &data)?)
}

fn refuse(path: &[String], reason: &'static str) -> LayerError {
    LayerError::Path {
        path: path.join("/"),
        reason,
    }
}
