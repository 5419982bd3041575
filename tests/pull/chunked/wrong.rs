//! Whatever is wrong with a table of contents or a registry, the layer is fetched whole, and the image is
//! the right one; what is wrong with the layer itself is refused.

use bowline::image::Digest;
use bowline::repo::refs;
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::oci::Layer;
use bowline::testing::registry::Fault;

use super::{Scene, image, new_layer, old};
use crate::support::chain;

/// What is wrong, how it is made wrong, and the words that tell of it.
type Case = (
    &'static str,
    fn(&Scene, &mut ChunkedLayer, &mut Layer),
    &'static str,
);

fn middle_of(layer: &mut ChunkedLayer, name: &str) -> u64 {
    let entry = layer.entry(name);
    (entry["offset"].as_u64().unwrap() + entry["endOffset"].as_u64().unwrap()) / 2
}

fn toc_position(layer: &Layer) -> u64 {
    let key = "io.github.containers.zstd-chunked.manifest-position";
    layer.annotations[key]
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn annotate(layer: &mut Layer, name: &str, value: &str) {
    let key = format!("io.github.containers.zstd-chunked.{name}");
    layer.annotations.insert(key, value.into());
}

const CASES: [Case; 13] = [
    (
        "no ranges",
        |scene, _, _| scene.registry.fault("/blobs/", Fault::NoRange),
        "has HTTP status 200",
    ),
    (
        "another range",
        |scene, _, _| scene.registry.fault("/blobs/", Fault::WrongRange(9)),
        "has the range",
    ),
    (
        "a table that is damaged on its way",
        |scene, _, layer| {
            let at = Fault::FlipAt(toc_position(layer) + 20);
            scene.registry.fault_times(&layer.digest.to_string(), at, 1);
        },
        "Checking the table of contents: its digest is",
    ),
    (
        "a file that is damaged on its way",
        |scene, chunked, layer| {
            let at = Fault::FlipAt(middle_of(chunked, "/usr/lib/f25"));
            scene.registry.fault_times(&layer.digest.to_string(), at, 2);
        },
        "cannot be put together of parts",
    ),
    (
        "parts that end too early",
        |scene, _, layer| {
            let refused = Fault::Status(403, String::new());
            scene
                .registry
                .fault_times(&layer.digest.to_string(), Fault::FlipAt(0), 1);
            scene
                .registry
                .fault_times(&layer.digest.to_string(), refused, 1);
        },
        "is denied",
    ),
    (
        "another digest of the table",
        |_, _, layer| annotate(layer, "manifest-checksum", &Digest::of(b"x").to_string()),
        "Checking the table of contents: its digest is",
    ),
    (
        "another position of the table",
        |_, _, layer| {
            let wrong = toc_position(layer) - 300;
            annotate(layer, "manifest-position", &format!("{wrong}:200:3000:1"));
        },
        "Checking the table of contents: its digest is",
    ),
    (
        "a lie about a file that is fetched",
        |_, chunked, layer| {
            chunked.entry("/usr/lib/f05")["digest"] = Digest::of(b"x").to_string().into();
            *layer = chunked.layer().unwrap();
        },
        "are not the file with digest",
    ),
    (
        "a lie about a file that is here",
        |_, chunked, layer| {
            let other = chunked.entry("/usr/lib/f10")["digest"].clone();
            chunked.entry("/usr/lib/f11")["digest"] = other;
            *layer = chunked.layer().unwrap();
        },
        "the image config promises diff_id",
    ),
    (
        "a lie about the tar stream",
        |_, chunked, layer| {
            chunked.split.swap(0, 2);
            *layer = chunked.layer().unwrap();
        },
        "cannot be put together of parts",
    ),
    (
        "another size in the tar-split data",
        |_, chunked, layer| {
            let file = chunked
                .split
                .iter_mut()
                .find(|line| line["size"].is_u64())
                .unwrap();
            file["size"] = 5.into();
            *layer = chunked.layer().unwrap();
        },
        "has a file of 5 bytes, the table of contents of 20000",
    ),
    (
        "tar-split data that ends too early",
        |_, chunked, layer| {
            chunked.split.truncate(20);
            *layer = chunked.layer().unwrap();
        },
        "cannot be put together of parts",
    ),
    (
        "garbage for a table",
        |_, chunked, layer| {
            chunked.entry("/usr/lib/f05")["offset"] = 1_000_000_000.into();
            *layer = chunked.layer().unwrap();
        },
        "where it cannot be",
    ),
];

#[test]
fn whatever_is_wrong_the_layer_is_fetched_whole() {
    for (name, spoil, words) in CASES {
        let scene = Scene::new("bare-user");
        scene.pull_quietly(&scene.serve(&old(), "1"));
        let mut chunked = new_layer();
        let mut layer = chunked.layer().unwrap();
        spoil(&scene, &mut chunked, &mut layer);
        let size = layer.size as u64;
        let image = image(layer);
        let imgref = scene.serve(&image, "2");
        let (record, said) = scene.pull(&imgref);
        let record = record.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(
            said[0].starts_with("layer 1 of 1 ") && said[0].contains(words),
            "{name}: {said:?}"
        );
        assert!(scene.sent() >= size, "{name}");
        assert_eq!(record.commit, scene.whole(&image), "{name}");
        let blob = refs::of_blob(&record.manifest.layers[0].digest);
        assert!(
            scene.place.repo.resolve_ref(&blob).unwrap().is_some(),
            "{name}"
        );
        scene.place.check();
    }
}

#[test]
fn a_layer_that_is_wrong_as_a_whole_is_refused() {
    let scene = Scene::new("bare-user");
    scene.pull_quietly(&scene.serve(&old(), "1"));
    let mut layer = new_layer().layer().unwrap();
    layer.diff_id = Digest::of(b"x");
    let (record, said) = scene.pull(&scene.serve(&image(layer), "2"));
    assert!(chain(&record.unwrap_err()).contains("promises diff_id"));
    assert_eq!(said.len(), 1);
    scene.place.check();
}
