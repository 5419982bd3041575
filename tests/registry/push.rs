//! Pushing to a real registry: what we write, skopeo reads, with and without credentials and TLS.
//! Needs `docker-registry`, `skopeo` and, for credentials, `htpasswd`.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline::image::{Digest, RegistryName};
use bowline::progress::{Event, ProgressSink, Silent};
use bowline::testing::Image;
use bowline::transport::push::{CopyPlan, Destination, PushOptions, Selection, copy};
use bowline::transport::{Error, ImageSource, open};
use bytes::Bytes;
use serde_json::json;

use crate::bench::{Bench, Recorder};
use crate::daemon::{Daemon, image, missing, run};

/// Copies between any two names.
pub async fn copied(
    bench: &Bench,
    (from, to): (&str, &str),
    selection: &Selection,
    progress: Arc<dyn ProgressSink>,
) -> Result<Digest, Error> {
    let source = open(&from.parse().unwrap(), &bench.options).await?;
    let source: Arc<dyn ImageSource> = source.into();
    let plan = CopyPlan::new(&*source, selection).await?;
    let destination = Destination::open(&to.parse().unwrap(), &options(bench, &[])).await?;
    copy::carry_out(&plan, &source, &destination, 2, &progress).await?;
    Ok(plan.digest().unwrap())
}

fn options(bench: &Bench, mount_from: &[&str]) -> PushOptions {
    let name = |name: &&str| name.parse::<RegistryName>().unwrap();
    PushOptions {
        source: bench.options.clone(),
        mount_from: mount_from.iter().map(name).collect(),
    }
}

fn amd64() -> Selection {
    Selection::Arch("amd64".into())
}

/// Has skopeo fetch `name` into a layout and compares the manifest byte for byte.
fn skopeo_reads(name: &str, dir: &Path, digest: &Digest, options: &[&str]) {
    let to = format!("oci:{}:read", dir.display());
    let mut arguments = vec!["--insecure-policy", "copy", "--preserve-digests", "--all"];
    arguments.extend(options);
    arguments.extend([name, &to]);
    run("skopeo", &arguments);
    assert!(dir.join("blobs/sha256").join(digest.hex()).exists());
}

struct Scene {
    bench: Bench,
    image: Image,
    /// `oci:PATH:1`
    layout: String,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new();
        let path = bench.root.path().join("layout");
        let image = image(&path);
        Self {
            layout: format!("oci:{}:1", path.display()),
            image,
            bench,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.bench.root.path().join(name)
    }
}

#[tokio::test]
async fn what_we_push_skopeo_reads() {
    if missing(&["docker-registry", "skopeo"]) {
        return;
    }
    let scene = Scene::new();
    let daemon = Daemon::start(scene.bench.root.path(), json!({}), json!({}));
    let to = format!("docker://{}/ns/pushed:1", daemon.host);
    let events = Arc::new(Recorder::default());
    let digest = copied(&scene.bench, (&scene.layout, &to), &amd64(), events.clone()).await;
    assert_eq!(digest.unwrap(), scene.image.digest());
    let tls = "--src-tls-verify=false";
    skopeo_reads(&to, &scene.path("read"), &scene.image.digest(), &[tls]);
    assert_eq!(planned(&events), (3, 3));

    // Nothing is sent twice, and a name can be given again.
    let events = Arc::new(Recorder::default());
    let again = copied(&scene.bench, (&scene.layout, &to), &amd64(), events.clone()).await;
    assert_eq!(again.unwrap(), scene.image.digest());
    assert_eq!(planned(&events), (3, 0));
}

/// Blobs of the image, and those that had to be sent.
fn planned(events: &Recorder) -> (usize, usize) {
    let planned = events.all().into_iter().find_map(|event| match event {
        Event::Planned {
            layers,
            layers_to_fetch,
            ..
        } => Some((layers, layers_to_fetch)),
        _ => None,
    });
    planned.unwrap()
}

#[tokio::test]
async fn blobs_are_taken_over_from_another_repository() {
    if missing(&["docker-registry", "skopeo"]) {
        return;
    }
    let scene = Scene::new();
    let daemon = Daemon::start(scene.bench.root.path(), json!({}), json!({}));
    let first = format!("docker://{}/ns/first:1", daemon.host);
    let pair = (&*scene.layout, &*first);
    copied(&scene.bench, pair, &amd64(), Arc::new(Silent))
        .await
        .unwrap();
    let second = format!("docker://{}/ns/second:1", daemon.host);
    let other = format!("{}/ns/first", daemon.host);
    let (digest, bytes) = scene.image.blobs.iter().next().unwrap();
    for (from, there) in [(vec![], false), (vec![other.as_str(), "quay.io/x/y"], true)] {
        let to = second.parse().unwrap();
        let destination = Destination::open(&to, &options(&scene.bench, &from))
            .await
            .unwrap();
        let size = bytes.len() as u64;
        assert_eq!(destination.has_blob(digest, size).await.unwrap(), there);
    }
}

#[tokio::test]
async fn a_blob_that_is_another_one_is_not_stored() {
    if missing(&["docker-registry"]) {
        return;
    }
    let scene = Scene::new();
    let daemon = Daemon::start(scene.bench.root.path(), json!({}), json!({}));
    let to = format!("docker://{}/ns/os:1", daemon.host).parse().unwrap();
    let destination = Destination::open(&to, &options(&scene.bench, &[]))
        .await
        .unwrap();
    let (right, wrong) = (Digest::of(b"right"), Bytes::from_static(b"wrong"));
    let error = destination.put_blob(&right, 5, &wrong).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let short = Bytes::from_static(b"rig");
    let error = destination.put_blob(&right, 5, &short).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(!destination.has_blob(&right, 5).await.unwrap());
    let bytes = Bytes::from_static(b"right");
    destination.put_blob(&right, 5, &bytes).await.unwrap();
    assert!(destination.has_blob(&right, 5).await.unwrap());
    let empty = Digest::of(b"");
    destination
        .put_blob(&empty, 0, &Bytes::new())
        .await
        .unwrap();
    assert!(destination.has_blob(&empty, 0).await.unwrap());
}

#[tokio::test]
async fn a_name_with_a_digest_takes_that_image_only() {
    if missing(&["docker-registry"]) {
        return;
    }
    let scene = Scene::new();
    let daemon = Daemon::start(scene.bench.root.path(), json!({}), json!({}));
    let name = |digest: &Digest| format!("docker://{}/ns/os@{digest}", daemon.host);
    let to = name(&scene.image.digest());
    let pair = (&*scene.layout, &*to);
    let done = copied(&scene.bench, pair, &amd64(), Arc::new(Silent)).await;
    assert_eq!(done.unwrap(), scene.image.digest());
    let to = name(&Digest::of(b"other"));
    let pair = (&*scene.layout, &*to);
    let error = copied(&scene.bench, pair, &amd64(), Arc::new(Silent))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[tokio::test]
async fn pushing_needs_credentials_where_the_registry_does() {
    if missing(&["docker-registry", "skopeo", "htpasswd"]) {
        return;
    }
    let scene = Scene::new();
    let users = scene.path("htpasswd");
    let users_path = users.to_str().unwrap();
    run("htpasswd", &["-cbB", users_path, "dummy", "dummy-password"]);
    let access = json!({"auth": {"htpasswd": {"realm": "test", "path": users}}});
    let daemon = Daemon::start(scene.bench.root.path(), json!({}), access);
    let to = format!("docker://{}/ns/os:1", daemon.host);
    let pair = (&*scene.layout, &*to);
    let error = copied(&scene.bench, pair, &amd64(), Arc::new(Silent))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");

    let auth = STANDARD.encode("dummy:dummy-password");
    let text = json!({"auths": {&daemon.host: {"auth": auth}}});
    scene
        .bench
        .write("run/containers/0/auth.json", &text.to_string());
    copied(&scene.bench, pair, &amd64(), Arc::new(Silent))
        .await
        .unwrap();
    let options = ["--src-tls-verify=false", "--src-creds=dummy:dummy-password"];
    skopeo_reads(&to, &scene.path("read"), &scene.image.digest(), &options);
}

/// Stands between a client and a registry, and closes the first `cuts` connections that have carried
/// `after` bytes to the registry.
struct Proxy {
    host: String,
    left: Arc<std::sync::atomic::AtomicUsize>,
}

impl Proxy {
    fn start(registry: &str, cuts: usize, after: usize) -> Self {
        use std::sync::atomic::AtomicUsize;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let left = Arc::new(AtomicUsize::new(cuts));
        let (registry, counter) = (registry.to_owned(), left.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (registry, counter) = (registry.clone(), counter.clone());
                std::thread::spawn(move || connect(client, &registry, after, &counter));
            }
        });
        Self { host, left }
    }
}

fn connect(
    mut client: std::net::TcpStream,
    registry: &str,
    after: usize,
    left: &std::sync::atomic::AtomicUsize,
) {
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::Ordering;
    let mut server = std::net::TcpStream::connect(registry).unwrap();
    let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut back, &mut to));
    let mut carried = 0;
    let mut buffer = [0; 8 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        carried += count;
        let cut = |n: usize| n.checked_sub(1);
        let order = Ordering::SeqCst;
        if carried > after && left.fetch_update(order, order, cut).is_ok() {
            break;
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Both may be closed already.
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}

#[tokio::test]
async fn an_upload_that_breaks_off_begins_again() {
    if missing(&["docker-registry"]) {
        return;
    }
    let bench = Bench::new();
    let daemon = Daemon::start(bench.root.path(), json!({}), json!({}));
    let blob: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let file = bench.root.path().join("blob");
    std::fs::write(&file, &blob).unwrap();
    let digest = Digest::of(&blob);
    for (cuts, succeeds) in [(2, true), (100, false)] {
        let proxy = Proxy::start(&daemon.host, cuts, 1_000_000);
        let to = format!("docker://{}/ns/cut{cuts}:1", proxy.host);
        let to = to.parse().unwrap();
        let destination = Destination::open(&to, &options(&bench, &[])).await.unwrap();
        let size = blob.len() as u64;
        let result = destination.put_blob(&digest, size, &file).await;
        assert_eq!(result.is_ok(), succeeds, "{result:?}");
        let temporary = |e: &Error| matches!(e, Error::Temporary { .. });
        assert!(result.as_ref().err().is_none_or(temporary), "{result:?}");
        // One try and two more.
        let cut = cuts - proxy.left.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(cut, if succeeds { 2 } else { 3 });
        assert_eq!(destination.has_blob(&digest, size).await.unwrap(), succeeds);
    }
}
