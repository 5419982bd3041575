//! Tests of the plan: its promises for any input, and what it is good for on small ones.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::image::ANNOTATION_COMPONENTS;
use crate::packages::ALWAYS_CHANGES;

fn checksum(number: u32) -> Checksum {
    let mut checksum = [0; 32];
    checksum[..4].copy_from_slice(&number.to_be_bytes());
    checksum
}

fn content(number: u32, size: u64, owner: u32) -> Content {
    Content {
        checksum: checksum(number),
        owner: OwnerId(owner),
        part: Part::Code,
        size,
    }
}

fn owners(frequencies: &[u32]) -> Vec<Owner> {
    let named = |(i, f): (usize, &u32)| Owner::new(&format!("p{i}"), *f);
    frequencies.iter().enumerate().map(named).collect()
}

/// The previous build as it is read back from the image that was made of these chunks.
fn previous(chunks: &[Chunk]) -> Previous {
    let layers: Vec<BTreeMap<String, String>> = chunks
        .iter()
        .map(|chunk| {
            let mut layer = chunk.annotations.clone();
            layer.insert(ANNOTATION_COMPONENTS.into(), chunk.components.join(","));
            layer
        })
        .collect();
    Previous::from_annotations(&layers)
}

fn names(chunks: &[Chunk]) -> Vec<String> {
    let mut names: Vec<String> = chunks.iter().map(|c| c.components.join(" ")).collect();
    names.sort();
    names
}

fn limits(max_layers: u32) -> Limits {
    Limits { max_layers }
}

#[test]
fn what_changes_often_is_apart_from_what_does_not() {
    let owners = owners(&[50, 1, 1, 50, 1]);
    let contents: Vec<Content> = (0..5).map(|i| content(i, 1 << 20, i)).collect();
    let chunks = plan(&contents, &owners, &limits(3), None);
    assert_eq!(names(&chunks), ["p0 p3", "p1 p2 p4"]);
}

#[test]
fn owners_of_one_group_stay_together() {
    let mut owners = owners(&[1, 1, 1]);
    owners[2].group = "p0".into();
    let contents: Vec<Content> = (0..3).map(|i| content(i, 1 << 20, i)).collect();
    let chunks = plan(&contents, &owners, &limits(100), None);
    assert_eq!(names(&chunks), ["p0 p2", "p1"]);
}

#[test]
fn programs_and_data_are_kept_apart_where_both_are_large() {
    let owners = owners(&[10, 10]);
    let data = |number, size, owner| Content {
        part: Part::Data,
        ..content(number, size, owner)
    };
    let contents = [
        content(1, 1 << 20, 0),
        data(2, 1 << 20, 0),
        content(3, 1 << 20, 1),
        data(4, 100, 1),
    ];
    let mut chunks = plan(&contents, &owners, &limits(100), None);
    chunks.sort_by_key(|chunk| chunk.objects.clone());
    let objects: Vec<_> = chunks.into_iter().map(|chunk| chunk.objects).collect();
    let wanted = [
        vec![checksum(1)],
        vec![checksum(2)],
        vec![checksum(3), checksum(4)],
    ];
    assert_eq!(objects, wanted);
}

#[test]
fn what_is_apart_has_a_chunk_of_its_own_while_there_are_enough() {
    let mut owners = owners(&[ALWAYS_CHANGES, ALWAYS_CHANGES, 1, 1]);
    (owners[0].apart, owners[1].apart) = (true, true);
    let contents: Vec<Content> = (0..4).map(|i| content(i, 1 << 10, i)).collect();
    let planned = |layers| names(&plan(&contents, &owners, &limits(layers), None));
    assert_eq!(planned(4), ["p0", "p1", "p2 p3"]);
    assert_eq!(planned(3), ["p0", "p1 p2 p3"]);
    assert_eq!(planned(2), ["p0 p1 p2 p3"]);
    assert!(planned(1).is_empty());
    assert!(planned(0).is_empty());
}

#[test]
fn only_chunks_with_a_change_are_divided_anew_by_what_was_learned() {
    let owners = owners(&[1; 9]);
    let contents: Vec<Content> = (0..9).map(|i| content(i, 1 << 20, i)).collect();
    let first = plan(&contents, &owners, &limits(4), None);
    assert_eq!(names(&first), ["p0 p1 p2", "p3 p4 p5", "p6 p7 p8"]);
    let mut changed = contents.clone();
    changed[0].checksum = checksum(100);
    changed[8].checksum = checksum(101);
    let second = plan(&changed, &owners, &limits(4), Some(&previous(&first)));
    assert_eq!(names(&second), ["p0 p8", "p1 p2 p6 p7", "p3 p4 p5"]);
    changed[8].checksum = checksum(102);
    let third = plan(&changed, &owners, &limits(4), Some(&previous(&second)));
    assert_eq!(names(&third), names(&second));
}

#[test]
fn what_is_new_goes_into_the_layer_left_free() {
    let owners = owners(&[1; 10]);
    let contents: Vec<Content> = (0..10).map(|i| content(i, 1 << 20, i)).collect();
    let first = plan(&contents[..9], &owners, &limits(5), None);
    let second = plan(&contents, &owners, &limits(5), Some(&previous(&first)));
    assert_eq!(second[..3], remembered(&first, &second)[..]);
    assert_eq!(second[3].components, ["p9"]);
}

/// The chunks of `first` with the memory of `second`, which knows one build more.
fn remembered(first: &[Chunk], second: &[Chunk]) -> Vec<Chunk> {
    let pairs = first.iter().zip(second);
    let chunk = |(first, second): (&Chunk, &Chunk)| Chunk {
        annotations: second.annotations.clone(),
        ..first.clone()
    };
    pairs.map(chunk).collect()
}

#[test]
fn chunks_of_another_program_are_kept_by_name() {
    let owners = owners(&[1; 4]);
    let contents: Vec<Content> = (0..4).map(|i| content(i, 1 << 20, i)).collect();
    let layer = |names: &str| BTreeMap::from([(ANNOTATION_COMPONENTS.into(), names.into())]);
    let layers = [layer("p0,p3"), layer("p1,gone"), layer(""), BTreeMap::new()];
    let previous = Previous::from_annotations(&layers);
    let chunks = plan(&contents, &owners, &limits(10), Some(&previous));
    assert_eq!(names(&chunks), ["p0 p3", "p1", "p2"]);
}

#[test]
fn names_come_back_from_annotations() {
    let mut owners = owners(&[1]);
    owners[0].group = "a,b:c%d é\n".into();
    let first = plan(&[content(1, 5, 0)], &owners, &limits(3), None);
    let memory = first[0].annotations[ANNOTATION_MEMORY].clone();
    assert!(memory.starts_with("a%2Cb%3Ac%25d%20%C3%A9%0A:"), "{memory}");
    let second = plan(
        &[content(1, 5, 0)],
        &owners,
        &limits(3),
        Some(&previous(&first)),
    );
    let memory = &second[0].annotations[ANNOTATION_MEMORY];
    assert!(memory.ends_with(":0:1"), "{memory}");
}

fn arbitrary() -> impl Strategy<Value = (Vec<Content>, Vec<Owner>, u32)> {
    let owner = (
        0..60u32,
        prop_oneof![0..200u32, Just(ALWAYS_CHANGES)],
        any::<u8>(),
    );
    let owners = prop::collection::vec(owner, 1..40);
    owners.prop_flat_map(|list| {
        let count = list.len() as u32;
        let owner = |(i, (group, frequency, apart)): (usize, (u32, u32, u8))| Owner {
            group: format!("g{group}"),
            apart: apart < 20,
            ..Owner::new(&format!("p{i}"), frequency)
        };
        let owners: Vec<Owner> = list.into_iter().enumerate().map(owner).collect();
        let content = (any::<u16>(), any::<u32>(), 0..count, any::<bool>());
        let content = content.prop_map(|(number, size, owner, data)| Content {
            part: if data { Part::Data } else { Part::Code },
            ..content_of(number, size, owner)
        });
        let contents = prop::collection::vec(content, 0..200);
        (contents, Just(owners), 0..30u32)
    })
}

fn content_of(number: u16, size: u32, owner: u32) -> Content {
    content(number.into(), size.into(), owner)
}

fn check(chunks: &[Chunk], contents: &[Content], max_layers: u32) {
    let wanted: BTreeSet<Checksum> = contents.iter().map(|c| c.checksum).collect();
    let objects: Vec<Checksum> = chunks.iter().flat_map(|c| c.objects.clone()).collect();
    let set: BTreeSet<Checksum> = objects.iter().copied().collect();
    assert_eq!(set.len(), objects.len(), "an object is in two chunks");
    if max_layers > 1 {
        assert_eq!(set, wanted);
    }
    assert!(chunks.is_empty() || chunks.len() < max_layers as usize);
    for chunk in chunks {
        assert!(!chunk.objects.is_empty() && !chunk.components.is_empty());
        assert!(chunk.objects.is_sorted() && chunk.components.is_sorted());
    }
}

proptest! {
    #[test]
    fn each_object_is_in_exactly_one_of_few_chunks((contents, owners, layers) in arbitrary()) {
        let chunks = plan(&contents, &owners, &limits(layers), None);
        check(&chunks, &contents, layers);
        let mut turned = contents.clone();
        turned.reverse();
        prop_assert_eq!(&plan(&turned, &owners, &limits(layers), None), &chunks);
        let again = plan(&contents, &owners, &limits(layers), Some(&previous(&chunks)));
        let objects = |chunks: &[Chunk]| chunks.iter().map(|c| c.objects.clone()).collect::<Vec<_>>();
        prop_assert_eq!(objects(&again), objects(&chunks));
    }

    #[test]
    fn chunks_without_a_change_stay(
        (contents, owners, layers) in arbitrary(),
        changed in any::<prop::sample::Index>(),
        others in 2..30u32,
    ) {
        let first = plan(&contents, &owners, &limits(layers), None);
        let mut next = contents.clone();
        if !next.is_empty() {
            let changed = changed.index(next.len());
            let old = next[changed].checksum;
            next.retain(|c| c.checksum != old);
            next.push(Content { checksum: checksum(1 << 20), ..contents[changed] });
        }
        let second = plan(&next, &owners, &limits(layers), Some(&previous(&first)));
        check(&second, &next, layers);
        let there: BTreeSet<_> = next.iter().map(|c| c.checksum).collect();
        let whole = |chunk: &&Chunk| chunk.objects.iter().all(|o| there.contains(o));
        let gone = first.iter().filter(|c| !second.iter().any(|n| n.objects == c.objects));
        // A group whose parts came to be worth splitting breaks the chunk it was in; nothing else does.
        prop_assert!(gone.filter(whole).count() <= 1);
        let third = plan(&next, &owners, &limits(others), Some(&previous(&second)));
        check(&third, &next, others);
    }

    #[test]
    fn any_annotation_is_read(components in ".*", memory in "[a-z0-9:,%=/]*", junk in ".*") {
        let layers = [memory, junk].map(|memory| BTreeMap::from([
            (ANNOTATION_COMPONENTS.to_string(), components.clone()),
            (ANNOTATION_MEMORY.to_string(), memory),
        ]));
        let previous = Previous::from_annotations(&layers);
        let contents = [content(1, 1, 0), content(2, 2, 1)];
        let chunks = plan(&contents, &owners(&[1, 2]), &limits(3), Some(&previous));
        check(&chunks, &contents, 3);
    }
}
