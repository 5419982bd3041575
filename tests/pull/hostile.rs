//! An image that lies about its layers, pulled first, changes nothing in a good image pulled later.

use bowline::image::Compression;
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::tar;
use proptest::prelude::*;

use crate::chunked::Scene;
use crate::support::Place;

/// A layer of some files; `seed` says what is in them.
fn layer(seed: usize, chunked: bool) -> Layer {
    let lines: String = (0..12)
        .map(|n| format!("data /usr/lib/f{n} 0 0 644 20000 {}\n", seed * (n % 3) + n))
        .collect();
    let tar = tar::layer(&lines).unwrap();
    match chunked {
        true => ChunkedLayer::new(&tar).unwrap().layer().unwrap(),
        false => Layer::new(&tar, Compression::Gzip).unwrap(),
    }
}

/// What the hostile image says of one of its layers.
#[derive(Debug, Clone, Copy)]
struct Lie {
    chunked: bool,
    /// It has the digest (and size) of the good layer's blob.
    digest: bool,
    /// It has the diff_id of the good layer.
    diff_id: bool,
    /// It has the good layer's bytes.
    content: bool,
}

fn lies() -> impl Strategy<Value = Lie> {
    any::<(bool, bool, bool, bool)>().prop_map(|(chunked, digest, diff_id, content)| Lie {
        chunked,
        digest,
        diff_id,
        content,
    })
}

fn hostile(lies: &[Lie], good: &[Layer]) -> Vec<Layer> {
    let lie = |(lie, good): (&Lie, &Layer)| {
        let mut layer = layer(31, lie.chunked);
        if lie.content {
            layer = good.clone();
            layer.diff_id = self::layer(31, false).diff_id;
        }
        if lie.digest {
            (layer.digest, layer.size) = (good.digest, good.size.max(layer.size));
        }
        if lie.diff_id {
            layer.diff_id = good.diff_id;
        }
        layer
    };
    lies.iter().zip(good).map(lie).collect()
}

fn build(layers: Vec<Layer>, created: &str) -> Image {
    let image = ImageBuilder {
        created: created.into(),
        layers,
        ..ImageBuilder::default()
    };
    image.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_good_image_is_the_same_after_a_hostile_one(
        lies in prop::collection::vec(lies(), 2),
        good_chunked: [bool; 2],
        first_version: bool,
    ) {
        let good = vec![layer(1, good_chunked[0]), layer(2, good_chunked[1])];
        let image = build(good.clone(), "2026-02-02T00:00:00Z");
        let clean = Place::new("bare-user");
        let expected = clean.pull(&clean.add(&image, "good")).unwrap();

        let scene = Scene::new("bare-user");
        if first_version {
            // Something that tables of contents can be compared with.
            let old = build(vec![layer(7, true)], "2026-01-01T00:00:00Z");
            scene.pull(&scene.serve(&old, "old")).0.unwrap();
        }
        let bad = Scene { place: Place::new("bare-user"), ..Scene::new("bare-user") };
        let imgref = bad.serve(&build(hostile(&lies, &good), "2026-02-02T00:00:00Z"), "bad");
        // Whether it is refused is not the question.
        let _ = scene.pull(&imgref);
        let (record, _) = scene.pull(&scene.serve(&image, "good"));
        prop_assert_eq!(record.unwrap().commit, expected.commit);
        scene.place.check();
    }
}
