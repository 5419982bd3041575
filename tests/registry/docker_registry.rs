//! A real registry: what skopeo pushes, we pull. Needs `docker-registry`, `skopeo` and, for
//! credentials, `htpasswd` (apache2-utils).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline::image::Digest;
use bowline::testing::Image;
use bowline::transport::{Error, ImageSource, RegistrySource, resolve};
use serde_json::json;

use crate::bench::{Bench, read};
use crate::daemon::{Daemon, image, missing, push, run};

/// Pulls everything of `ns/os:1` and compares it with what was pushed.
pub async fn pull(bench: &Bench, daemon: &Daemon, pushed: &Image) {
    let source = source(bench, daemon);
    let found = resolve(&source, "amd64").await.unwrap();
    assert_eq!(found.manifest.digest(), pushed.digest());
    let blobs = found.manifest.layers.iter().chain([&found.manifest.config]);
    for blob in blobs {
        let (bytes, error) = read(source.blob(blob).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(Digest::of(&bytes), blob.digest);
    }
}

pub fn source(bench: &Bench, daemon: &Daemon) -> RegistrySource {
    let name = format!("{}/ns/os:1", daemon.host).parse().unwrap();
    RegistrySource::new(&name, &bench.options).unwrap()
}

#[tokio::test]
async fn what_skopeo_pushes_we_pull() {
    if missing(&["docker-registry", "skopeo"]) {
        return;
    }
    let bench = Bench::new();
    let layout = bench.root.path().join("layout");
    let pushed = image(&layout);
    let daemon = Daemon::start(bench.root.path(), json!({}), json!({}));
    push(&layout, &daemon, &["--dest-tls-verify=false"]);
    pull(&bench, &daemon, &pushed).await;

    let name = format!("{}/ns/os:2", daemon.host).parse().unwrap();
    let source = RegistrySource::new(&name, &bench.options).unwrap();
    let error = source.manifest(None).await.unwrap_err();
    assert_eq!(
        error.to_string().replace(&daemon.host, "HOST"),
        "http://HOST/v2/ns/os/manifests/2 (the registry says: manifest unknown) does not exist"
    );
}

#[tokio::test]
async fn credentials_open_the_registry() {
    if missing(&["docker-registry", "skopeo", "htpasswd"]) {
        return;
    }
    let bench = Bench::new();
    let users = bench.root.path().join("htpasswd");
    let users_path = users.to_str().unwrap();
    run("htpasswd", &["-cbB", users_path, "dummy", "dummy-password"]);
    let layout = bench.root.path().join("layout");
    let pushed = image(&layout);
    let access = json!({"auth": {"htpasswd": {"realm": "test", "path": users}}});
    let daemon = Daemon::start(bench.root.path(), json!({}), access);
    let options = [
        "--dest-tls-verify=false",
        "--dest-creds=dummy:dummy-password",
    ];
    push(&layout, &daemon, &options);

    let error = source(&bench, &daemon).manifest(None).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");

    let auth = STANDARD.encode("dummy:dummy-password");
    let text = json!({"auths": {&daemon.host: {"auth": auth}}});
    bench.write("run/containers/0/auth.json", &text.to_string());
    pull(&bench, &daemon, &pushed).await;
}
