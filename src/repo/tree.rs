//! A directory tree that is being built, as names and checksums. What is complete is stored as a
//! dirtree object and is only a checksum from then on. File content is never looked at.

use std::collections::BTreeMap;
use std::io;

use super::LayerError;
use super::dirtree::{DirTree, Entry, TreeBuilder};
use crate::image::Digest;

/// Keeps dirtree objects.
pub trait TreeStore {
    /// The bytes of an object that was stored.
    fn read_tree(&self, tree: Digest) -> io::Result<Vec<u8>>;
    /// Stores an object and gives its checksum.
    fn write_tree(&mut self, data: &[u8]) -> io::Result<Digest>;
}

/// Names in a directory.
pub type Entries = BTreeMap<Box<str>, Node>;

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file or symbolic link.
    File(Digest),
    /// A directory.
    Dir(Box<Dir>),
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    /// The dirmeta object.
    pub meta: Digest,
    /// What is in it.
    pub content: Content,
}

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It is stored as this dirtree object.
    Settled(Digest),
    /// It is in memory.
    Open(Entries),
}

impl Dir {
    /// An empty directory.
    pub const fn empty(meta: Digest) -> Self {
        Self {
            meta,
            content: Content::Open(Entries::new()),
        }
    }

    /// Stores the directory and all below it; gives the checksum of its dirtree object.
    pub fn settle(&mut self, store: &mut dyn TreeStore) -> io::Result<Digest> {
        let entries = match &mut self.content {
            Content::Settled(tree) => return Ok(*tree),
            Content::Open(entries) => entries,
        };
        let mut tree = TreeBuilder::default();
        for (name, node) in entries {
            match node {
                Node::File(file) => tree.file(name, file.as_bytes()),
                Node::Dir(dir) => {
                    let below = dir.settle(store)?;
                    tree.dir(name, below.as_bytes(), dir.meta.as_bytes());
                }
            }
        }
        let tree = store.write_tree(&tree.finish())?;
        self.content = Content::Settled(tree);
        Ok(tree)
    }
}

/// The names in a stored directory, as they were before it was.
pub fn reopen(tree: Digest, store: &dyn TreeStore) -> Result<Entries, LayerError> {
    let data = store.read_tree(tree)?;
    let entries = parse(tree, &data)?.entries().map(|entry| match entry {
        Entry::File(name, file) => (name.into(), Node::File(Digest::from_bytes(*file))),
        Entry::Dir(name, tree, meta) => {
            let dir = Dir {
                meta: Digest::from_bytes(*meta),
                content: Content::Settled(Digest::from_bytes(*tree)),
            };
            (name.into(), Node::Dir(Box::new(dir)))
        }
    });
    Ok(entries.collect())
}

/// Looks into the bytes of a stored directory.
pub fn parse(tree: Digest, data: &[u8]) -> Result<DirTree<'_>, LayerError> {
    DirTree::parse(data).map_err(|source| LayerError::Malformed {
        name: format!("{}.dirtree", tree.hex()),
        source,
    })
}

/// Calls `visit` with every entry below a stored directory.
pub fn walk<E: From<LayerError>>(
    tree: Digest,
    store: &dyn TreeStore,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let data = store.read_tree(tree).map_err(LayerError::from)?;
    for entry in parse(tree, &data)?.entries() {
        visit(&entry)?;
        if let Entry::Dir(_, tree, _) = entry {
            walk(Digest::from_bytes(*tree), store, visit)?;
        }
    }
    Ok(())
}

/// Trees in memory, for tests.
#[cfg(test)]
pub mod memory {
    use std::collections::HashMap;

    use super::*;

    /// Dirtree objects by checksum.
    #[derive(Debug, Default)]
    pub struct Trees(pub HashMap<Digest, Vec<u8>>);

    impl TreeStore for Trees {
        fn read_tree(&self, tree: Digest) -> io::Result<Vec<u8>> {
            self.0
                .get(&tree)
                .cloned()
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn write_tree(&mut self, data: &[u8]) -> io::Result<Digest> {
            let tree = Digest::of(data);
            self.0.insert(tree, data.into());
            Ok(tree)
        }
    }
}
