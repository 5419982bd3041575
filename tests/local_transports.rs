//! Images in local files, as skopeo writes them: each transport is opened, resolved and read to the
//! last byte. Needs `skopeo`; where it is missing the tests say so. Needs neither root nor network.

use std::path::Path;
use std::process::Command;

use bowline::image::{ImageLayout, Manifest, VerifyingReader};
use bowline::testing::ImageBuilder;
use bowline::transport::{Blob, Error, ImageSource, SourceOptions, fetch_config, open, resolve};

/// Whether skopeo is there; says so where it is not.
#[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skopeo_is_there() -> bool {
    let there = Command::new("skopeo").arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: skopeo is not installed");
    }
    there
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {words}");
    output.stdout
}

fn copy(from: &str, to: &str) {
    skopeo(&["copy", "--quiet", from, to]);
}

fn image() -> ImageBuilder {
    let mut builder = ImageBuilder::default();
    for n in 0..2 {
        let lines = format!("dir d{n} 0 0 755\ndata d{n}/f 0 0 644 {} {n}", 70_000 + n);
        builder = builder.derived(&lines).unwrap();
    }
    builder
}

async fn opened(name: &str) -> Result<Box<dyn ImageSource>, Error> {
    open(&name.parse().unwrap(), &SourceOptions::default()).await
}

/// Resolves `name`, reads its config and every byte of its layers, and checks all digests.
async fn read_all(name: &str) -> Manifest {
    let source = opened(name).await.unwrap();
    let manifest = resolve(&*source, "amd64").await.unwrap().manifest;
    let config = fetch_config(&*source, &manifest).await.unwrap();
    let layout = ImageLayout::new(&manifest, &config).unwrap();
    for layer in layout.layers() {
        let Blob::Reader(reader) = source.blob(&layer.descriptor).await.unwrap() else {
            panic!("local images are files");
        };
        let size = VerifyingReader::new(reader, &layer.descriptor).finish();
        assert_eq!(Some(size.unwrap()), layer.descriptor.size);
    }
    manifest
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn everything_that_skopeo_writes_is_read() {
    if !skopeo_is_there() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let layout = at("layout");
    let built = image().build();
    built.write_layout(&layout, "v1").unwrap();
    let from = format!("oci:{}:v1", text(&layout));
    for transport in ["oci", "oci-archive", "dir"] {
        let to = match transport {
            "dir" => format!("dir:{}", text(&at("dir"))),
            _ => format!("{transport}:{}:v2", text(&at(transport))),
        };
        copy(&from, &to);
        let manifest = read_all(&to).await;
        assert_eq!(manifest.raw(), skopeo(&["inspect", "--raw", &to]), "{to}");
        let without_tag = to.trim_end_matches(":v2");
        assert_eq!(read_all(without_tag).await, manifest);
    }
    assert_eq!(read_all(&from).await.digest(), built.digest());
}

#[tokio::test]
async fn docker_archives_get_the_manifest_that_they_never_had() {
    if !skopeo_is_there() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let layout = temp.path().join("layout");
    image().build().write_layout(&layout, "v1").unwrap();
    let archive = format!("docker-archive:{}", text(&temp.path().join("a.tar")));
    let tagged = format!("{archive}:localhost/os:1");
    copy(&format!("oci:{}:v1", text(&layout)), &tagged);
    let manifest = read_all(&tagged).await;
    // containers/image calls the uncompressed layers gzip all the same.
    let theirs = String::from_utf8(skopeo(&["inspect", "--raw", &tagged])).unwrap();
    let ours = serde_json::from_slice::<serde_json::Value>(manifest.raw()).unwrap();
    let theirs = theirs.replace("diff.tar.gzip", "diff.tar");
    assert_eq!(
        ours,
        serde_json::from_str::<serde_json::Value>(&theirs).unwrap()
    );
    for same in [archive.clone(), format!("{archive}:@0")] {
        assert_eq!(read_all(&same).await, manifest);
    }
    for (name, words) in [
        (format!("{archive}:localhost/os:2"), "localhost/os:1"),
        (format!("{archive}:@1"), "localhost/os:1"),
        (format!("{archive}:@x"), "localhost/os:1"),
    ] {
        let error = opened(&name).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_compressed_archive_says_how_to_decompress_it() {
    use std::io::Write;
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.tar.gz");
    let file = std::fs::File::create(&path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(&[0; 4096]).unwrap();
    gzip.finish().unwrap();
    for transport in ["oci-archive", "docker-archive"] {
        let error = opened(&format!("{transport}:{}", text(&path))).await;
        let words = error.unwrap_err().to_string();
        let hint = format!("gzip; decompress it first: gunzip {}", text(&path));
        assert!(words.ends_with(&hint), "{words}");
    }
}
