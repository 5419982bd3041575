//! The tree of an ordinary layer, entry by entry, in any order. Paths and objects come in; a tree
//! with the paths that an ostree commit has goes out. Files are only checksums here.
//!
//! ```text
//! usr/**          stays                 run tmp proc sys dev   the directory stays, empty
//! etc/**          usr/etc/**            anything else          stays if the base allows it,
//! var/**          stays, or goes to                            else dropped and counted
//!                 usr/share/factory/var
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::LayerError;
use super::dirtree::Entry;
use super::object::ObjectKind;
use super::open_dirs::OpenDirs;
use super::tree::{Content, Dir, Entries, Node, TreeStore, parse};
use crate::image::Digest;

const EMPTIED: [&str; 5] = ["run", "tmp", "proc", "sys", "dev"];
/// Most names that one layer may hold or wait for.
const MAX_NAMES: usize = 4 << 20;
/// Whether a base without a writable root may have this name at the top of a layer's commit.
pub fn is_everywhere(name: &str) -> bool {
    matches!(name, "usr" | "var") || EMPTIED.contains(&name)
}

/// Longest chain of hard links to hard links that come later.
const MAX_LINK_ROUNDS: usize = 64;

/// How the paths of a layer become the paths of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathRules {
    /// Keep top-level names that ostree hosts do not have.
    pub allow_nonusr: bool,
    /// Keep `/var`; libostree before 2024.3 does not copy it, so it goes to the factory directory.
    pub retain_var: bool,
}

/// A layer's entries so far, under the paths of the archive. Directories that the archive has left
/// are in the store; they are read again when it comes back to them.
#[derive(Debug)]
pub struct DerivedTree {
    root: Dir,
    /// Metadata of directories that only their content implies.
    default_meta: Digest,
    /// Hard links whose target has not come yet: link, target.
    waiting: Vec<(Box<str>, Box<str>)>,
    names: usize,
    dirs: OpenDirs,
    /// Objects that hard links expect in the repository.
    expected: BTreeSet<Digest>,
}

/// The tree of a layer's commit.
#[derive(Debug, PartialEq, Eq)]
pub struct CommitTree {
    /// The dirtree object.
    pub tree: Digest,
    /// The dirmeta object.
    pub meta: Digest,
    /// How many entries were left out per top-level name.
    pub dropped: BTreeMap<String, u32>,
    /// Objects that were put into the store and may not be in the tree.
    pub doubtful: BTreeSet<(Digest, ObjectKind)>,
    /// File objects that must be in the repository if they are in the tree.
    pub expected: BTreeSet<Digest>,
}

impl DerivedTree {
    /// An empty tree.
    pub fn new(default_meta: Digest) -> Self {
        Self {
            root: Dir::empty(default_meta),
            default_meta,
            waiting: Vec::new(),
            names: 0,
            dirs: OpenDirs::default(),
            expected: BTreeSet::new(),
        }
    }

    /// Takes a directory; what is in it already stays.
    pub fn directory(
        &mut self,
        store: &mut dyn TreeStore,
        path: &[String],
        meta: Digest,
    ) -> Result<(), LayerError> {
        let Some((name, parents)) = path.split_last() else {
            self.root.meta = meta;
            return Ok(());
        };
        if let Some(Node::Dir(dir)) = self.parent(store, parents)?.get_mut(name.as_str()) {
            dir.meta = meta;
            return Ok(());
        }
        self.insert(store, path, Node::Dir(Box::new(Dir::empty(meta))))
    }

    /// Takes a file or symbolic link; it replaces what stood there.
    pub fn file(
        &mut self,
        store: &mut dyn TreeStore,
        path: &[String],
        object: Digest,
    ) -> Result<(), LayerError> {
        match path {
            [] => Err(bad(path, "is the root but not a directory")),
            _ => self.insert(store, path, Node::File(object)),
        }
    }

    fn insert(
        &mut self,
        store: &mut dyn TreeStore,
        path: &[String],
        node: Node,
    ) -> Result<(), LayerError> {
        let Some((name, parents)) = path.split_last() else {
            return Ok(());
        };
        let old = self
            .parent(store, parents)?
            .insert(name.as_str().into(), node);
        self.dirs.replaced(old, store)
    }

    /// Takes a hard link; its target may come later.
    pub fn hard_link(
        &mut self,
        store: &mut dyn TreeStore,
        path: &[String],
        target: &[String],
    ) -> Result<(), LayerError> {
        match self.lookup(store, target)? {
            Some(object) => self.file(store, path, object),
            None => {
                self.names += path.len() + target.len();
                let joined = |path: &[String]| path.join("/").into_boxed_str();
                self.waiting.push((joined(path), joined(target)));
                self.check_names(path)
            }
        }
    }

    fn check_names(&self, path: &[String]) -> Result<(), LayerError> {
        match self.names {
            0..=MAX_NAMES => Ok(()),
            _ => Err(bad(path, "comes after more names than a layer may have")),
        }
    }

    fn lookup(
        &mut self,
        store: &dyn TreeStore,
        path: &[String],
    ) -> Result<Option<Digest>, LayerError> {
        let mut path = path;
        let mut dir = &mut self.root;
        while let [name, rest @ ..] = path {
            match dir.content {
                Content::Settled(tree) if self.dirs.may_look() => {
                    return self.find(store, tree, path);
                }
                _ => {}
            }
            dir = match (self.dirs.open(dir, store)?.get_mut(name.as_str()), rest) {
                (Some(Node::File(object)), []) => return Ok(Some(*object)),
                (Some(Node::Dir(dir)), _) => dir,
                _ => return Ok(None),
            };
            path = rest;
        }
        Ok(None)
    }

    /// The file object at a path below a stored directory.
    fn find(
        &mut self,
        store: &dyn TreeStore,
        mut tree: Digest,
        mut path: &[String],
    ) -> Result<Option<Digest>, LayerError> {
        while let [name, rest @ ..] = path {
            let data = store.read_tree(tree)?;
            let entries = parse(tree, &data)?;
            self.dirs.looked(entries.len());
            match (entries.find(name), rest) {
                (Some(Entry::File(_, file)), []) => return Ok(Some(Digest::from_bytes(*file))),
                (Some(Entry::Dir(_, below, _)), _) => tree = Digest::from_bytes(*below),
                _ => return Ok(None),
            }
            path = rest;
        }
        Ok(None)
    }

    fn parent(
        &mut self,
        store: &mut dyn TreeStore,
        path: &[String],
    ) -> Result<&mut Entries, LayerError> {
        // The child that the caller is about to insert.
        self.names += 1;
        self.check_names(path)?;
        self.dirs.settle_if_many(&mut self.root, path, store)?;
        let mut dir = &mut self.root;
        for name in path {
            let entries = self.dirs.open(dir, store)?;
            if !entries.contains_key(name.as_str()) {
                self.names += 1;
                let new = Node::Dir(Box::new(Dir::empty(self.default_meta)));
                entries.insert(name.as_str().into(), new);
                self.dirs.replaced(None, store)?;
            }
            let entries = self.dirs.open(dir, store)?;
            dir = match entries.get_mut(name.as_str()) {
                Some(Node::Dir(dir)) => dir,
                _ => return Err(bad(path, "is a directory, but also a file")),
            };
        }
        self.dirs.open(dir, store)
    }

    /// Resolves the links that waited, at the end of the layer. A target in the base's repository is
    /// known by its name.
    pub fn resolve_links(&mut self, store: &mut dyn TreeStore) -> Result<(), LayerError> {
        for _ in 0..MAX_LINK_ROUNDS {
            let before = self.waiting.len();
            for (path, target) in std::mem::take(&mut self.waiting) {
                match self.resolve(store, &split(&target))? {
                    Some(object) => self.file(store, &split(&path), object)?,
                    None => self.waiting.push((path, target)),
                }
            }
            if self.waiting.len() == before {
                break;
            }
        }
        match self.waiting.first() {
            None => self.dirs.settle_all(&mut self.root, store),
            Some((path, target)) => Err(LayerError::LinkTarget {
                path: path.to_string(),
                target: target.to_string(),
            }),
        }
    }

    fn resolve(
        &mut self,
        store: &dyn TreeStore,
        target: &[String],
    ) -> Result<Option<Digest>, LayerError> {
        if let Some(object) = self.lookup(store, target)? {
            return Ok(Some(object));
        }
        let object = object_in_path(target);
        self.expected.extend(object);
        Ok(object)
    }

    /// The tree under the paths of a commit.
    pub fn into_commit_tree(
        mut self,
        store: &mut dyn TreeStore,
        rules: PathRules,
    ) -> Result<CommitTree, LayerError> {
        let mut out = Self::new(self.default_meta);
        out.root.meta = self.root.meta;
        out.dirs = self.dirs;
        let mut dropped = BTreeMap::new();
        let top = std::mem::take(out.dirs.open(&mut self.root, store)?);
        // `usr` first, so that what moves into it joins it.
        let (usr, rest): (Vec<_>, Vec<_>) = top.into_iter().partition(|(name, _)| &**name == "usr");
        for (name, mut node) in usr.into_iter().chain(rest) {
            match &*name {
                "etc" => out.place(store, &["usr", "etc"], node)?,
                "var" if !rules.retain_var => {
                    out.place(store, &["usr", "share", "factory", "var"], node)?
                }
                "usr" | "var" => out.place(store, &[&name], node)?,
                other if EMPTIED.contains(&other) => {
                    if let Node::Dir(dir) = &mut node {
                        let empty = Dir::empty(dir.meta);
                        let emptied = std::mem::replace(&mut **dir, empty);
                        out.dirs.lose(Node::Dir(Box::new(emptied)), store)?;
                    }
                    out.place(store, &[&name], node)?;
                }
                _ if rules.allow_nonusr => {
                    if &*name == "sysroot" {
                        out.forget_repository(store, &mut node)?;
                    }
                    out.place(store, &[&name], node)?;
                }
                _ => drop(dropped.insert(name.into(), out.dirs.lose(node, store)?)),
            }
        }
        let tree = out.root.settle(store)?;
        Ok(CommitTree {
            tree,
            meta: out.root.meta,
            dropped,
            doubtful: out.dirs.into_doubtful(),
            expected: self.expected,
        })
    }

    fn place(
        &mut self,
        store: &mut dyn TreeStore,
        path: &[&str],
        node: Node,
    ) -> Result<(), LayerError> {
        let path: Vec<String> = path.iter().map(|&p| p.to_owned()).collect();
        let Some((name, parents)) = path.split_last() else {
            return Ok(());
        };
        let below = self.parent(store, parents)?.remove(name.as_str());
        let node = match below {
            Some(below) => self.join(store, below, node)?,
            None => node,
        };
        self.parent(store, parents)?
            .insert(name.as_str().into(), node);
        Ok(())
    }

    /// Joins two nodes of one layer; `above` wins where both have a file.
    fn join(
        &mut self,
        store: &mut dyn TreeStore,
        below: Node,
        above: Node,
    ) -> Result<Node, LayerError> {
        let (mut below, mut above) = match (below, above) {
            (Node::Dir(below), Node::Dir(above)) => (below, above),
            (below, above) => {
                self.dirs.lose(below, store)?;
                return Ok(above);
            }
        };
        below.meta = above.meta;
        for (name, above) in std::mem::take(self.dirs.open(&mut above, store)?) {
            let entries = self.dirs.open(&mut below, store)?;
            let node = match entries.remove(&name) {
                Some(below) => self.join(store, below, above)?,
                None => above,
            };
            self.dirs.open(&mut below, store)?.insert(name, node);
        }
        Ok(Node::Dir(below))
    }

    /// What a container build wrote below `sysroot/ostree/repo` of its base was needed as the target
    /// of hard links only; the host has its own repository there.
    fn forget_repository(
        &mut self,
        store: &dyn TreeStore,
        sysroot: &mut Node,
    ) -> Result<(), LayerError> {
        let Node::Dir(sysroot) = sysroot else {
            return Ok(());
        };
        let Some(Node::Dir(ostree)) = self.dirs.open(sysroot, store)?.get_mut("ostree") else {
            return Ok(());
        };
        match self.dirs.open(ostree, store)?.remove("repo") {
            Some(repo) => self.dirs.lose(repo, store).map(drop),
            None => Ok(()),
        }
    }
}

fn split(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|p| !p.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `sysroot/ostree/repo/objects/ab/cd….file`: a hard link that a container build makes to an
/// object of the base image.
fn object_in_path(path: &[String]) -> Option<Digest> {
    let [sysroot, ostree, repo, objects, dir, file] = path else {
        return None;
    };
    let inside =
        [sysroot.as_str(), ostree, repo, objects] == ["sysroot", "ostree", "repo", "objects"];
    let rest = file.strip_suffix(".file").filter(|_| inside)?;
    Digest::from_hex(&format!("{dir}{rest}")).ok()
}

/// Takes a path of the archive apart: `/`, `./` and `//` mean nothing, `..` is refused.
pub fn components(path: &[u8]) -> Result<Vec<String>, LayerError> {
    let lossy = || String::from_utf8_lossy(path).into_owned();
    let refuse = |reason| LayerError::Path {
        path: lossy(),
        reason,
    };
    let text = std::str::from_utf8(path).map_err(|_| refuse("has a path that is not UTF-8"))?;
    let mut components = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(refuse("leaves the tree (its path has \"..\")")),
            part if part.contains('\0') => return Err(refuse("has a NUL in its path")),
            part if part.len() > 255 => return Err(refuse("has a name longer than 255 bytes")),
            part => components.push(part.to_owned()),
        }
    }
    match components.len() {
        0..=512 => Ok(components),
        _ => Err(refuse("is nested more than 512 directories deep")),
    }
}

fn bad(path: &[String], reason: &'static str) -> LayerError {
    LayerError::Path {
        path: path.join("/"),
        reason,
    }
}

#[cfg(test)]
#[path = "derived_tree_tests.rs"]
mod tests;
