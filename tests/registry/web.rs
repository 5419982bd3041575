//! Archives behind a URL: used when they have the sha256 that was asked for, whatever the connection does
//! on the way. The registry in this process plays the web server: it serves any bytes.

use bowline::image::Digest;
use bowline::testing::registry::Fault;
use bowline::transport::push::{CopyPlan, Destination, PushOptions, Selection, copy};
use bowline::transport::{Error, ImageSource, open, open_url, resolve};

use crate::bench::Bench;
use crate::daemon::{image, missing, run};

struct Scene {
    bench: Bench,
    archive: Vec<u8>,
    manifest: Digest,
    url: String,
}

impl Scene {
    /// Serves the archive of an image that `make` writes from the layout `oci:PATH:1` to a file.
    async fn new(make: impl AsyncFn(&Bench, &str, &str)) -> Self {
        let bench = Bench::new();
        let layout = bench.root.path().join("layout");
        let manifest = image(&layout).digest();
        let file = bench.root.path().join("image.tar");
        let from = format!("oci:{}:1", layout.display());
        make(&bench, &from, file.to_str().unwrap()).await;
        let archive = std::fs::read(file).unwrap();
        let digest = bench.registry.add_blob(archive.clone());
        let host = bench.registry.host();
        let url = format!("http://{host}/v2/web/blobs/{digest}");
        Self {
            bench,
            archive,
            manifest,
            url,
        }
    }

    async fn open(&self, sha256: &Digest) -> Result<Box<dyn ImageSource>, Error> {
        let file = tempfile::tempfile().unwrap();
        open_url(&self.url, sha256, file, &self.bench.options).await
    }

    /// Opens it with its own digest, and gives that of the image.
    async fn read(&self) -> Result<Digest, Error> {
        let source = self.open(&Digest::of(&self.archive)).await?;
        let found = resolve(&*source, "amd64").await?;
        for layer in &found.manifest.layers {
            source.blob(layer).await?;
        }
        Ok(found.manifest.digest())
    }
}

async fn oci_archive(bench: &Bench, from: &str, file: &str) {
    let source = open(&from.parse().unwrap(), &bench.options).await.unwrap();
    let source = std::sync::Arc::<dyn ImageSource>::from(source);
    let selection = Selection::Arch("amd64".into());
    let plan = CopyPlan::new(&*source, &selection).await.unwrap();
    let to = format!("oci-archive:{file}").parse().unwrap();
    let options = PushOptions::default();
    let destination = Destination::open(&to, &options).await.unwrap();
    let progress = bench.options.progress.clone();
    copy::carry_out(&plan, &source, &destination, 1, &progress)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_archive_is_used_with_its_digest_only() {
    let scene = Scene::new(oci_archive).await;
    assert_eq!(scene.read().await.unwrap(), scene.manifest);
    let error = scene.open(&Digest::of(b"other")).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    scene.bench.registry.fault("web", Fault::FlipAt(700));
    let error = scene.read().await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on() {
    let scene = Scene::new(oci_archive).await;
    let registry = &scene.bench.registry;
    for fault in [
        Fault::CutAfter(1000),
        Fault::Status(503, String::new()),
        Fault::Close,
    ] {
        registry.fault_times("web", fault, 1);
    }
    scene.bench.registry.clear_requests();
    let mut options = scene.bench.options.clone();
    options.retries = 5;
    let file = tempfile::tempfile().unwrap();
    let sha256 = Digest::of(&scene.archive);
    open_url(&scene.url, &sha256, file, &options).await.unwrap();
    let requests = registry.requests();
    let ranges: Vec<_> = requests.iter().map(|r| r.header("range")).collect();
    assert_eq!(ranges.first(), Some(&None));
    assert_eq!(ranges.last(), Some(&Some("bytes=1000-")));

    registry.clear_faults();
    registry.fault_times("web", Fault::CutAfter(1000), 1);
    registry.fault("web", Fault::NoRange);
    assert_eq!(scene.read().await.unwrap(), scene.manifest);

    registry.clear_faults();
    registry.fault_times("web", Fault::CutAfter(1000), 1);
    registry.fault("web", Fault::WrongRange(9));
    assert!(scene.read().await.is_err());
}

#[tokio::test]
async fn docker_archives_are_told_by_what_is_in_them() {
    if missing(&["skopeo"]) {
        return;
    }
    let docker = async |_: &Bench, from: &str, file: &str| {
        let to = format!("docker-archive:{file}:localhost/x:1");
        run("skopeo", &["--insecure-policy", "copy", from, &to]);
    };
    let scene = Scene::new(docker).await;
    assert_ne!(scene.read().await.unwrap(), scene.manifest);
}

#[tokio::test]
async fn only_https_and_this_machine_are_asked() {
    let bench = Bench::new();
    for url in [
        "http://example.com/image.tar",
        "ftp://127.0.0.1/image.tar",
        "https:",
        "no url",
    ] {
        let file = tempfile::tempfile().unwrap();
        let opened = open_url(url, &Digest::of(b""), file, &bench.options).await;
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{url}: {error}");
    }
}
