//! A commit as tar: whole, as the commit layer of an image, or as one of its chunk layers. Commits in a
//! repository come in, tar streams go out, the same bytes each time. Never compresses anything.
//!
//! Order and names: docs of ostree-ext, "tar format".

use std::collections::HashSet;
use std::io::Write;

use anyhow::{Context, Result, bail};
use fn_error_context::context;

use super::listing::{DirId, ListedObject, Listing};
use super::object_tar::ObjectTar;
use crate::image::Digest;
use crate::repo::dirtree::{DirTree, Entry};
use crate::repo::{CommitFacts, ObjectKind, Repo};

/// Deepest directory that is followed.
const MAX_DEPTH: usize = 1000;
/// What a commit has at its root and every layer brings along.
const SYSROOT: &str = "sysroot";

/// How chunk layers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FormatVersion {
    /// Files only.
    #[default]
    V1,
    /// The directories above the files, too, each once in a layer.
    V2,
}

/// Writes a commit with everything that belongs to it.
#[context("Exporting commit {}", commit.checksum)]
pub fn export<W: Write>(repo: &Repo, commit: &CommitFacts, out: W) -> Result<W> {
    let mut export = Structure::new(repo, out, Some(HashSet::new()));
    export.commit(commit)?;
    Ok(export.tar.finish()?)
}

/// Writes the first layer of an image: the commit, its directories, and the objects that are in no
/// chunk.
#[context("Writing the layer of commit {}", commit.checksum)]
pub fn commit_layer<W: Write>(
    repo: &Repo,
    commit: &CommitFacts,
    listing: &Listing,
    rest: impl Iterator<Item = Digest>,
    out: W,
) -> Result<W> {
    let mut layer = Structure::new(repo, out, None);
    layer.commit(commit)?;
    for object in rest {
        let object = listing
            .object(object)
            .context("the commit has no such object")?;
        write_object(&mut layer.tar, &object, |_, _| Ok(()))?;
    }
    Ok(layer.tar.finish()?)
}

/// Writes a layer of file objects, which must be sorted.
#[context("Writing a layer of {} objects", objects.len())]
pub fn chunk_layer<W: Write>(
    repo: &Repo,
    listing: &Listing,
    objects: &[Digest],
    format: FormatVersion,
    out: W,
) -> Result<W> {
    let mut tar = ObjectTar::new(repo, out);
    tar.skeleton()?;
    let mut parents = HashSet::new();
    for object in objects {
        let object = listing
            .object(*object)
            .context("the commit has no such object")?;
        write_object(&mut tar, &object, |tar, dir| match format {
            FormatVersion::V1 => Ok(()),
            FormatVersion::V2 => write_parents(tar, listing, dir, &mut parents),
        })?;
    }
    Ok(tar.finish()?)
}

/// Writes a file object and its paths.
fn write_object<W: Write>(
    tar: &mut ObjectTar<'_, W>,
    object: &ListedObject<'_>,
    mut before_path: impl FnMut(&mut ObjectTar<'_, W>, Option<DirId>) -> Result<()>,
) -> Result<()> {
    let written = tar.content(object.checksum())?;
    for (dir, path) in object.paths() {
        before_path(tar, dir)?;
        tar.link(&written, container_path(&path))?;
    }
    Ok(())
}

fn write_parents<W: Write>(
    tar: &mut ObjectTar<'_, W>,
    listing: &Listing,
    dir: Option<DirId>,
    written: &mut HashSet<String>,
) -> Result<()> {
    let above = std::iter::successors(dir, |dir| listing.parent(*dir));
    let mut dirs: Vec<DirId> = above.collect();
    // What `usr/etc` becomes is not below `usr`.
    let mapped = |dir: DirId| {
        let path = listing.dir_path(dir);
        (container_path(&path) != path, path)
    };
    if dirs.iter().any(|dir| mapped(*dir).0) {
        dirs.retain(|dir| mapped(*dir).0);
    }
    for dir in dirs.into_iter().rev() {
        let path = container_path(&mapped(dir).1).to_owned();
        if written.contains(&path) {
            continue;
        }
        let meta = listing.dir_meta(dir);
        tar.dir(&path, (meta.uid, meta.gid, meta.mode))?;
        written.insert(path);
    }
    Ok(())
}

/// The path in a container for a path of a commit: what ostree keeps in `usr/etc` is `etc` there.
fn container_path(path: &str) -> &str {
    match path.strip_prefix("usr/etc") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => &path["usr/".len()..],
        _ => path,
    }
}

/// The part of a stream that has a commit's own objects and its directories.
struct Structure<'a, W: Write> {
    repo: &'a Repo,
    tar: ObjectTar<'a, W>,
    trees: HashSet<Digest>,
    metas: HashSet<Digest>,
    /// Contents that have been written; `None` leaves files out.
    contents: Option<HashSet<Digest>>,
    has_var_tmp: bool,
}

impl<'a, W: Write> Structure<'a, W> {
    fn new(repo: &'a Repo, out: W, contents: Option<HashSet<Digest>>) -> Self {
        Self {
            repo,
            tar: ObjectTar::new(repo, out),
            trees: HashSet::new(),
            metas: HashSet::new(),
            contents,
            has_var_tmp: false,
        }
    }

    fn commit(&mut self, commit: &CommitFacts) -> Result<()> {
        let root = self.repo.dirmeta(commit.meta)?;
        self.tar.dir("./", (root.uid, root.gid, root.mode))?;
        self.tar.skeleton()?;
        let name = commit.checksum;
        self.tar.metadata(ObjectKind::Commit, name, &commit.bytes)?;
        // Signatures come right behind, so that a reader can check them before it stores anything.
        if let Some(detached) = &commit.detached {
            self.tar.metadata(ObjectKind::CommitMeta, name, detached)?;
        }
        self.meta(commit.meta)?;
        self.tree(".", commit.tree, true, 0)?;
        self.left_out(commit.tree)?;
        if !self.has_var_tmp {
            self.tar.dir("var/tmp", (0, 0, 0o1777))?;
        }
        Ok(())
    }

    /// Writes what is below a directory, whose path begins with a dot.
    fn tree(&mut self, path: &str, tree: Digest, is_root: bool, depth: usize) -> Result<()> {
        let data = self.tree_object(tree, depth)?;
        let tree = DirTree::parse(&data)?;
        for entry in tree.files() {
            if let Entry::File(name, object) = entry {
                self.file(&format!("{path}/{name}"), Digest::from_bytes(*object))?;
            }
        }
        self.has_var_tmp |= path == "./var/tmp";
        for entry in tree.dirs() {
            let Entry::Dir(name, tree, meta) = entry else {
                continue;
            };
            let meta = Digest::from_bytes(*meta);
            self.meta(meta)?;
            // Every layer has this directory already, and a container's layer has nothing twice.
            if is_root && name == SYSROOT {
                continue;
            }
            let meta = self.repo.dirmeta(meta)?;
            let child = format!("{path}/{name}");
            let (shown, child) = match child == "./usr/etc" {
                true => ("./etc/".to_owned(), "./etc".to_owned()),
                false => (child.clone(), child),
            };
            self.tar.dir(&shown, (meta.uid, meta.gid, meta.mode))?;
            self.tree(&child, Digest::from_bytes(*tree), false, depth + 1)?;
        }
        Ok(())
    }

    /// What is below `/sysroot` in a commit: only as objects, and only what did not come anyway.
    fn left_out(&mut self, root: Digest) -> Result<()> {
        let data = self.repo.metadata_object(root, ObjectKind::DirTree)?;
        match DirTree::parse(&data)?.find(SYSROOT) {
            Some(Entry::Dir(_, tree, _)) => self.objects_below(Digest::from_bytes(*tree), 0),
            _ => Ok(()),
        }
    }

    fn objects_below(&mut self, tree: Digest, depth: usize) -> Result<()> {
        if self.trees.contains(&tree) {
            return Ok(());
        }
        let data = self.tree_object(tree, depth)?;
        for entry in DirTree::parse(&data)?.entries() {
            match entry {
                Entry::File(_, object) => {
                    let object = Digest::from_bytes(*object);
                    if self.contents.as_mut().is_some_and(|c| c.insert(object)) {
                        self.tar.content(object)?;
                    }
                }
                Entry::Dir(_, tree, meta) => {
                    self.meta(Digest::from_bytes(*meta))?;
                    self.objects_below(Digest::from_bytes(*tree), depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn tree_object(&mut self, tree: Digest, depth: usize) -> Result<Vec<u8>> {
        if depth > MAX_DEPTH {
            bail!("the directories are nested more than {MAX_DEPTH} deep");
        }
        let data = self.repo.metadata_object(tree, ObjectKind::DirTree)?;
        if self.trees.insert(tree) {
            self.tar.metadata(ObjectKind::DirTree, tree, &data)?;
        }
        Ok(data)
    }

    fn meta(&mut self, meta: Digest) -> Result<()> {
        if self.metas.insert(meta) {
            let data = self.repo.metadata_object(meta, ObjectKind::DirMeta)?;
            self.tar.metadata(ObjectKind::DirMeta, meta, &data)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, object: Digest) -> Result<()> {
        let Some(contents) = &mut self.contents else {
            return Ok(());
        };
        let written = match contents.insert(object) {
            true => self.tar.content(object)?,
            false => self.tar.again(object)?,
        };
        Ok(self.tar.link(&written, path)?)
    }
}
