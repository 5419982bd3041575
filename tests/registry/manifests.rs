//! Manifests: what is asked, what is checked, and what every failure becomes.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bowline::image::Digest;
use bowline::testing::registry::Fault;
use bowline::transport::{Error, ImageSource, RegistrySource};

use crate::bench::{Bench, LONGEST_PAUSE, MANIFEST, OCI_MANIFEST};

const PATH: &str = "/manifests/";

async fn failure(bench: &Bench) -> Error {
    bench.source(":1").manifest(None).await.unwrap_err()
}

/// Whether nothing but time can be expected to help.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::NotFound { .. } => "not found",
        Error::Denied { .. } => "denied",
        Error::Temporary { .. } => "temporary",
        Error::Refused { .. } => "refused",
        Error::Mismatch { .. } => "mismatch",
        _ => "other",
    }
}

#[tokio::test]
async fn a_manifest_costs_one_request() {
    let bench = Bench::new();
    let found = bench.source(":1").manifest(None).await.unwrap();
    assert_eq!(found.bytes, MANIFEST);
    assert_eq!(found.media_type.as_deref(), Some(OCI_MANIFEST));
    let [request] = &bench.registry.requests()[..] else {
        panic!("more than one request");
    };
    assert_eq!(request.path, "/v2/ns/os/manifests/1");
    assert_eq!(request.header("authorization"), None);
    let agent = format!("bowline/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(request.header("user-agent"), Some(&*agent));
    let accept: Vec<_> = request.header("accept").unwrap().split(", ").collect();
    assert_eq!(
        accept,
        [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ]
    );
}

#[tokio::test]
async fn digests_are_asked_for_and_checked() {
    let bench = Bench::new();
    let digest = Digest::of(MANIFEST);
    let by_name = bench.source(&format!("@{digest}"));
    by_name.manifest(None).await.unwrap();
    bench.source(":1").manifest(Some(&digest)).await.unwrap();
    let path = format!("GET /v2/ns/os/manifests/{digest}");
    assert_eq!(bench.requests(), [(path.clone(), 200), (path, 200)]);
    bench.registry.fault(PATH, Fault::WrongBytes);
    let error = by_name.manifest(None).await.unwrap_err();
    let found = Digest::of(&[&MANIFEST[..18], b"|"].concat());
    assert_eq!(
        bench.text(&error),
        format!(
            "http://HOST/v2/ns/os/manifests/{digest} is corrupt: expected {digest}, got {found}"
        )
    );
}

#[tokio::test]
async fn the_digest_header_is_checked() {
    let bench = Bench::new();
    let other = Digest::of(b"other").to_string();
    bench
        .registry
        .fault_times(PATH, Fault::DigestHeader(other), 1);
    assert_eq!(kind(&failure(&bench).await), "mismatch");
    let unknown = Fault::DigestHeader("sha512:00".into());
    bench.registry.fault(PATH, unknown);
    assert!(bench.source(":1").manifest(None).await.is_ok());
}

#[tokio::test]
async fn statuses_become_errors_and_only_temporary_ones_are_retried() {
    let table = [
        (400, "refused", 1),
        (401, "denied", 1),
        (403, "denied", 1),
        (404, "not found", 1),
        (408, "temporary", 3),
        (410, "refused", 1),
        (429, "temporary", 3),
        (500, "temporary", 3),
        (502, "temporary", 3),
        (503, "temporary", 3),
        (504, "temporary", 3),
    ];
    for (status, expected, requests) in table {
        let bench = Bench::new();
        bench
            .registry
            .fault(PATH, Fault::Status(status, String::new()));
        assert_eq!(kind(&failure(&bench).await), expected, "{status}");
        assert_eq!(bench.requests().len(), requests, "{status}");
        assert_eq!(bench.events.pauses().len(), requests - 1, "{status}");
    }
}

#[tokio::test]
async fn errors_are_in_words_of_a_person() {
    let json = r#"{"errors":[{"code":"X","message":"no such\u001b thing"}]}"#.to_owned();
    let table = [
        (
            Fault::Status(404, json.clone()),
            "http://HOST/v2/ns/os/manifests/1 (the registry says: no such thing) does not exist",
        ),
        (
            Fault::Status(403, json),
            "access to http://HOST/v2/ns/os/manifests/1 is denied (HTTP status 403 Forbidden; the \
             registry says: no such thing; no credentials were found for HOST/ns/os: log in \
             (podman login HOST) or name a credentials file with --authfile)",
        ),
        (
            Fault::Status(500, "<html>".into()),
            "http://HOST/v2/ns/os/manifests/1: HTTP status 500 Internal Server Error (gave up \
             after 3 attempts)",
        ),
        (
            Fault::Hang,
            "http://HOST/v2/ns/os/manifests/1: nothing came for 250ms (gave up after 3 attempts)",
        ),
        (
            Fault::StallAfter(3),
            "http://HOST/v2/ns/os/manifests/1: nothing came for 250ms (gave up after 3 attempts)",
        ),
        (
            Fault::Close,
            "http://HOST/v2/ns/os/manifests/1: the connection broke: connection closed before \
             message completed (gave up after 3 attempts)",
        ),
        (
            Fault::Garbage,
            "http://HOST/v2/ns/os/manifests/1: the connection broke: invalid HTTP version parsed \
             (gave up after 3 attempts)",
        ),
        (
            Fault::CutAfter(3),
            "http://HOST/v2/ns/os/manifests/1: the connection broke: end of file before message \
             length reached (gave up after 3 attempts)",
        ),
        (
            Fault::Endless(vec![b' '; 9999]),
            "http://HOST/v2/ns/os/manifests/1: its manifest is larger than 4194304 bytes",
        ),
    ];
    for (fault, expected) in table {
        let bench = Bench::impatient();
        bench.registry.fault(PATH, fault.clone());
        assert_eq!(bench.text(&failure(&bench).await), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_temporary() {
    let mut bench = Bench::new();
    let host = bench.registry.host();
    let source = bench.source(":1");
    bench.registry = bowline::testing::registry::TestRegistry::start();
    let error = source.manifest(None).await.unwrap_err();
    assert_eq!(
        error.to_string().replace(&host, "HOST"),
        "http://HOST/v2/ns/os/manifests/1: cannot connect: Connection refused (os error 111) \
         (gave up after 3 attempts)"
    );
}

/// A port of which nobody takes connections any more: those that wait fill its queue.
async fn busy_port() -> (tokio::net::TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let wait = Duration::from_millis(100);
    let connections = (0..100).map_while(|_| TcpStream::connect_timeout(&address, wait).ok());
    let connections: Vec<_> = connections.collect();
    assert!(connections.len() < 100, "the queue never fills up");
    (listener, connections, address)
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_temporary() {
    let (_listener, _connections, address) = busy_port().await;
    let mut bench = Bench::new();
    bench.options.connect_timeout = Duration::from_millis(100);
    bench.options.retries = 1;
    let name = format!("{address}/ns/os:1").parse().unwrap();
    let source = RegistrySource::new(&name, &bench.options).unwrap();
    let error = source.manifest(None).await.unwrap_err();
    assert_eq!(
        error.to_string().replace(&address.to_string(), "HOST"),
        "http://HOST/v2/ns/os/manifests/1: the connection took too long (gave up after 2 attempts)"
    );
}

#[tokio::test]
async fn an_endless_error_body_is_not_read_to_its_end() {
    let bench = Bench::new();
    let faults = [
        Fault::Status(403, "x".repeat(100)),
        Fault::Endless(b"<".to_vec()),
    ];
    for fault in faults {
        bench.registry.fault(PATH, fault);
    }
    assert_eq!(kind(&failure(&bench).await), "denied");
}

#[tokio::test]
async fn passing_trouble_is_outlived() {
    let faults = [
        Fault::Status(503, String::new()),
        Fault::Hang,
        Fault::Close,
        Fault::CutAfter(5),
        Fault::StallAfter(5),
    ];
    for fault in faults {
        let bench = Bench::impatient();
        bench.registry.fault_times(PATH, fault.clone(), 2);
        let found = bench.source(":1").manifest(None).await;
        assert_eq!(found.unwrap().bytes, MANIFEST, "{fault:?}");
        assert_eq!(bench.events.pauses().len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_the_longest_pause() {
    let bench = Bench::new();
    let fault = Fault::RetryAfter(429, "3600".into());
    bench.registry.fault_times(PATH, fault, 1);
    bench.source(":1").manifest(None).await.unwrap();
    assert_eq!(bench.events.pauses(), [LONGEST_PAUSE]);
}

#[tokio::test]
async fn no_retries_means_none() {
    let mut bench = Bench::new();
    bench.options.retries = 0;
    bench
        .registry
        .fault(PATH, Fault::RetryAfter(429, "7".into()));
    let error = failure(&bench).await;
    let Error::Temporary { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    assert_eq!(bench.requests().len(), 1);
}

#[tokio::test]
async fn redirections_end_somewhere() {
    let bench = Bench::new();
    let round = format!("http://{}/v2/ns/os/manifests/1", bench.registry.host());
    bench.registry.fault(PATH, Fault::Redirect(round));
    let error = failure(&bench).await;
    assert_eq!(
        bench.text(&error),
        "http://HOST/v2/ns/os/manifests/1: the redirection is not followed: there are more than \
         10 of them"
    );
}
