//! Images written to local files: what each destination has is what went in, byte for byte, to our own
//! eyes and to skopeo's. Needs neither root nor network.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bowline::image::{Digest, host_arch};
use bowline::progress::Silent;
use bowline::testing::{Image, ImageBuilder};
use bowline::transport::push::{
    CopyPlan, Destination, PushOptions, PushedManifest, Selection, copy,
};
use bowline::transport::{Error, ImageSource, SourceOptions, open};
use bytes::Bytes;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn image(label: &str) -> Image {
    let mut builder = ImageBuilder::default();
    builder.labels.insert("label".into(), label.into());
    for n in 0..2 {
        let lines = format!("dir d{n} 0 0 755\ndata d{n}/f 0 0 644 {} {n}", 300_000 + n);
        builder = builder.derived(&lines).unwrap();
    }
    builder.build()
}

async fn copied(from: &str, to: &str, selection: Selection) -> Result<Digest, Error> {
    let source = open(&from.parse().unwrap(), &SourceOptions::default()).await?;
    let source: Arc<dyn ImageSource> = source.into();
    let plan = CopyPlan::new(&*source, &selection).await?;
    let to = to.parse().unwrap();
    let destination = Destination::open(&to, &PushOptions::default()).await?;
    let progress: Arc<dyn bowline::progress::ProgressSink> = Arc::new(Silent);
    copy::carry_out(&plan, &source, &destination, 2, &progress).await?;
    Ok(plan.digest().unwrap())
}

fn mine() -> Selection {
    Selection::Arch(host_arch())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What skopeo says the manifest of `name` is; nothing where there is no skopeo.
#[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skopeo_sees(name: &str) -> Option<Vec<u8>> {
    let command = Command::new("skopeo")
        .args(["inspect", "--raw", name])
        .output();
    match command {
        Ok(output) => {
            assert!(output.status.success(), "{name}: {output:?}");
            Some(output.stdout)
        }
        Err(_) => {
            eprintln!("skipped: skopeo is not installed");
            None
        }
    }
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = dir.read_dir().unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_image_goes_from_place_to_place_unchanged() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    let built = image("one");
    built
        .write_layout(&temp.path().join("first"), "v1")
        .unwrap();
    let mut from = format!("oci:{}:v1", at("first"));
    for to in [
        format!("oci:{}:v2", at("layout")),
        format!("oci-archive:{}:v3", at("a.tar")),
        format!("dir:{}", at("dir")),
        format!("oci:{}", at("untagged")),
        format!("oci-archive:{}", at("untagged.tar")),
    ] {
        assert_eq!(copied(&from, &to, mine()).await.unwrap(), built.digest());
        if let Some(seen) = skopeo_sees(&to) {
            assert_eq!(seen, built.manifest, "{to}");
        }
        from = to;
    }
    let blobs = built.blobs.len() + 2;
    assert_eq!(names(&temp.path().join("layout/blobs/sha256")).len(), blobs);
    assert_eq!(
        names(&temp.path().join("layout")),
        ["blobs", "index.json", "oci-layout"]
    );
    assert_eq!(names(temp.path()).len(), 6, "{:?}", names(temp.path()));
}

#[tokio::test]
async fn the_same_image_gives_the_same_archive() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    image("one")
        .write_layout(&temp.path().join("first"), "v1")
        .unwrap();
    let from = format!("oci:{}:v1", at("first"));
    let mut archives = Vec::new();
    for name in ["a.tar", "b.tar", "a.tar"] {
        let to = format!("oci-archive:{}:x", at(name));
        copied(&from, &to, mine()).await.unwrap();
        archives.push(std::fs::read(temp.path().join(name)).unwrap());
    }
    assert!(archives[0] == archives[1] && archives[0] == archives[2]);
}

#[tokio::test]
async fn other_tags_of_a_layout_stay_and_a_tag_moves() {
    let temp = tempfile::tempdir().unwrap();
    let layout = temp.path().join("layout");
    let (one, two) = (image("one"), image("two"));
    one.write_layout(&layout, "keep").unwrap();
    one.write_layout(&layout, "move").unwrap();
    two.write_layout(&temp.path().join("two"), "t").unwrap();
    let from = format!("oci:{}:t", text(&temp.path().join("two")));
    copied(&from, &format!("oci:{}:move", text(&layout)), mine())
        .await
        .unwrap();
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let tags: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let tag = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (
                tag.as_str().unwrap().to_owned(),
                entry["digest"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [("keep", one.digest()), ("move", two.digest())];
    assert_eq!(
        tags,
        expected.map(|(tag, digest)| (tag.to_owned(), digest.to_string()))
    );
}

/// A layout whose tag `all` is an index of two images, for this machine and for another one.
fn index(dir: &Path) -> (Digest, Image, Image) {
    let (own, mut other) = (image("own"), image("other"));
    other.architecture = "s390x".into();
    own.write_layout(dir, "own").unwrap();
    other.write_layout(dir, "other").unwrap();
    let entry = |image: &Image| {
        json!({
            "mediaType": image.media_type, "digest": image.digest(), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": image.architecture},
        })
    };
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&own), entry(&other)]});
    let index = index.to_string().into_bytes();
    let digest = Digest::of(&index);
    std::fs::write(dir.join("blobs/sha256").join(digest.hex()), &index).unwrap();
    let entry = json!({
        "mediaType": INDEX, "digest": digest, "size": index.len(),
        "annotations": {"org.opencontainers.image.ref.name": "all"},
    });
    let top = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(dir.join("index.json"), top.to_string()).unwrap();
    (digest, own, other)
}

#[tokio::test]
async fn of_several_images_one_is_copied_or_all() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    let (digest, own, other) = index(&temp.path().join("from"));
    let from = format!("oci:{}:all", at("from"));
    let to = format!("oci:{}:x", at("one"));
    assert_eq!(copied(&from, &to, mine()).await.unwrap(), own.digest());
    let s390x = Selection::Arch("s390x".into());
    let to = format!("oci:{}:y", at("one"));
    assert_eq!(copied(&from, &to, s390x).await.unwrap(), other.digest());
    for to in [
        format!("oci:{}:all", at("all")),
        format!("oci-archive:{}:all", at("all.tar")),
        format!("dir:{}", at("all-dir")),
    ] {
        assert_eq!(copied(&from, &to, Selection::All).await.unwrap(), digest);
        // Once more from there: nothing has been lost.
        let again = format!("oci:{}:again", at("again"));
        assert_eq!(copied(&to, &again, Selection::All).await.unwrap(), digest);
        let s390x = Selection::Arch("s390x".into());
        let again = format!("dir:{}", at("again-dir"));
        assert_eq!(copied(&to, &again, s390x).await.unwrap(), other.digest());
    }
    // Such an archive has room for one image.
    let docker = format!("docker-archive:{}", at("docker.tar"));
    let error = copied(&from, &docker, Selection::All).await;
    assert!(matches!(error, Err(Error::Config(_))), "{error:?}");
    assert!(!temp.path().join("docker.tar").exists());
    let riscv = Selection::Arch("riscv64".into());
    let error = copied(&from, &format!("dir:{}", at("none")), riscv).await;
    assert!(matches!(error, Err(Error::Manifest { .. })), "{error:?}");
    assert!(!temp.path().join("none").exists());
}

#[tokio::test]
async fn an_archive_for_docker_load_goes_on_from_there() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    image("label")
        .write_layout(&temp.path().join("from"), "x")
        .unwrap();
    let archive = format!("docker-archive:{}:localhost/x:1", at("archive.tar"));
    let from = format!("oci:{}:x", at("from"));
    copied(&from, &archive, mine()).await.unwrap();
    let name = archive.parse().unwrap();
    let source = open(&name, &SourceOptions::default()).await.unwrap();
    let manifest = source.manifest(None).await.unwrap().bytes;
    // Its layers are compressed; those of its manifest are not, here and there (where they are called gzip).
    if let Some(theirs) = skopeo_sees(&archive) {
        let [ours, theirs] = [&manifest, &theirs].map(|raw| {
            let json: Value = serde_json::from_slice(raw).unwrap();
            let layers = json["layers"].as_array().unwrap().iter();
            let kept = layers.map(|layer| (layer["digest"].clone(), layer["size"].clone()));
            kept.collect::<Vec<_>>()
        });
        assert_eq!(ours, theirs);
    }
    let again = format!("oci:{}:x", at("again"));
    let digest = copied(&archive, &again, mine()).await.unwrap();
    assert_eq!(digest, Digest::of(&manifest));
}

#[tokio::test]
async fn a_directory_has_the_new_image_only_and_what_is_not_ours_stays() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("dir");
    let to = format!("dir:{}", text(&dir));
    for label in ["one", "two"] {
        image(label)
            .write_layout(&temp.path().join("from"), label)
            .unwrap();
        let from = format!("oci:{}:{label}", text(&temp.path().join("from")));
        copied(&from, &to, mine()).await.unwrap();
        std::fs::write(dir.join("signature-1"), "old").unwrap();
        std::fs::write(dir.join("notes"), "mine").unwrap();
    }
    let two = image("two");
    let from = format!("oci:{}:two", text(&temp.path().join("from")));
    copied(&from, &to, mine()).await.unwrap();
    let mut expected: Vec<String> = two.blobs.keys().map(Digest::hex).collect();
    expected.push(two.config_digest().hex());
    expected.extend(["manifest.json", "notes", "version"].map(Into::into));
    expected.sort();
    assert_eq!(names(&dir), expected);
}

#[tokio::test]
async fn directories_of_others_are_refused_untouched() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("file"), "x").unwrap();
    for to in [
        format!("oci:{}:x", text(temp.path())),
        format!("dir:{}", text(temp.path())),
        format!("oci-archive:{}:x", text(temp.path())),
        format!("docker-archive:{}:a/b:1", text(temp.path())),
        format!("docker-daemon:{}", "a:1"),
    ] {
        let error = Destination::open(&to.parse().unwrap(), &PushOptions::default()).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, Error::Config(_) | Error::Unsupported(_)),
            "{error}"
        );
        assert_eq!(names(temp.path()), ["file"]);
    }
}

#[tokio::test]
async fn what_is_not_the_promised_blob_gets_no_name() {
    let temp = tempfile::tempdir().unwrap();
    let names_of = ["oci:layout:x", "oci-archive:a.tar:x", "dir:dir"];
    for name in names_of {
        let (transport, path) = name.split_once(':').unwrap();
        let to = format!("{transport}:{}/{path}", text(temp.path()));
        let to = to.parse().unwrap();
        let destination = Destination::open(&to, &PushOptions::default())
            .await
            .unwrap();
        let right = Digest::of(b"right");
        for wrong in [&b"wrong"[..], b"righ", b"right and more"] {
            let wrong = Bytes::from_static(wrong);
            let error = destination.put_blob(&right, 5, &wrong).await.unwrap_err();
            assert!(matches!(error, Error::Mismatch { .. }), "{error}");
            assert!(!destination.has_blob(&right, 5).await.unwrap());
        }
        let content = Bytes::from_static(b"right");
        destination.put_blob(&right, 5, &content).await.unwrap();
        assert!(destination.has_blob(&right, 5).await.unwrap());
        let config = Digest::of(b"{}");
        destination
            .put_blob(&config, 2, &Bytes::from_static(b"{}"))
            .await
            .unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": right, "size": 5}],
        });
        let bytes = manifest.to_string().into_bytes();
        let manifest = PushedManifest {
            bytes: &bytes,
            digest: &Digest::of(&bytes),
            media_type: "application/vnd.oci.image.manifest.v1+json",
        };
        destination.put_manifest(&manifest).await.unwrap();
        let again = format!("dir:{}", text(&temp.path().join("again")));
        let digest = copied(&to.to_string(), &again, mine()).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes), "{to}");
    }
    let hidden = names(temp.path());
    assert!(
        hidden.iter().all(|name| !name.starts_with('.')),
        "{hidden:?}"
    );
}
