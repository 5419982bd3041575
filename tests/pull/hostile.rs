//! An image that lies about its layers, pulled first, changes nothing in a good image pulled later.

use bowline::image::{Compression, Digest};
use bowline::repo::refs;
use bowline::testing::chunked::ChunkedLayer;
use bowline::testing::encapsulate::Encapsulation;
use bowline::testing::fixture::{Fixture, OS};
use bowline::testing::oci::{Image, ImageBuilder, Layer};
use bowline::testing::tar;
use proptest::prelude::*;
use serde_json::Value;

use crate::chunked::Scene;
use crate::support::{Place, chain};

/// The tar stream of a layer of some files; `seed` says what is in them.
fn files(seed: usize) -> Vec<u8> {
    let lines: String = (0..12)
        .map(|n| format!("data /usr/lib/f{n} 0 0 644 20000 {}\n", seed * (n % 3) + n))
        .collect();
    tar::layer(&lines).unwrap()
}

fn layer(seed: usize, chunked: bool) -> Layer {
    match chunked {
        true => ChunkedLayer::new(&files(seed)).unwrap().layer().unwrap(),
        false => Layer::new(&files(seed), Compression::Gzip).unwrap(),
    }
}

/// What is wrong with a table of contents or the tar-split data beside it.
#[derive(Debug, Clone, Copy)]
enum TocLie {
    /// A file has another one's digest.
    Digest,
    /// A file has another size, in both.
    Size,
    /// Two files have each other's frames.
    Swapped,
    /// A file has the frames of the one before it, too.
    Overlap,
    /// A file has another one's name.
    Name,
    /// A file stands there twice.
    Twice,
    /// A file is missing.
    Missing,
    /// The tar-split data has another order.
    Order,
    /// The tar-split data is cut off.
    Cut,
    /// A header of the tar is another one.
    Header,
}

const TOC_LIES: [TocLie; 10] = [
    TocLie::Digest,
    TocLie::Size,
    TocLie::Swapped,
    TocLie::Overlap,
    TocLie::Name,
    TocLie::Twice,
    TocLie::Missing,
    TocLie::Order,
    TocLie::Cut,
    TocLie::Header,
];

impl TocLie {
    fn tell(self, layer: &mut ChunkedLayer) {
        let [one, two] = ["/usr/lib/f4", "/usr/lib/f5"];
        let other = layer.entry(two).clone();
        let first = layer.entry(one).clone();
        let copy = |from: &Value, to: &mut Value, keys: &[&str]| {
            keys.iter().for_each(|key| to[*key] = from[*key].clone());
        };
        match self {
            Self::Digest => copy(&other, layer.entry(one), &["digest"]),
            Self::Size => {
                layer.entry(one)["size"] = 7.into();
                let mut lines = layer.split.iter_mut();
                let file = lines.find(|line| line["name"] == one && line["size"].is_u64());
                file.unwrap()["size"] = 7.into();
            }
            Self::Swapped => {
                copy(&other, layer.entry(one), &["offset", "endOffset", "digest"]);
                copy(&first, layer.entry(two), &["offset", "endOffset", "digest"]);
            }
            Self::Overlap => copy(&first, layer.entry(two), &["offset"]),
            Self::Name => copy(&other, layer.entry(one), &["name"]),
            Self::Twice => layer.entries.push(first),
            Self::Missing => layer.entries.retain(|entry| entry["name"] != one),
            Self::Order => layer.split.swap(0, 4),
            Self::Cut => layer.split.truncate(9),
            Self::Header => {
                let mut lines = layer.split.iter_mut();
                let segment = lines.find(|line| line["type"] == 2).unwrap();
                segment["payload"] = "AAAA".into();
            }
        }
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
    /// It has the good layer's files, and a table of contents that lies about them.
    toc: Option<TocLie>,
}

fn lies() -> impl Strategy<Value = Lie> {
    let toc = prop::option::of(prop::sample::select(&TOC_LIES[..]));
    (any::<(bool, bool, bool, bool)>(), toc).prop_map(
        |((chunked, digest, diff_id, content), toc)| Lie {
            chunked,
            digest,
            diff_id,
            content,
            toc,
        },
    )
}

/// What else happens before the good image is pulled.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    /// Other programs remove refs of layers that no manifest names.
    OtherPrune,
    /// Ours.
    Prune,
    /// The index of local content goes away, is of another time, or lies.
    IndexLost,
    IndexShuffled,
    IndexGarbage,
    /// Something under the names of the good image's blobs, as if an interrupted pull had kept it.
    KeptBytes,
}

const BETWEEN: [Between; 7] = [
    Between::Nothing,
    Between::OtherPrune,
    Between::Prune,
    Between::IndexLost,
    Between::IndexShuffled,
    Between::IndexGarbage,
    Between::KeptBytes,
];

impl Between {
    fn happen(self, place: &Place, good: &[Layer]) {
        let own = place.repo_path().join("extensions/bowline");
        let index = own.join("contents");
        match self {
            Self::Nothing => {}
            Self::OtherPrune => other_prune(place),
            Self::Prune => drop(place.repo.prune().unwrap()),
            Self::IndexLost => drop(std::fs::remove_file(index)),
            Self::IndexShuffled => {
                if let Ok(mut bytes) = std::fs::read(&index) {
                    let objects: Vec<Vec<u8>> = bytes[16..]
                        .chunks_exact(64)
                        .map(|record| record[32..].to_vec())
                        .collect();
                    let next = objects.iter().cycle().skip(1);
                    let records = bytes[16..].chunks_exact_mut(64);
                    records
                        .zip(next)
                        .for_each(|(r, o)| r[32..].copy_from_slice(o));
                    std::fs::write(&index, bytes).unwrap();
                }
            }
            Self::IndexGarbage => {
                std::fs::create_dir_all(&own).unwrap();
                std::fs::write(&index, b"bowline content1 and no record at all").unwrap();
            }
            Self::KeptBytes => {
                std::fs::create_dir_all(own.join("blobs")).unwrap();
                for layer in good {
                    let kept = &self::layer(31, true).blob;
                    let kept = &kept[..kept.len().min(layer.blob.len()) / 2];
                    std::fs::write(own.join("blobs").join(layer.digest.hex()), kept).unwrap();
                }
            }
        }
    }
}

/// Removes the refs of layers that others do not know.
fn other_prune(place: &Place) {
    for name in place.ostree(&["refs"]).lines() {
        if name.contains("/diffid_3A_") {
            place.ostree(&["refs", "--delete", name]);
        }
    }
}

fn hostile(lies: &[Lie], good: &[Layer]) -> Vec<Layer> {
    let lie = |(number, (lie, good)): (usize, (&Lie, &Layer))| {
        let mut layer = layer(31, lie.chunked);
        if let Some(toc) = lie.toc {
            let mut chunked = ChunkedLayer::new(&files(number + 1)).unwrap();
            toc.tell(&mut chunked);
            layer = chunked.layer().unwrap();
        } else if lie.content {
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
    lies.iter().zip(good).enumerate().map(lie).collect()
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
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_good_image_is_the_same_after_a_hostile_one(
        lies in prop::collection::vec(lies(), 2),
        good_chunked: [bool; 2],
        first_version: bool,
        same_name: bool,
        between in prop::sample::select(&BETWEEN[..]),
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
        let image_of_liar = build(hostile(&lies, &good), "2026-02-03T00:00:00Z");
        let bad = Scene { place: Place::new("bare-user"), ..Scene::new("bare-user") };
        // Whether it is refused is not the question.
        let _ = match same_name {
            false => scene.pull(&bad.serve(&image_of_liar, "bad")),
            true => scene.pull(&scene.serve(&image_of_liar, "good")),
        };
        between.happen(&scene.place, &good);
        let (record, _) = scene.pull(&scene.serve(&image, "good"));
        prop_assert_eq!(record.unwrap().commit, expected.commit);
        scene.place.check();
    }
}

fn encapsulated(fixture: &Fixture, more: &str) -> (String, ImageBuilder) {
    let commit = fixture.commit(&format!("{OS}\n{more}")).unwrap();
    let image = Encapsulation::chunked().image(fixture.repo(), &commit);
    (commit, image.unwrap())
}

/// The image says that the good base's blobs have the content of its own base, which is here.
#[test]
fn a_base_is_never_found_under_a_name_that_was_only_claimed() {
    let fixture = Fixture::new().unwrap();
    let (good_commit, good) = encapsulated(&fixture, "file /usr/bin/ls 0 0 755 good");
    let (_, evil) = encapsulated(&fixture, "file /usr/bin/ls 0 0 755 evil");
    let mut liar = evil.clone();
    liar.created = "2026-02-02T00:00:00Z".into();
    for (layer, good) in liar.layers.iter_mut().zip(&good.layers) {
        (layer.digest, layer.size) = (good.digest, good.size);
    }
    for others_prune in [false, true] {
        let place = Place::new("bare-user");
        place.pull(&place.add(&evil.build(), "evil")).unwrap();
        // Nothing of it is fetched, so that nobody sees that it lies.
        place.pull(&place.add(&liar.build(), "liar")).unwrap();
        let mut claimed = 0;
        for (layer, evil) in good.layers.iter().zip(&evil.layers) {
            let name = refs::of_blob(&layer.digest);
            let found = place.repo.resolve_ref(&name).unwrap();
            // What both images have was seen.
            assert_eq!(found.is_some(), layer.digest == evil.digest);
            claimed += usize::from(found.is_none());
        }
        assert_eq!(claimed, 2);
        if others_prune {
            other_prune(&place);
        }
        std::fs::remove_dir_all(place.layout()).unwrap();
        let imgref = place.add(&good.build(), "good");
        let record = place.pull(&imgref).unwrap();
        assert_eq!(place.list(&record.commit), place.list(&good_commit));
        assert_eq!(place.read(&record.commit, "/usr/bin/ls"), "good");
        place.check();
    }
}

/// A layer with one commit object, and detached metadata that the commit never had.
fn commit_layer(commit: &str, object: &[u8]) -> Layer {
    let (dir, rest) = commit.split_at(2);
    let mut tar = ::tar::Builder::new(Vec::new());
    for (extension, content) in [("commit", object), ("commitmeta", b"")] {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let path = format!("sysroot/ostree/repo/objects/{dir}/{rest}.{extension}");
        tar.append_data(&mut header, path, content).unwrap();
    }
    Layer::new(&tar.into_inner().unwrap(), Compression::Gzip).unwrap()
}

fn object(place: &Place, commit: &str, extension: &str) -> std::path::PathBuf {
    let (dir, rest) = commit.split_at(2);
    let path = format!("objects/{dir}/{rest}.{extension}");
    place.repo_path().join(path)
}

/// The good image's own commits, with signatures of somebody else or none at all.
#[test]
fn nobody_else_says_what_a_commit_has_for_detached_metadata() {
    let fixture = Fixture::new().unwrap();
    let (base, good) = encapsulated(&fixture, "");
    let clean = Place::new("bare-user");
    let record = clean.pull(&clean.add(&good.build(), "good")).unwrap();
    let place = Place::new("bare-user");
    for commit in [&base, &record.commit] {
        let bytes = std::fs::read(object(&clean, commit, "commit")).unwrap();
        let layer = commit_layer(commit, &bytes);
        let diff_id = layer.diff_id.to_string();
        let mut liar = ImageBuilder::default().layer(layer);
        liar.labels.insert("ostree.final-diffid".into(), diff_id);
        let refused = place.pull(&place.add(&liar.build(), "liar")).unwrap_err();
        let refused = chain(&refused);
        assert!(
            refused.contains("which is in none of the image's layers"),
            "{refused}"
        );
        assert!(object(&place, commit, "commitmeta").exists(), "{commit}");
    }
    std::fs::remove_dir_all(place.layout()).unwrap();
    let found = place.pull(&place.add(&good.build(), "good")).unwrap();
    assert_eq!(found.commit, record.commit);
    assert!(!object(&place, &base, "commitmeta").exists());
    // What the pull cost, and nothing else.
    let bytes = |place| std::fs::read(object(place, &record.commit, "commitmeta")).unwrap();
    assert_eq!(bytes(&place).len(), bytes(&clean).len());
    assert!(place.repo.transfer(&record.commit).unwrap().is_some());
    place.check();
}

/// A table of contents that says of an object of the good image that it has another content.
#[test]
fn an_object_is_good_whatever_a_table_of_contents_says_of_it() {
    let fixture = Fixture::new().unwrap();
    let many: String = (0..40)
        .map(|n| format!("data /usr/lib/many/f{n} 0 0 644 9000 {n}\n"))
        .collect();
    let (commit, mut good) = encapsulated(&fixture, &many);
    let tar = |layer: &Layer| layer.recompressed(Compression::None).unwrap().blob;
    let last = good.layers.last_mut().unwrap();
    let mut chunked = ChunkedLayer::new(&tar(last)).unwrap();
    *last = chunked.layer().unwrap();
    let scene = Scene::new("bare-user");
    scene.pull(&scene.serve(&good.build(), "good")).0.unwrap();
    let file = |entry: &&mut Value| entry["type"] == "reg" && entry["size"] == 9000;
    let mut files = chunked.entries.iter_mut().filter(file);
    files.next().unwrap()["digest"] = Digest::of(b"x").to_string().into();
    // It must be fetched.
    chunked.diff_id = Digest::of(b"another");
    let mut liar = good.clone();
    *liar.layers.last_mut().unwrap() = chunked.layer().unwrap();
    let diff_id = chunked.diff_id.to_string();
    liar.labels.insert("ostree.final-diffid".into(), diff_id);
    scene
        .pull(&scene.serve(&liar.build(), "liar"))
        .0
        .unwrap_err();
    let (record, _) = scene.pull(&scene.serve(&good.build(), "again"));
    let record = record.unwrap();
    assert_eq!(scene.place.list(&record.commit), scene.place.list(&commit));
    scene.place.check();
}
