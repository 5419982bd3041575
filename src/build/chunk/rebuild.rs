//! Chunks after an earlier build: those in which nothing changed stay as they are, since nobody has
//! to download them; all else has to be downloaded anyway, and is divided anew by what is known now.

use std::collections::BTreeMap;

use super::item::Item;
use super::previous::{Memory, Previous, PreviousChunk};
use super::{Owner, partition};

/// Puts all items into at most `most` bins (at least 1).
pub(super) fn bins(
    items: Vec<Item>,
    owners: &[Owner],
    previous: &Previous,
    most: usize,
) -> Vec<Vec<Item>> {
    let memories: BTreeMap<&str, Memory> = known(previous).collect();
    let items = items.into_iter().map(|item| learn(item, &memories));
    let (mut kept, mut pool) = sort(items.collect(), owners, previous);
    kept.retain(|bin| !bin.is_empty());
    // What is broken up are the lightest chunks: they are downloaded again without a need.
    while kept.len() + usize::from(!pool.is_empty()) > most {
        match (0..kept.len()).min_by_key(|index| weight(&kept[*index])) {
            Some(lightest) => pool.extend(kept.remove(lightest)),
            None => break,
        }
    }
    if !pool.is_empty() {
        let free = most - kept.len();
        let spare = usize::from(free > 1 && most > 3);
        kept.extend(partition::bins(pool, free - spare));
    }
    kept
}

fn known(previous: &Previous) -> impl Iterator<Item = (&str, Memory)> {
    let chunks = previous.chunks.iter();
    let items = chunks.filter_map(|chunk| chunk.items.as_ref()).flatten();
    items.map(|(key, memory)| (key.as_str(), *memory))
}

fn learn(mut item: Item, memories: &BTreeMap<&str, Memory>) -> Item {
    if let Some(memory) = memories.get(item.key.as_str()) {
        let changed = memory.fingerprint != item.fingerprint();
        item.changes = memory.changes + u32::from(changed);
        item.builds = memory.builds + 1;
    }
    item
}

/// The bins that stay, in the order of the previous build, and the items of all others.
fn sort(items: Vec<Item>, owners: &[Owner], previous: &Previous) -> (Vec<Vec<Item>>, Vec<Item>) {
    let mut kept: Vec<Vec<Item>> = vec![Vec::new(); previous.chunks.len()];
    let mut pool = Vec::new();
    for item in items {
        let place = previous.chunks.iter().position(|c| holds(c, &item, owners));
        match place {
            Some(place) => kept[place].push(item),
            None => pool.push(item),
        }
    }
    for (bin, chunk) in kept.iter_mut().zip(&previous.chunks) {
        if !intact(bin, chunk) {
            pool.append(bin);
        }
    }
    (kept, pool)
}

fn holds(chunk: &PreviousChunk, item: &Item, owners: &[Owner]) -> bool {
    match &chunk.items {
        Some(items) => items.contains_key(&item.key),
        // Others put whole packages into chunks: the first owner decides for its group.
        None => {
            let first = item.owners.first().map(|id| &owners[id.0 as usize].name);
            first.is_some_and(|name| chunk.components.contains(name))
        }
    }
}

/// Whether a chunk has the same objects again. Where that is not known it is taken for granted: the
/// chunks of the previous build are all that there is to keep to.
fn intact(bin: &[Item], chunk: &PreviousChunk) -> bool {
    let Some(items) = &chunk.items else {
        return true;
    };
    let same = |item: &Item| {
        let memory = items.get(&item.key);
        memory.is_some_and(|memory| memory.fingerprint == item.fingerprint())
    };
    bin.len() == items.len() && bin.iter().all(same)
}

fn weight(bin: &[Item]) -> u64 {
    let weights = bin.iter().map(|item| item.weight);
    weights.fold(0, u64::saturating_add)
}
