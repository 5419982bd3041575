//! Credentials: when they are sent, to whom, and what is said where they do not suffice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline::image::Digest;
use bowline::testing::registry::{Access, BearerRules, Fault, TestRegistry};
use bowline::transport::{Error, ImageSource, SourceOptions};

use crate::bench::{Bench, MANIFEST, OCI_MANIFEST, read};

const USER: &str = "dummy-user";
const PASSWORD: &str = "dummy-password";

fn auth_entry(bench: &Bench, entry: &serde_json::Value) {
    let text = serde_json::json!({"auths": {bench.registry.host(): entry}});
    bench.write("etc/ostree/auth.json", &text.to_string());
}

fn log_in(bench: &Bench, password: &str) {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    auth_entry(bench, &serde_json::json!({ "auth": auth }));
}

fn basic() -> Access {
    Access::Basic {
        user: USER.into(),
        password: PASSWORD.into(),
    }
}

fn bearer(rules: BearerRules) -> Access {
    Access::Bearer(rules)
}

fn with_credentials() -> BearerRules {
    BearerRules {
        credentials: Some((USER.into(), PASSWORD.into())),
        ..BearerRules::default()
    }
}

/// Method, kind of path, scheme of the authorization and status of each request.
fn trace(bench: &Bench) -> Vec<String> {
    let requests = bench.registry.requests().into_iter();
    requests
        .map(|r| {
            let kinds = ["token", "manifests", "blobs"];
            let kind = kinds.into_iter().find(|kind| r.path.contains(kind));
            let auth = r.header("authorization").unwrap_or("-");
            let scheme = auth.split(' ').next().unwrap_or_default();
            let kind = kind.unwrap_or("other");
            format!("{} {kind} {scheme} {}", r.method, r.status)
        })
        .collect()
}

#[tokio::test]
async fn basic_credentials_are_sent_when_asked_for() {
    let bench = Bench::new();
    bench.registry.require(basic());
    log_in(&bench, PASSWORD);
    let source = bench.source(":1");
    source.manifest(None).await.unwrap();
    source.manifest(None).await.unwrap();
    assert_eq!(
        trace(&bench),
        [
            "GET manifests - 401",
            "GET manifests Basic 200",
            "GET manifests Basic 200"
        ]
    );
}

#[tokio::test]
async fn an_anonymous_registry_never_sees_credentials() {
    let bench = Bench::new();
    log_in(&bench, PASSWORD);
    bench.source(":1").manifest(None).await.unwrap();
    assert_eq!(trace(&bench), ["GET manifests - 200"]);
}

#[tokio::test]
async fn wrong_credentials_are_not_tried_twice() {
    let bench = Bench::new();
    bench.registry.require(basic());
    log_in(&bench, "wrong-password");
    let source = bench.source(":1");
    let error = source.manifest(None).await.unwrap_err();
    assert_eq!(
        bench.text(&error),
        "access to http://HOST/v2/ns/os/manifests/1 is denied (HTTP status 401 Unauthorized; the \
         registry says: authentication required; credentials from ROOT/etc/ostree/auth.json were \
         used)"
    );
    let expected = ["GET manifests - 401", "GET manifests Basic 401"];
    assert_eq!(trace(&bench), expected);
    let shown = format!("{error:?} {source:?}");
    assert!(!shown.contains("wrong-password"), "{shown}");
    assert!(!shown.contains(&STANDARD.encode("dummy-user:wrong-password")));
}

#[tokio::test]
async fn missing_credentials_are_named() {
    let bench = Bench::new();
    bench.registry.require(basic());
    let error = bench.source(":1").manifest(None).await.unwrap_err();
    assert_eq!(
        bench.text(&error),
        "access to http://HOST/v2/ns/os/manifests/1 is denied (HTTP status 401 Unauthorized; the \
         registry says: authentication required; no credentials were found for HOST/ns/os: log in \
         (podman login HOST) or name a credentials file with --authfile)"
    );
    assert_eq!(trace(&bench), ["GET manifests - 401"]);
}

#[tokio::test]
async fn anybody_may_get_a_token_and_one_is_enough() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules::default()));
    let (bytes, blob) = bench.blob(10);
    let source = bench.source(":1");
    source.manifest(None).await.unwrap();
    assert_eq!(read(source.blob(&blob).await.unwrap()).await.0, bytes);
    assert_eq!(
        trace(&bench),
        [
            "GET manifests - 401",
            "GET token - 200",
            "GET manifests Bearer 200",
            "GET blobs Bearer 200"
        ]
    );
    let query = "/token?service=test&scope=repository%3Ans%2Fos%3Apull";
    assert_eq!(bench.registry.requests()[1].path, query);
}

#[tokio::test]
async fn tokens_are_fetched_with_credentials() {
    for oauth_member in [false, true] {
        let bench = Bench::new();
        bench.registry.require(bearer(BearerRules {
            oauth_member,
            ..with_credentials()
        }));
        log_in(&bench, PASSWORD);
        bench.source(":1").manifest(None).await.unwrap();
        assert_eq!(
            trace(&bench),
            [
                "GET manifests - 401",
                "GET token Basic 200",
                "GET manifests Bearer 200"
            ]
        );
        let query = &bench.registry.requests()[1].path;
        assert!(query.ends_with("&account=dummy-user"), "{query}");
    }
}

#[tokio::test]
async fn a_token_that_is_denied_names_the_service_and_the_file() {
    let bench = Bench::new();
    bench.registry.require(bearer(with_credentials()));
    log_in(&bench, "wrong-password");
    let error = bench.source(":1").manifest(None).await.unwrap_err();
    assert_eq!(
        bench.text(&error),
        "access to http://HOST/token is denied (HTTP status 401 Unauthorized; the registry says: \
         {\"details\":\"incorrect username or password\"}; credentials from \
         ROOT/etc/ostree/auth.json were used)"
    );
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules {
        identity_token: Some("dummy-refresh".into()),
        ..BearerRules::default()
    }));
    let entry =
        serde_json::json!({"auth": STANDARD.encode("00000000:"), "identitytoken": "dummy-refresh"});
    auth_entry(&bench, &entry);
    bench.source(":1").manifest(None).await.unwrap();
    let expected = [
        "GET manifests - 401",
        "POST token - 200",
        "GET manifests Bearer 200",
    ];
    assert_eq!(trace(&bench), expected);
    assert_eq!(
        bench.registry.requests()[1].body,
        "service=test&scope=repository%3Ans%2Fos%3Apull&grant_type=refresh_token&client_id=bowline\
         &refresh_token=dummy-refresh"
    );
}

#[tokio::test]
async fn a_token_that_the_registry_no_longer_takes_is_renewed() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules {
        uses: Some(1),
        ..BearerRules::default()
    }));
    let source = bench.source(":1");
    source.manifest(None).await.unwrap();
    bench.registry.clear_requests();
    source.manifest(None).await.unwrap();
    assert_eq!(
        trace(&bench),
        [
            "GET manifests Bearer 401",
            "GET token - 200",
            "GET manifests Bearer 200"
        ]
    );
}

#[tokio::test]
async fn a_token_that_has_run_out_is_renewed_beforehand() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules {
        expires_in: Some(0),
        ..BearerRules::default()
    }));
    let source = bench.source(":1");
    source.manifest(None).await.unwrap();
    bench.registry.clear_requests();
    source.manifest(None).await.unwrap();
    let expected = ["GET token - 200", "GET manifests Bearer 200"];
    assert_eq!(trace(&bench), expected);
}

#[tokio::test]
async fn a_transfer_outlives_its_token() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules {
        uses: Some(1),
        ..BearerRules::default()
    }));
    let (bytes, blob) = bench.blob(50_000);
    bench.registry.fault("/blobs/", Fault::CutAfter(20_000));
    let blob = bench.source(":1").blob(&blob).await.unwrap();
    let (found, error) = read(blob).await;
    assert!(found == bytes && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn requests_at_once_share_a_token() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules::default()));
    let source = bench.source(":1");
    let requests = (0..8).map(|_| source.manifest(None));
    for found in futures_util::future::join_all(requests).await {
        assert_eq!(found.unwrap().bytes, MANIFEST);
    }
    let tokens = trace(&bench).into_iter().filter(|r| r.contains("token"));
    assert_eq!(tokens.count(), 1);
}

#[tokio::test]
async fn a_token_service_that_fails_is_like_a_registry_that_fails() {
    let table = [
        (
            Fault::Endless(b"    ".repeat(1000)),
            "http://HOST/token: the token service's answer is too long",
        ),
        (
            Fault::Shorten(5),
            "http://HOST/token: the token service's answer is not JSON of a token",
        ),
        (
            Fault::Status(200, "{}".into()),
            "http://HOST/token: the token service's answer has no token",
        ),
        (
            Fault::Status(200, r#"{"token":"a\nb"}"#.into()),
            "http://HOST/token: the token service's token cannot be sent",
        ),
        (
            Fault::Hang,
            "http://HOST/token: nothing came for 250ms (gave up after 3 attempts)",
        ),
        (
            Fault::Status(503, String::new()),
            "http://HOST/token: HTTP status 503 Service Unavailable (gave up after 3 attempts)",
        ),
    ];
    for (fault, expected) in table {
        let bench = Bench::impatient();
        bench.registry.require(bearer(BearerRules::default()));
        bench.registry.fault("/token", fault.clone());
        let error = bench.source(":1").manifest(None).await.unwrap_err();
        assert_eq!(bench.text(&error), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn a_token_service_may_stumble() {
    let bench = Bench::new();
    bench.registry.require(bearer(BearerRules::default()));
    let fault = Fault::Status(500, String::new());
    bench.registry.fault_times("/token", fault, 2);
    bench.source(":1").manifest(None).await.unwrap();
}

#[tokio::test]
async fn credentials_stay_with_the_host_that_asked() {
    let bench = Bench::new();
    bench.registry.require(basic());
    log_in(&bench, PASSWORD);
    let other = TestRegistry::start();
    other.add_manifest("ns/os", "1", MANIFEST, OCI_MANIFEST);
    let source = bench.source(":1");
    source.manifest(None).await.unwrap();
    let to = format!("http://{}/v2/ns/os/manifests/1", other.host());
    bench.registry.fault("/manifests/", Fault::Redirect(to));
    source.manifest(None).await.unwrap();
    let last = bench.registry.requests().pop().unwrap();
    assert!(last.header("authorization").is_some());
    let [request] = &other.requests()[..] else {
        panic!("one request was redirected");
    };
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn a_host_that_was_redirected_to_gets_no_answer_to_its_challenge() {
    let bench = Bench::new();
    log_in(&bench, PASSWORD);
    let other = TestRegistry::start();
    other.require(basic());
    let to = format!("http://{}/v2/ns/os/manifests/1", other.host());
    bench.registry.fault("/manifests/", Fault::Redirect(to));
    let error = bench.source(":1").manifest(None).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(other.requests().len(), 1);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn what_cannot_be_used_is_said_before_anything_is_asked() {
    let bench = Bench::new();
    bench.write("etc/ostree/auth.json", "junk");
    let error = bench.try_source(":1").unwrap_err();
    assert_eq!(
        bench.text(&error),
        "credentials file ROOT/etc/ostree/auth.json: it is not JSON of that format (line 1, \
         column 1)"
    );
    assert!(bench.registry.requests().is_empty());
}

#[tokio::test]
async fn a_helper_is_asked_once_and_only_where_it_is_needed() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let log = bench.root.path().join("asked");
    let helper = "usr/libexec/podman/docker-credential-vault";
    let answer = format!(r#"{{"Username":"{USER}","Secret":"{PASSWORD}"}}"#);
    let script = format!("#!/bin/sh\ncat >>{}\necho '{answer}'\n", log.display());
    bench.write(helper, &script);
    let program = bench.root.path().join(helper);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let conf = "credential-helpers = ['containers-auth.json', 'vault']";
    bench.write("etc/containers/registries.conf", conf);

    bench.source(":1").manifest(None).await.unwrap();
    assert!(!log.exists());
    bench.registry.require(bearer(with_credentials()));
    let source = bench.source(":1");
    for _ in 0..3 {
        source.manifest(None).await.unwrap();
    }
    let host = bench.registry.host();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("{host}\n"));
}

#[tokio::test]
async fn a_helper_that_is_needed_and_not_there_is_an_error() {
    let bench = Bench::new();
    let helpers = serde_json::json!({"credHelpers": {bench.registry.host(): "ecr-login"}});
    bench.write("etc/ostree/auth.json", &helpers.to_string());
    bench.source(":1").manifest(None).await.unwrap();
    bench.registry.require(basic());
    let error = bench.source(":1").manifest(None).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert_eq!(
        bench.text(&error),
        "the credential helper docker-credential-ecr-login, which ROOT/etc/ostree/auth.json names \
         for HOST: it is not installed: install it, or name a credentials file with --authfile"
    );
}

#[tokio::test]
async fn the_authfile_goes_before_all_others() {
    let bench = Bench::new();
    bench.registry.require(basic());
    log_in(&bench, "wrong-password");
    let host = bench.registry.host();
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let text = serde_json::json!({"auths": {format!("{host}/ns"): {"auth": auth}}});
    bench.write("mine.json", &text.to_string());
    let options = SourceOptions {
        authfile: Some(bench.root.path().join("mine.json")),
        ..bench.options.clone()
    };
    let name = format!("{host}/ns/os@{}", Digest::of(MANIFEST));
    let source = bowline::transport::RegistrySource::new(&name.parse().unwrap(), &options);
    source.unwrap().manifest(None).await.unwrap();
}
