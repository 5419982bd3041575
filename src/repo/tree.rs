//! Directory trees in memory, as names and checksums: what a layer holds, and what several layers
//! laid over each other give. Dirtree objects come in lazily, dirtree objects go out; file content
//! is never looked at, and nothing is checked out.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result, bail};

use super::gvariant::DirTree;
use crate::image::Digest;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Deepest nesting of directories that is followed.
const MAX_DEPTH: usize = 512;

/// Reads what trees refer to.
pub trait TreeReader {
    /// A dirtree object.
    fn dirtree(&self, checksum: Digest) -> Result<DirTree>;
    /// Whether a file object is a symbolic link.
    fn is_symlink(&self, checksum: Digest) -> Result<bool>;
}

/// Takes the dirtree objects of a new tree.
pub trait TreeWriter {
    /// Stores a dirtree object and gives its checksum.
    fn write_dirtree(&mut self, data: &[u8]) -> Result<Digest>;
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file or symbolic link.
    File(Digest),
    /// A directory.
    Dir(Dir),
}

/// A directory. One that nobody has looked into is only a checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    /// The dirmeta object.
    pub meta: Digest,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Unread(Digest),
    Read(BTreeMap<String, Node>),
}

impl Dir {
    /// An empty directory.
    pub const fn empty(meta: Digest) -> Self {
        Self {
            meta,
            content: Content::Read(BTreeMap::new()),
        }
    }

    /// A directory as a dirtree object has it.
    pub const fn unread(tree: Digest, meta: Digest) -> Self {
        Self {
            meta,
            content: Content::Unread(tree),
        }
    }

    /// The entries, read when they have not been.
    pub fn entries(&mut self, reader: &dyn TreeReader) -> Result<&mut BTreeMap<String, Node>> {
        if let Content::Unread(tree) = self.content {
            let DirTree { files, dirs } = reader.dirtree(tree)?;
            let files = files
                .into_iter()
                .map(|(name, file)| (name, Node::File(file)));
            let dirs = dirs
                .into_iter()
                .map(|(name, tree, meta)| (name, Node::Dir(Self::unread(tree, meta))));
            let mut entries = BTreeMap::new();
            for (name, node) in files.chain(dirs) {
                if entries.insert(name.clone(), node).is_some() {
                    bail!("directory tree {tree} has {name:?} twice");
                }
            }
            self.content = Content::Read(entries);
        }
        match &mut self.content {
            Content::Read(entries) => Ok(entries),
            Content::Unread(_) => unreachable!("it has just been read"),
        }
    }

    /// The entries of a directory that was built here; `None` if it is only a checksum.
    pub const fn built(&mut self) -> Option<&mut BTreeMap<String, Node>> {
        match &mut self.content {
            Content::Read(entries) => Some(entries),
            Content::Unread(_) => None,
        }
    }

    /// The directory at a path of components, read; `None` when there is none.
    pub fn find_dir(
        &mut self,
        path: &[&str],
        reader: &dyn TreeReader,
    ) -> Result<Option<&mut BTreeMap<String, Node>>> {
        let mut entries = self.entries(reader)?;
        for name in path {
            entries = match entries.get_mut(*name) {
                Some(Node::Dir(dir)) => dir.entries(reader)?,
                _ => return Ok(None),
            };
        }
        Ok(Some(entries))
    }

    /// Lays `upper` over this directory as overlayfs would: whiteouts in it remove what is here,
    /// files replace, directories join and keep the metadata they have here.
    ///
    /// Whiteouts act on what lies below only, whatever the order of names (image-spec, layer.md,
    /// "Whiteouts").
    pub fn apply(&mut self, upper: &mut Self, reader: &dyn TreeReader) -> Result<()> {
        self.apply_at(upper, reader, 0)
    }

    fn apply_at(&mut self, upper: &mut Self, reader: &dyn TreeReader, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("directories are nested more than {MAX_DEPTH} deep");
        }
        let upper_entries = std::mem::take(upper.entries(reader)?);
        let (whiteouts, opaque) = whiteouts(&upper_entries, reader)?;
        if opaque {
            *self = Self::empty(upper.meta);
        }
        let entries = self.entries(reader)?;
        for name in &whiteouts {
            entries.remove(&name[WHITEOUT.len()..]);
        }
        for (name, node) in upper_entries {
            if whiteouts.contains(&name) {
                continue;
            }
            match (entries.get_mut(&name), node) {
                (Some(Node::Dir(lower)), Node::Dir(mut upper)) => {
                    lower.apply_at(&mut upper, reader, depth + 1)?;
                }
                (_, Node::Dir(mut upper)) => {
                    // Nothing below it here, but it may hold whiteouts of its own.
                    let mut dir = Self::empty(upper.meta);
                    dir.apply_at(&mut upper, reader, depth + 1)?;
                    entries.insert(name, Node::Dir(dir));
                }
                (_, file) => drop(entries.insert(name, file)),
            }
        }
        Ok(())
    }

    /// Writes what has been read or built as dirtree objects; gives the checksum of this one's.
    pub fn write(&self, writer: &mut dyn TreeWriter) -> Result<Digest> {
        let entries = match &self.content {
            Content::Unread(tree) => return Ok(*tree),
            Content::Read(entries) => entries,
        };
        let mut tree = DirTree::default();
        for (name, node) in entries {
            match node {
                Node::File(file) => tree.files.push((name.clone(), *file)),
                Node::Dir(dir) => tree.dirs.push((name.clone(), dir.write(writer)?, dir.meta)),
            }
        }
        writer.write_dirtree(&tree.serialize())
    }

    /// Calls `visit` with every node below and its path (`/usr/bin/true`), all of it read.
    pub fn walk(
        &mut self,
        reader: &dyn TreeReader,
        visit: &mut dyn FnMut(&str, &mut Node) -> Result<()>,
    ) -> Result<()> {
        self.walk_at(reader, visit, &mut String::new(), 0)
    }

    fn walk_at(
        &mut self,
        reader: &dyn TreeReader,
        visit: &mut dyn FnMut(&str, &mut Node) -> Result<()>,
        path: &mut String,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("directories are nested more than {MAX_DEPTH} deep");
        }
        for (name, node) in self.entries(reader)? {
            let length = path.len();
            path.push('/');
            path.push_str(name);
            visit(path, node)?;
            if let Node::Dir(dir) = node {
                dir.walk_at(reader, visit, path, depth + 1)?;
            }
            path.truncate(length);
        }
        Ok(())
    }
}

/// The names that are whiteouts, and whether one of them makes the directory opaque.
fn whiteouts(
    entries: &BTreeMap<String, Node>,
    reader: &dyn TreeReader,
) -> Result<(HashSet<String>, bool)> {
    let mut names = HashSet::new();
    for (name, node) in entries.range(WHITEOUT.to_owned()..) {
        if !name.starts_with(WHITEOUT) {
            break;
        }
        let Node::File(file) = node else { continue };
        let symlink = reader
            .is_symlink(*file)
            .with_context(|| format!("reading {name:?}"))?;
        if symlink {
            continue;
        }
        if name == WHITEOUT {
            bail!("the layer has a whiteout {name:?} that names nothing");
        }
        names.insert(name.clone());
    }
    let opaque = names.contains(OPAQUE);
    Ok((names, opaque))
}
