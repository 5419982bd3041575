//! registries.conf at work: mirrors before the registry, other locations, blocked names.

use bowline::testing::registry::{Fault, TestRegistry};
use bowline::transport::{ImageSource, RegistrySource};

use crate::bench::{Bench, MANIFEST, OCI_MANIFEST, read};

/// The least that can be read as a manifest.
const READABLE: &str = r#"{"schemaVersion":2,
    "mediaType":"application/vnd.oci.image.manifest.v1+json",
    "config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,
    "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
    "layers":[]}"#;

/// A registry that `os.example/stable` stands for, with a mirror before it.
fn mirrored(extra: &str) -> (Bench, TestRegistry) {
    let bench = Bench::new();
    let mirror = TestRegistry::start();
    mirror.add_manifest("copy/os", "1", READABLE, OCI_MANIFEST);
    let conf = format!(
        "[[registry]]\nprefix = 'os.example/stable'\nlocation = '{}/ns'\n\
         [[registry.mirror]]\nlocation = '{}/copy'\n{extra}",
        bench.registry.host(),
        mirror.host()
    );
    bench.write("etc/containers/registries.conf", &conf);
    (bench, mirror)
}

fn source(bench: &Bench) -> RegistrySource {
    let name = "os.example/stable/os:1".parse().unwrap();
    RegistrySource::new(&name, &bench.options).unwrap()
}

#[tokio::test]
async fn the_mirror_is_asked_first_and_suffices() {
    let (bench, mirror) = mirrored("");
    let source = source(&bench);
    source.manifest(None).await.unwrap();
    assert_eq!(mirror.requests()[0].path, "/v2/copy/os/manifests/1");
    assert_eq!(bench.requests(), []);
    assert_eq!(source.place(), "docker://os.example/stable/os:1");
}

#[tokio::test]
async fn the_registry_steps_in_for_its_mirror() {
    for fault in [
        Fault::Status(500, String::new()),
        Fault::Status(404, String::new()),
        Fault::Status(401, String::new()),
        Fault::DigestHeader(format!("sha256:{}", "0".repeat(64))),
    ] {
        let (bench, mirror) = mirrored("");
        mirror.fault("/manifests/", fault.clone());
        let source = source(&bench);
        source.manifest(None).await.unwrap();
        let requests = bench.requests();
        assert_eq!(requests, [("GET /v2/ns/os/manifests/1".into(), 200)]);
        // Whoever gave the manifest is asked for the blobs.
        let asked = mirror.requests().len();
        let (bytes, blob) = bench.blob(10);
        assert_eq!(read(source.blob(&blob).await.unwrap()).await.0, bytes);
        assert_eq!(mirror.requests().len(), asked, "{fault:?}");
    }
}

#[tokio::test]
async fn a_blob_that_the_mirror_lacks_comes_from_the_registry() {
    let (bench, mirror) = mirrored("");
    let source = source(&bench);
    source.manifest(None).await.unwrap();
    let (bytes, blob) = bench.blob(10);
    assert_eq!(read(source.blob(&blob).await.unwrap()).await.0, bytes);
    assert_eq!(mirror.requests().len(), 2);
}

#[tokio::test]
async fn the_registry_goes_on_where_the_mirror_gave_up() {
    let (bench, mirror) = mirrored("");
    let source = source(&bench);
    source.manifest(None).await.unwrap();
    let (bytes, blob) = bench.blob(50_000);
    mirror.add_blob(bytes.clone());
    mirror.fault_times("/blobs/", Fault::CutAfter(20_000), 1);
    mirror.fault("/blobs/", Fault::Status(500, String::new()));
    let (found, error) = read(source.blob(&blob).await.unwrap()).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
    let requests = bench.registry.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("range"), Some("bytes=20000-"));
}

#[tokio::test]
async fn a_mirror_is_not_waited_for_long() {
    let (mut bench, mirror) = mirrored("");
    bench.options.retries = 9;
    mirror.fault("/manifests/", Fault::Status(500, String::new()));
    source(&bench).manifest(None).await.unwrap();
    assert_eq!(mirror.requests().len(), 2);
}

#[tokio::test]
async fn a_mirror_for_digests_is_not_asked_for_tags() {
    let (bench, mirror) = mirrored("pull-from-mirror = 'digest-only'");
    source(&bench).manifest(None).await.unwrap();
    assert!(mirror.requests().is_empty());
    assert_eq!(bench.requests().len(), 1);
}

#[tokio::test]
async fn the_error_is_that_of_the_registry() {
    let (bench, mirror) = mirrored("");
    mirror.fault("/manifests/", Fault::Status(403, String::new()));
    bench
        .registry
        .fault("/manifests/", Fault::Status(404, String::new()));
    let error = source(&bench).manifest(None).await.unwrap_err();
    let expected = "http://HOST/v2/ns/os/manifests/1 does not exist";
    assert_eq!(bench.text(&error), expected);
}

#[test]
fn a_blocked_name_is_not_asked_for() {
    let bench = Bench::new();
    let host = bench.registry.host();
    let conf = format!("[[registry]]\nlocation = '{host}'\nblocked = true");
    bench.write("etc/containers/registries.conf", &conf);
    let error = bench.try_source(":1").unwrap_err();
    let expected = "pulling HOST/ns/os:1 is blocked: registries.conf blocks HOST";
    assert_eq!(bench.text(&error), expected);
    assert_eq!(bench.requests(), []);
}

#[tokio::test]
async fn a_manifest_that_nobody_can_read_is_looked_for_elsewhere() {
    let (bench, mirror) = mirrored("");
    mirror.add_manifest("copy/os", "1", "<html>Welcome!</html>", "text/html");
    let found = source(&bench).manifest(None).await.unwrap();
    assert_eq!(found.bytes, MANIFEST);
}

#[tokio::test]
async fn a_mirror_that_hangs_costs_its_time_once() {
    let (mut bench, mirror) = mirrored("");
    bench.options.idle_timeout = std::time::Duration::from_millis(250);
    let source = source(&bench);
    source.manifest(None).await.unwrap();
    let (bytes, first) = bench.blob(50_000);
    let (more, second) = bench.blob(60_000);
    mirror.add_blob(bytes.clone());
    mirror.add_blob(more.clone());
    mirror.fault("/blobs/", Fault::StallAfter(20_000));
    let (found, error) = read(source.blob(&first).await.unwrap()).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
    let asked = mirror.requests().len();
    let (found, error) = read(source.blob(&second).await.unwrap()).await;
    assert!(found == more && error.is_none(), "{error:?}");
    assert_eq!(mirror.requests().len(), asked);
}

#[tokio::test]
async fn whoever_gave_wrong_bytes_is_not_asked_again() {
    let (bench, mirror) = mirrored("");
    let source = source(&bench);
    source.manifest(None).await.unwrap();
    let (bytes, blob) = bench.blob(10);
    assert!(!source.discredit(&blob.digest), "nobody was asked for it");
    mirror.add_blob(bytes.clone());
    mirror.fault("/blobs/", Fault::WrongBytes);
    assert_ne!(read(source.blob(&blob).await.unwrap()).await.0, bytes);
    assert!(source.discredit(&blob.digest));
    assert_eq!(read(source.blob(&blob).await.unwrap()).await.0, bytes);
    assert!(!source.discredit(&blob.digest), "there is nobody else");
}
