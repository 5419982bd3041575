//! Which directories of a growing tree are in memory. A tree comes in; directories that nobody is
//! adding to are stored, so that memory does not grow with the layer. Objects that a stored
//! directory or a replaced file leaves behind are kept in mind; whether the tree still has them is for
//! others to see.

use std::collections::BTreeSet;

use super::LayerError;
use super::dirtree::Entry;
use super::object::ObjectKind;
use super::tree::{Content, Dir, Entries, Node, TreeStore, reopen, walk};
use crate::image::Digest;

/// Names in memory from which on directories are stored.
const MANY: usize = 8 << 10;
/// Top-level directories of so few names stay in memory: they are changed in the end.
const FEW: usize = 64;
/// What reading stored directories again may cost: names read for each name of the layer, and in any
/// case. An archive in an order that costs more is kept in memory, like any other was before.
const REREAD: usize = 16;
const REREAD_ANYWAY: usize = 1 << 20;
/// Looking into a stored directory costs so much less than opening it.
const LOOK: usize = 8;

/// The directories in memory, and what they cost.
#[derive(Debug)]
pub struct OpenDirs {
    /// Names in memory, and how many there may be.
    names: usize,
    limit: usize,
    /// Names that have come, and names that were read again.
    seen: usize,
    reread: usize,
    doubtful: BTreeSet<(Digest, ObjectKind)>,
}

impl Default for OpenDirs {
    fn default() -> Self {
        Self {
            names: 0,
            limit: MANY,
            seen: 0,
            reread: 0,
            doubtful: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
impl OpenDirs {
    /// Stores directories from so many names on.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// How many names are in memory.
    pub const fn names(&self) -> usize {
        self.names
    }
}

impl OpenDirs {
    /// The names in a directory, read if it was stored.
    pub fn open<'d>(
        &mut self,
        dir: &'d mut Dir,
        store: &dyn TreeStore,
    ) -> Result<&'d mut Entries, LayerError> {
        if let Content::Settled(tree) = dir.content {
            let entries = reopen(tree, store)?;
            self.names += entries.len();
            self.reread += entries.len();
            self.doubtful.insert((tree, ObjectKind::DirTree));
            dir.content = Content::Open(entries);
        }
        match &mut dir.content {
            Content::Open(entries) => Ok(entries),
            Content::Settled(_) => unreachable!("it has just been opened"),
        }
    }

    /// Notes that a name has got a new meaning, and what it meant before.
    pub fn replaced(&mut self, old: Option<Node>, store: &dyn TreeStore) -> Result<(), LayerError> {
        self.seen += 1;
        match old {
            None => {
                self.names += 1;
                Ok(())
            }
            Some(old) => self.lose(old, store).map(drop),
        }
    }

    /// Notes that something is not in the tree any more; gives how many names that takes away: its own
    /// and all below.
    pub fn lose(&mut self, node: Node, store: &dyn TreeStore) -> Result<u32, LayerError> {
        let dir = match node {
            Node::File(file) => {
                self.doubtful.insert((file, ObjectKind::File));
                return Ok(1);
            }
            Node::Dir(dir) => dir,
        };
        let mut count = 1;
        match dir.content {
            Content::Open(entries) => {
                self.names = self.names.saturating_sub(entries.len());
                for (_, node) in entries {
                    count = self.lose(node, store)?.saturating_add(count);
                }
            }
            Content::Settled(tree) => count = self.lose_stored(tree, store)?.saturating_add(count),
        }
        Ok(count)
    }

    fn lose_stored(&mut self, tree: Digest, store: &dyn TreeStore) -> Result<u32, LayerError> {
        let mut count = 0_u32;
        self.doubtful.insert((tree, ObjectKind::DirTree));
        walk(tree, store, &mut |entry| {
            count = count.saturating_add(1);
            self.doubtful.insert(named(entry));
            Ok::<_, LayerError>(())
        })?;
        Ok(count)
    }

    /// Whether stored directories may be looked into instead of being opened.
    pub const fn may_look(&self) -> bool {
        !self.too_costly()
    }

    /// Notes that a stored directory of so many names has been looked into.
    pub const fn looked(&mut self, names: usize) {
        self.reread += names / LOOK + 1;
    }

    const fn too_costly(&self) -> bool {
        self.reread > REREAD_ANYWAY + REREAD * self.seen
    }

    /// Stores directories if there are many names in memory: all but those on the way to `path`.
    pub fn settle_if_many(
        &mut self,
        root: &mut Dir,
        path: &[String],
        store: &mut dyn TreeStore,
    ) -> Result<(), LayerError> {
        if self.names > self.limit && !self.too_costly() {
            self.names = settle_below(root, path, 0, store)?;
            self.limit = self.names + self.names.max(self.limit.min(MANY));
        }
        Ok(())
    }

    /// Stores all directories but the topmost.
    pub fn settle_all(
        &mut self,
        root: &mut Dir,
        store: &mut dyn TreeStore,
    ) -> Result<(), LayerError> {
        self.names = settle_below(root, &[], 0, store)?;
        Ok(())
    }

    /// Objects that may not be in the tree any more.
    pub fn into_doubtful(self) -> BTreeSet<(Digest, ObjectKind)> {
        self.doubtful
    }
}

/// The object that an entry stands for: a file or a dirtree.
pub fn named(entry: &Entry<'_>) -> (Digest, ObjectKind) {
    match entry {
        Entry::File(_, file) => (Digest::from_bytes(**file), ObjectKind::File),
        Entry::Dir(_, tree, _) => (Digest::from_bytes(**tree), ObjectKind::DirTree),
    }
}

/// Stores what lies below an open directory and not on the way to `path`; gives how many names are
/// in memory then.
fn settle_below(
    dir: &mut Dir,
    path: &[String],
    depth: usize,
    store: &mut dyn TreeStore,
) -> Result<usize, LayerError> {
    let Content::Open(entries) = &mut dir.content else {
        return Ok(0);
    };
    let mut names = entries.len();
    for (name, node) in entries {
        let Node::Dir(dir) = node else { continue };
        let rest = match path {
            [first, rest @ ..] if **first == **name => Some(rest),
            _ => None,
        };
        let few = matches!(&dir.content, Content::Open(entries) if entries.len() <= FEW);
        match rest {
            Some(rest) => names += settle_below(dir, rest, depth + 1, store)?,
            None if depth == 0 && few => names += settle_below(dir, &[], depth + 1, store)?,
            None => drop(dir.settle(store)?),
        }
    }
    Ok(names)
}
