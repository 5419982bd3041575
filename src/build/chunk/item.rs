//! The smallest things that are moved between chunks: all objects of one group of owners, programs
//! and data apart where both are worth it.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::{Checksum, Content, Owner, OwnerId, Part};
use crate::packages::ALWAYS_CHANGES;

/// From this size in bytes on, a group's programs and its data are worth being kept apart.
const WORTH_SPLITTING: u64 = 64 << 10;

/// What one object costs in a layer besides its content, in bytes: three headers, compressed.
const OBJECT_COST: u64 = 200;

/// A rate of one change per build, in the unit of [`Item::rate`].
pub(super) const ONE: u64 = 1_000_000;

/// Builds in a year that the frequency of changes is spread over.
const BUILDS_IN_A_YEAR: u64 = 52;

/// How many builds the guess from the frequency of changes counts for: that something changed once does not
/// say that it does so every few weeks.
const GUESS_WEIGHT: u64 = 16;

/// Objects that are in one chunk in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Name that is the same from build to build.
    pub key: String,
    /// The owners of the objects.
    pub owners: BTreeSet<OwnerId>,
    /// The objects, ascending.
    pub objects: Vec<Checksum>,
    /// About what it costs to download, in bytes.
    pub weight: u64,
    /// Whether it gets a chunk of its own.
    pub apart: bool,
    /// Expected changes per build before any were seen, in millionths.
    pub guess: u64,
    /// How often it changed in the builds that are remembered.
    pub changes: u32,
    /// How many builds are remembered.
    pub builds: u32,
}

impl Item {
    /// Expected changes per build in millionths: the guess, corrected by what was seen.
    pub(super) fn rate(&self) -> u64 {
        let seen = u64::from(self.changes) * ONE;
        (self.guess * GUESS_WEIGHT + seen) / (GUESS_WEIGHT + u64::from(self.builds))
    }

    /// A short fingerprint of the objects.
    pub(super) fn fingerprint(&self) -> u32 {
        let mut hash = Sha256::new();
        for object in &self.objects {
            hash.update(object);
        }
        let sum = hash.finalize();
        u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]])
    }
}

/// Sorts objects into items, ascending by key. The objects are ascending.
pub(super) fn collect(contents: &[Content], owners: &[Owner]) -> Vec<Item> {
    let mut groups: BTreeMap<(bool, &str), [Vec<&Content>; 2]> = BTreeMap::new();
    for content in contents {
        let owner = &owners[content.owner.0 as usize];
        let group = match owner.apart {
            true => &owner.name,
            false => &owner.group,
        };
        let parts = groups.entry((owner.apart, group)).or_default();
        parts[usize::from(content.part == Part::Data)].push(content);
    }
    let mut items = Vec::new();
    for ((apart, name), [mut code, mut data]) in groups {
        let split = !apart && weight(&code) >= WORTH_SPLITTING && weight(&data) >= WORTH_SPLITTING;
        if split {
            items.push(item(format!("{name}/data"), &data, owners, Part::Data));
        } else {
            code.append(&mut data);
            code.sort_unstable();
        }
        let key = match apart {
            true => format!("={name}"),
            false => name.to_string(),
        };
        items.push(item(key, &code, owners, Part::Code));
    }
    items.sort_by(|a, b| a.key.cmp(&b.key));
    items
}

fn weight(contents: &[&Content]) -> u64 {
    let bytes = contents.iter().map(|c| c.size.saturating_add(OBJECT_COST));
    bytes.fold(0, u64::saturating_add)
}

fn item(key: String, contents: &[&Content], owners: &[Owner], part: Part) -> Item {
    let ids: BTreeSet<OwnerId> = contents.iter().map(|c| c.owner).collect();
    let known = ids.iter().map(|id| &owners[id.0 as usize]);
    let frequency = known.clone().map(|owner| owner.change_frequency).max();
    Item {
        key,
        objects: contents.iter().map(|c| c.checksum).collect(),
        weight: weight(contents),
        apart: known.clone().any(|owner| owner.apart),
        guess: guess(frequency.unwrap_or(0), part),
        owners: ids,
        changes: 0,
        builds: 0,
    }
}

/// What changes never is not known to change never: half a change in a year is taken for granted.
fn guess(frequency: u32, part: Part) -> u64 {
    if frequency == ALWAYS_CHANGES {
        return 20 * ONE;
    }
    let rate = (2 * u64::from(frequency) + 1) * ONE / (2 * BUILDS_IN_A_YEAR);
    match part {
        Part::Code => rate,
        // A new version leaves most data alone, but seldom all of it.
        Part::Data => rate / 2,
    }
}
