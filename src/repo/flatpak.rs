//! The commit of a flatpak as the labels of an image describe it. Labels and a tree come in, the commit object
//! with the checksum that the labels name goes out.
//!
//! Labels: flatpak, `flatpak_oci_add_labels_for_commit`. They are a map, so that the order of the metadata
//! is lost; the checksum tells which order is right, and Bowline adds a label that says it. Where it is missing,
//! the orders are tried that a hash table of GLib's can give, since it is one that flatpak collects them in.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ostree::glib::prelude::*;
use ostree::glib::{Bytes, Variant, VariantDict, VariantTy};
use thiserror::Error;

use crate::image::Digest;

/// What all labels of flatpaks begin with.
pub const PREFIX: &str = "org.flatpak.";
/// Labels with the metadata of the commit.
pub const METADATA_PREFIX: &str = "org.flatpak.commit-metadata.";
/// Bowline's label with the names of the metadata in their order, comma-joined.
pub const ORDER: &str = "bowline.flatpak-metadata-order";
/// Most names whose order is looked for: 9 have 362880 orders.
const MAX_GUESSED: usize = 9;
/// How often names are put into a hash table, each time in another order. Eleven names come out of it in a few
/// hundred orders, the rarest once in a thousand times.
const TRIES: usize = 20_000;
/// Most names that are put there: a commit has a dozen.
const MAX_HASHED: usize = 40;
/// Most bytes of commits that are hashed to find the order.
const MAX_BYTES: usize = 2 << 30;

/// Why labels do not give the commit that they name.
#[derive(Debug, Error)]
pub enum FlatpakError {
    /// A label that is missing or says nothing usable.
    #[error("the label {0} of the flatpak is missing or malformed")]
    Label(String),
    /// Content or labels are not those of the commit.
    #[error(
        "the files and labels of the flatpak are not those of commit {0}, which its label names"
    )]
    Different(Digest),
}

/// What labels say about a commit.
#[derive(Debug, Clone)]
pub struct FlatpakCommit {
    /// Its checksum.
    pub checksum: Digest,
    parent: Option<Digest>,
    timestamp: u64,
    subject: String,
    body: String,
    metadata: Vec<(String, Variant)>,
    /// Whether the metadata are in their order.
    ordered: bool,
}

impl FlatpakCommit {
    /// Reads the labels of an image; `None` where it is no flatpak.
    pub fn of(labels: &BTreeMap<String, String>) -> Result<Option<Self>, FlatpakError> {
        let text = |name: &str| labels.get(&format!("{PREFIX}{name}"));
        let bad = |name: &str| FlatpakError::Label(format!("{PREFIX}{name}"));
        let checksum = |name| {
            let text = text(name).map(|text| Digest::from_hex(text));
            text.transpose().map_err(|_| bad(name))
        };
        let Some(commit) = checksum("commit")? else {
            return Ok(None);
        };
        let timestamp = text("timestamp").and_then(|text| text.parse().ok());
        let (metadata, ordered) = metadata(labels)?;
        Ok(Some(Self {
            checksum: commit,
            parent: checksum("parent-commit")?,
            timestamp: timestamp.ok_or_else(|| bad("timestamp"))?,
            subject: text("subject").cloned().unwrap_or_default(),
            body: text("body").cloned().unwrap_or_default(),
            metadata,
            ordered,
        }))
    }

    /// The commit object with this tree, whose checksum is the one that was named.
    pub fn restore(&self, tree: Digest, meta: Digest) -> Result<Vec<u8>, FlatpakError> {
        let mut order: Vec<usize> = (0..self.metadata.len()).collect();
        let hashed_bytes = Cell::new(0);
        let right = |order: &[usize]| {
            if hashed_bytes.get() > MAX_BYTES {
                return None;
            }
            let data = self.object(order, (tree, meta));
            hashed_bytes.set(hashed_bytes.get() + data.len());
            (Digest::of(&data) == self.checksum).then_some(data)
        };
        let mut found = right(&order);
        if found.is_none() && !self.ordered && order.len() <= MAX_HASHED {
            let names: Vec<&str> = self.metadata.iter().map(|(name, _)| &**name).collect();
            found = hashed(&names, &right);
            if found.is_none() && order.len() <= MAX_GUESSED {
                found = permutations(&mut order, &right);
            }
        }
        found.ok_or(FlatpakError::Different(self.checksum))
    }

    fn object(&self, order: &[usize], (tree, meta): (Digest, Digest)) -> Vec<u8> {
        let entries = order.iter().map(|index| {
            let (key, value) = &self.metadata[*index];
            Variant::from_dict_entry(&key.to_variant(), value)
        });
        let metadata = Variant::array_from_iter_with_type(
            VariantTy::new("{sv}").unwrap_or(VariantTy::VARDICT),
            entries,
        );
        let bytes = |digest: Digest| digest.as_bytes().to_vec().to_variant();
        let parent = self
            .parent
            .map_or_else(|| Vec::<u8>::new().to_variant(), bytes);
        let commit = Variant::tuple_from_iter([
            metadata,
            parent,
            Vec::<(String, Vec<u8>)>::new().to_variant(),
            self.subject.to_variant(),
            self.body.to_variant(),
            self.timestamp.to_be().to_variant(),
            bytes(tree),
            bytes(meta),
        ]);
        commit.normal_form().data().to_vec()
    }
}

/// The metadata, and whether they are in the commit's order.
fn metadata(
    labels: &BTreeMap<String, String>,
) -> Result<(Vec<(String, Variant)>, bool), FlatpakError> {
    let mut found = BTreeMap::new();
    for (label, text) in labels {
        if let Some(key) = label.strip_prefix(METADATA_PREFIX) {
            let value = STANDARD.decode(text).ok().and_then(boxed);
            let value = value.ok_or_else(|| FlatpakError::Label(label.clone()))?;
            found.insert(key.to_owned(), value);
        }
    }
    let Some(order) = labels.get(ORDER) else {
        return Ok((found.into_iter().collect(), false));
    };
    let names = order.split(',').filter(|name| !name.is_empty());
    let ordered = names.map(|name| Some((name.to_owned(), found.remove(name)?)));
    let ordered: Option<Vec<_>> = ordered.collect();
    let bad = || FlatpakError::Label(ORDER.into());
    let ordered = ordered.filter(|_| found.is_empty()).ok_or_else(bad)?;
    Ok((ordered, true))
}

/// A value of type `v`, if these bytes are one.
fn boxed(data: Vec<u8>) -> Option<Variant> {
    let value = Variant::from_bytes_with_type(&Bytes::from_owned(data), VariantTy::VARIANT);
    value.is_normal_form().then_some(value)
}

/// Tries the orders in which a `GVariantDict` gives names back until one is right. They depend on the order in
/// which the names went in, which is shuffled, the same way each time.
fn hashed<T>(names: &[&str], right: &impl Fn(&[usize]) -> Option<T>) -> Option<T> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    let (mut seen, mut state) = (HashSet::new(), 1u32);
    for _ in 0..TRIES {
        let dict = VariantDict::new(None);
        order
            .iter()
            .for_each(|index| dict.insert(names[*index], *index as u32));
        let out: Vec<usize> = dict
            .end()
            .iter()
            .filter_map(|entry| place(&entry))
            .collect();
        if !seen.contains(&out) {
            if let Some(found) = right(&out) {
                return Some(found);
            }
            seen.insert(out);
        }
        for last in (1..order.len()).rev() {
            // A linear congruential generator (Numerical Recipes).
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            order.swap(last, (state >> 8) as usize % (last + 1));
        }
    }
    None
}

fn place(entry: &Variant) -> Option<usize> {
    let value = entry.child_value(1).as_variant()?;
    value.get::<u32>().map(|index| index as usize)
}

/// Tries orders until one is right (Heap's algorithm).
fn permutations<T>(order: &mut [usize], right: &impl Fn(&[usize]) -> Option<T>) -> Option<T> {
    if let Some(found) = right(order) {
        return Some(found);
    }
    let mut counters = vec![0; order.len()];
    let mut at = 1;
    while at < order.len() {
        if counters[at] < at {
            let other = if at % 2 == 0 { 0 } else { counters[at] };
            order.swap(other, at);
            if let Some(found) = right(order) {
                return Some(found);
            }
            counters[at] += 1;
            at = 1;
        } else {
            counters[at] = 0;
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_order_is_tried_once() {
        for length in 0..6usize {
            let seen = RefCell::new(BTreeSet::new());
            let mut order: Vec<usize> = (0..length).collect();
            let none = permutations(&mut order, &|order: &[usize]| {
                assert!(seen.borrow_mut().insert(order.to_vec()));
                None::<()>
            });
            assert_eq!(none, None);
            assert_eq!(seen.borrow().len(), (1..=length).product::<usize>());
        }
    }

    #[test]
    fn the_order_of_a_hash_table_is_found_among_many() {
        // As flatpak 1.14 wrote them.
        let written = "xa.installed-size xa.token-type xa.ref ostree.endoflife xa.download-size xa.subsets \
                       ostree.collection-binding ostree.ref-binding xa.extra-data-sources xa.metadata \
                       ostree.endoflife-rebase";
        let written: Vec<&str> = written.split(' ').collect();
        let mut names = written.clone();
        names.sort_unstable();
        let right = |order: &[usize]| {
            let mut all = order.to_vec();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..names.len()));
            let out = order.iter().map(|index| names[*index]);
            out.eq(written.iter().copied()).then_some(())
        };
        assert_eq!(hashed(&names, &right), Some(()));
        assert_eq!(hashed(&[], &|_: &[usize]| None::<()>), None);
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn other_images_are_no_flatpaks_and_bad_labels_are_named() {
        assert!(
            FlatpakCommit::of(&labels(&[("org.flatpak.ref", "x")]))
                .unwrap()
                .is_none()
        );
        let commit = "0".repeat(64);
        let commit = ("org.flatpak.commit", commit.as_str());
        let time = ("org.flatpak.timestamp", "7");
        let key = "org.flatpak.commit-metadata.a";
        for (pairs, label) in [
            (vec![("org.flatpak.commit", "xyz")], "org.flatpak.commit"),
            (vec![commit], "org.flatpak.timestamp"),
            (
                vec![commit, ("org.flatpak.timestamp", "-7")],
                "org.flatpak.timestamp",
            ),
            (
                vec![commit, time, ("org.flatpak.parent-commit", "")],
                "org.flatpak.parent-commit",
            ),
            (vec![commit, time, (key, "!")], key),
            (vec![commit, time, (key, "AAAA")], key),
            (vec![commit, time, (key, "AABz"), (ORDER, "a,b")], ORDER),
            (vec![commit, time, (key, "AABz"), (ORDER, "")], ORDER),
        ] {
            match FlatpakCommit::of(&labels(&pairs)) {
                Err(FlatpakError::Label(found)) => assert_eq!(found, label),
                other => panic!("{pairs:?}: {other:?}"),
            }
        }
        let right = labels(&[commit, time, (key, "AABz"), (ORDER, "a")]);
        let right = FlatpakCommit::of(&right).unwrap().unwrap();
        let root = Digest::of(b"");
        assert!(matches!(
            right.restore(root, root),
            Err(FlatpakError::Different(_))
        ));
    }

    #[test]
    fn the_order_is_found() {
        let commit = ("org.flatpak.commit", "0".repeat(64));
        let pairs = [
            (commit.0, commit.1.as_str()),
            ("org.flatpak.timestamp", "7"),
            ("org.flatpak.subject", "s"),
            ("org.flatpak.commit-metadata.a", "AABz"),
            ("org.flatpak.commit-metadata.b", "AAAAAAAABgAAdA=="),
            ("org.flatpak.commit-metadata.c", "AABz"),
            ("org.flatpak.commit-metadata.d", "AABz"),
        ];
        let mut wanted = FlatpakCommit::of(&labels(&pairs)).unwrap().unwrap();
        let root = (Digest::of(b"tree"), Digest::of(b"meta"));
        let data = wanted.object(&[2, 0, 3, 1], root);
        wanted.checksum = Digest::of(&data);
        assert_eq!(wanted.restore(root.0, root.1).unwrap(), data);
        super::super::commit::validate(&data).unwrap();
    }

    proptest! {
        #[test]
        fn any_labels_are_read_or_refused(value in "[A-Za-z0-9+/=]{0,40}", order in "[a-c,]{0,5}") {
            let commit = "0".repeat(64);
            let _ = FlatpakCommit::of(&labels(&[
                ("org.flatpak.commit", &commit), ("org.flatpak.timestamp", "7"),
                ("org.flatpak.commit-metadata.a", &value), (ORDER, &order),
            ]));
        }
    }
}
