//! The tree of an ordinary layer, entry by entry, in any order. Paths and objects come in; a tree
//! with the paths that an ostree commit has goes out. Pure: objects are only checksums here.
//!
//! ```text
//! usr/**          stays                 run tmp proc sys dev   the directory stays, empty
//! etc/**          usr/etc/**            anything else          stays if the base allows it,
//! var/**          stays, or goes to                            else dropped and counted
//!                 usr/share/factory/var
//! ```

use std::collections::BTreeMap;

use super::LayerError;
use super::tree::{Dir, Node};
use crate::image::Digest;

const EMPTIED: [&str; 5] = ["run", "tmp", "proc", "sys", "dev"];
/// Most names that one layer may hold or wait for: they are kept in memory.
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

/// A layer's entries so far, under the paths of the archive.
#[derive(Debug)]
pub struct DerivedTree {
    root: Dir,
    /// Metadata of directories that only their content implies.
    default_meta: Digest,
    /// Hard links whose target has not come yet: link, target.
    waiting: Vec<(Vec<String>, Vec<String>)>,
    names: usize,
}

impl DerivedTree {
    /// An empty tree.
    pub const fn new(default_meta: Digest) -> Self {
        Self {
            root: Dir::empty(default_meta),
            default_meta,
            waiting: Vec::new(),
            names: 0,
        }
    }

    /// Takes a directory; what is in it already stays.
    pub fn directory(&mut self, path: &[String], meta: Digest) -> Result<(), LayerError> {
        let Some((name, parents)) = path.split_last() else {
            self.root.meta = meta;
            return Ok(());
        };
        match self.parent(parents)?.get_mut(name) {
            Some(Node::Dir(dir)) => dir.meta = meta,
            _ => drop(
                self.parent(parents)?
                    .insert(name.clone(), Node::Dir(Dir::empty(meta))),
            ),
        }
        Ok(())
    }

    /// Takes a file or symbolic link; it replaces what stood there.
    pub fn file(&mut self, path: &[String], object: Digest) -> Result<(), LayerError> {
        let Some((name, parents)) = path.split_last() else {
            return Err(bad(path, "is the root but not a directory"));
        };
        self.parent(parents)?
            .insert(name.clone(), Node::File(object));
        Ok(())
    }

    /// Takes a hard link; its target may come later.
    pub fn hard_link(&mut self, path: &[String], target: Vec<String>) -> Result<(), LayerError> {
        match self.lookup(&target) {
            Some(object) => self.file(path, object),
            None => {
                self.names += path.len() + target.len();
                self.waiting.push((path.to_vec(), target));
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

    fn lookup(&mut self, path: &[String]) -> Option<Digest> {
        let mut entries = self.root.built()?;
        let (name, parents) = path.split_last()?;
        for parent in parents {
            entries = match entries.get_mut(parent)? {
                Node::Dir(dir) => dir.built()?,
                Node::File(_) => return None,
            };
        }
        match entries.get(name)? {
            Node::File(object) => Some(*object),
            Node::Dir(_) => None,
        }
    }

    fn parent(&mut self, path: &[String]) -> Result<&mut BTreeMap<String, Node>, LayerError> {
        let meta = self.default_meta;
        // The child that the caller is about to insert.
        self.names += 1;
        self.check_names(path)?;
        let names = &mut self.names;
        let mut dir = &mut self.root;
        for name in path {
            let entries = dir.built().ok_or_else(|| bad(path, "is not a directory"))?;
            let node = entries.entry(name.clone()).or_insert_with(|| {
                *names += 1;
                Node::Dir(Dir::empty(meta))
            });
            dir = match node {
                Node::Dir(dir) => dir,
                Node::File(_) => return Err(bad(path, "is a directory, but also a file")),
            };
        }
        dir.built().ok_or_else(|| bad(path, "is not a directory"))
    }

    /// Resolves the links that waited. A target in the base's repository is known by its name.
    pub fn resolve_links(&mut self) -> Result<(), LayerError> {
        for _ in 0..MAX_LINK_ROUNDS {
            let before = self.waiting.len();
            for (path, target) in std::mem::take(&mut self.waiting) {
                match self.lookup(&target).or_else(|| object_in_path(&target)) {
                    Some(object) => self.file(&path, object)?,
                    None => self.waiting.push((path, target)),
                }
            }
            if self.waiting.len() == before {
                break;
            }
        }
        match self.waiting.first() {
            None => Ok(()),
            Some((path, target)) => Err(LayerError::LinkTarget {
                path: path.join("/"),
                target: target.join("/"),
            }),
        }
    }

    /// The tree under the paths of a commit, and how many entries were dropped per top-level name.
    pub fn into_commit_tree(
        mut self,
        rules: PathRules,
    ) -> Result<(Dir, BTreeMap<String, u32>), LayerError> {
        let mut out = Self::new(self.default_meta);
        out.root.meta = self.root.meta;
        let mut dropped = BTreeMap::new();
        let top = self.root.built().map(std::mem::take).unwrap_or_default();
        // `usr` first, so that what moves into it joins it.
        let (usr, rest): (Vec<_>, Vec<_>) = top.into_iter().partition(|(name, _)| name == "usr");
        for (name, mut node) in usr.into_iter().chain(rest) {
            match name.as_str() {
                "etc" => out.place(&["usr", "etc"], node)?,
                "var" if !rules.retain_var => {
                    out.place(&["usr", "share", "factory", "var"], node)?
                }
                "usr" | "var" => out.place(&[&name], node)?,
                other if EMPTIED.contains(&other) => {
                    if let Node::Dir(dir) = &mut node {
                        dir.built().map(std::mem::take);
                    }
                    out.place(&[&name], node)?;
                }
                _ if rules.allow_nonusr => {
                    if name == "sysroot" {
                        forget_repository(&mut node);
                    }
                    out.place(&[&name], node)?;
                }
                _ => drop(dropped.insert(name, count(&mut node))),
            }
        }
        Ok((out.root, dropped))
    }

    fn place(&mut self, path: &[&str], node: Node) -> Result<(), LayerError> {
        let path: Vec<String> = path.iter().map(|&p| p.to_owned()).collect();
        let Some((name, parents)) = path.split_last() else {
            return Ok(());
        };
        let entries = self.parent(parents)?;
        match (entries.get_mut(name), node) {
            (Some(Node::Dir(below)), Node::Dir(mut above)) => join(below, &mut above),
            (_, node) => drop(entries.insert(name.clone(), node)),
        }
        Ok(())
    }
}

/// What a container build wrote below `sysroot/ostree/repo` of its base was needed as the target
/// of hard links only; the host has its own repository there.
fn forget_repository(sysroot: &mut Node) {
    let child = |node, name| match node {
        &mut Node::Dir(ref mut dir) => dir.built()?.get_mut(name),
        Node::File(_) => None,
    };
    if let Some(Node::Dir(ostree)) = child(sysroot, "ostree") {
        ostree.built().map(|entries| entries.remove("repo"));
    }
}

/// Joins two directories of one layer; `above` wins where both have a file.
fn join(below: &mut Dir, above: &mut Dir) {
    below.meta = above.meta;
    let (Some(below), Some(above)) = (below.built(), above.built()) else {
        return;
    };
    for (name, node) in std::mem::take(above) {
        match (below.get_mut(&name), node) {
            (Some(Node::Dir(below)), Node::Dir(mut above)) => join(below, &mut above),
            (_, node) => drop(below.insert(name, node)),
        }
    }
}

/// How many entries a dropped node stands for: itself and all below.
fn count(node: &mut Node) -> u32 {
    match node {
        Node::File(_) => 1,
        Node::Dir(dir) => {
            let below = dir
                .built()
                .into_iter()
                .flatten()
                .map(|(_, node)| count(node));
            below.fold(1, u32::saturating_add)
        }
    }
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
