//! Which content object goes into which chunk (layer) of an encapsulated commit. Objects with
//! sizes and owners come in, and what the previous build remembers; lists of objects go out. Pure
//! and deterministic: the same input gives the same chunks on every machine, in whatever order it
//! comes.
//!
//! What a user downloads for an update are the chunks in which anything changed. So what changes
//! together (packages of one source) is kept together, and what changes often apart from what does not:
//! see `partition`. What a build learned about its components is written into annotations, and
//! the next build starts from them: see [`Previous`] and `rebuild`.

mod item;
mod partition;
mod previous;
mod rebuild;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::item::Item;
pub use self::previous::{ANNOTATION_MEMORY, Previous};
pub use crate::packages::{Owner, OwnerId};

/// Checksum of an ostree content object.
pub type Checksum = [u8; 32];

/// What kind of file it is: how a new version of its package treats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Programs and libraries: built anew, and so changed, with each version.
    Code,
    /// What a new version most often leaves as it is: texts, fonts, scripts, translations.
    Data,
}

/// A content object and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Its checksum.
    pub checksum: Checksum,
    /// Whose it is; must be in the list of owners.
    pub owner: OwnerId,
    /// What kind of file it is.
    pub part: Part,
    /// Its size in bytes, 0 for symbolic links.
    pub size: u64,
}

/// What a plan must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most layers of the image, the layer of the commit included.
    pub max_layers: u32,
}

impl Default for Limits {
    /// As many layers as container storage takes.
    fn default() -> Self {
        Self { max_layers: 128 }
    }
}

/// A layer's worth of objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Names of the owners, ascending: what `ostree.components` lists.
    pub components: Vec<String>,
    /// The objects, ascending.
    pub objects: Vec<Checksum>,
    /// More annotations for the layer: what the next build wants to know.
    pub annotations: BTreeMap<String, String>,
}

/// Decides which object goes into which chunk.
///
/// Each object is in exactly one chunk, the number of chunks is below `limits.max_layers`, and none is
/// empty. Where only one layer is allowed there are no chunks, and all content stays with the
/// commit. With a previous build, a chunk of it in which nothing changed comes out as it was.
pub fn plan(
    contents: &[Content],
    owners: &[Owner],
    limits: &Limits,
    previous: Option<&Previous>,
) -> Vec<Chunk> {
    let most = limits.max_layers.saturating_sub(1) as usize;
    if most == 0 || contents.is_empty() {
        return Vec::new();
    }
    let mut contents = contents.to_vec();
    contents.sort_unstable();
    contents.dedup_by_key(|content| content.checksum);
    let items = item::collect(&contents, owners);
    let bins = match previous {
        Some(previous) => rebuild::bins(items, owners, previous, most),
        None => fresh(items, most),
    };
    bins.into_iter().map(|bin| chunk(bin, owners)).collect()
}

/// One layer is left free, so that what comes new later does not break a chunk.
fn fresh(items: Vec<Item>, most: usize) -> Vec<Vec<Item>> {
    let spare = usize::from(most > 3);
    partition::bins(items, most - spare)
}

fn chunk(bin: Vec<Item>, owners: &[Owner]) -> Chunk {
    let mut names = BTreeSet::new();
    let mut objects = Vec::new();
    for item in &bin {
        names.extend(item.owners.iter().map(|id| &owners[id.0 as usize].name));
        objects.extend_from_slice(&item.objects);
    }
    objects.sort_unstable();
    Chunk {
        components: names.into_iter().cloned().collect(),
        objects,
        annotations: previous::remember(&bin),
    }
}
