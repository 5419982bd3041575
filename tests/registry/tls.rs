//! TLS: a registry with a certificate of a CA of its own, with and without certs.d. Needs
//! `docker-registry`, `skopeo` and `openssl`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowline::progress::Silent;
use bowline::testing::Image;
use bowline::transport::push::Selection;
use bowline::transport::{Error, ImageSource, RegistrySource};
use serde_json::json;

use crate::bench::Bench;
use crate::daemon::{Daemon, image, missing, push, run};
use crate::docker_registry::{pull, source};
use crate::push::copied;

const PROGRAMS: [&str; 3] = ["docker-registry", "skopeo", "openssl"];

/// A CA and certificates that it signs, in one directory.
struct Authority(PathBuf);

impl Authority {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let authority = Self(dir.into());
        let (key, cert) = (authority.path("ca.key"), authority.path("ca.crt"));
        let subject = format!(
            "/CN=test CA of {}",
            dir.file_name().unwrap().to_str().unwrap()
        );
        let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", &subject];
        arguments.extend([
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]);
        arguments.extend(["-keyout", &key, "-out", &cert]);
        run("openssl", &arguments);
        authority
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }

    /// Makes `NAME.key` and `NAME.crt`, good for 127.0.0.1.
    fn sign(&self, name: &str) {
        let extra = self.path(&format!("{name}.ext"));
        std::fs::write(&extra, "subjectAltName=IP:127.0.0.1\n").unwrap();
        self.sign_with(name, &["-extfile", &extra]);
    }

    /// Makes `NAME.key` and `NAME.crt` with options of `openssl x509`. Without any, OpenSSL before 3.2
    /// makes a certificate of version 1.
    fn sign_with(&self, name: &str, more: &[&str]) {
        let path = |extension: &str| self.path(&format!("{name}.{extension}"));
        let (key, request, cert) = (path("key"), path("csr"), path("crt"));
        let mut arguments = vec![
            "req", "-subj", "/CN=test", "-keyout", &key, "-out", &request,
        ];
        arguments.extend([
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]);
        run("openssl", &arguments);
        let (ca, ca_key) = (self.path("ca.crt"), self.path("ca.key"));
        let mut arguments = vec!["x509", "-req", "-in", &request, "-out", &cert, "-days", "2"];
        arguments.extend(["-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"]);
        arguments.extend(more);
        run("openssl", &arguments);
    }

    /// Copies a file into the certificate directory of `daemon`.
    fn give(&self, bench: &Bench, daemon: &Daemon, file: &str, name: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        let dir = format!("etc/containers/certs.d/{}", daemon.host);
        bench.write(&format!("{dir}/{name}"), &text);
    }
}

/// A registry with a certificate, and an image that is to be pushed to it.
struct Scene {
    bench: Bench,
    layout: PathBuf,
    pushed: Image,
    authority: Authority,
    daemon: Daemon,
}

impl Scene {
    /// Starts the registry, where the programs for it are; with `wants_clients` it lets those in
    /// that show a certificate of the same authority.
    fn new(wants_clients: bool) -> Option<Self> {
        if missing(&PROGRAMS) {
            return None;
        }
        let bench = Bench::new();
        let layout = bench.root.path().join("layout");
        let pushed = image(&layout);
        let authority = Authority::new(&bench.root.path().join("pki"));
        authority.sign("server");
        let clients = wants_clients.then(|| authority.path("ca.crt"));
        let http = json!({"tls": {
            "certificate": authority.path("server.crt"),
            "key": authority.path("server.key"),
            "clientcas": Vec::from_iter(clients),
        }});
        let daemon = Daemon::start(bench.root.path(), http, json!({}));
        Some(Self {
            bench,
            layout,
            pushed,
            authority,
            daemon,
        })
    }
}

async fn failure(bench: &Bench, daemon: &Daemon) -> String {
    let error = source(bench, daemon).manifest(None).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    error.to_string().replace(&daemon.host, "HOST")
}

#[tokio::test]
async fn a_ca_of_its_own_is_trusted_through_certs_d_only() {
    let Some(scene) = Scene::new(false) else {
        return;
    };
    let Scene {
        bench,
        authority,
        daemon,
        ..
    } = &scene;
    push(&scene.layout, daemon, &["--dest-tls-verify=false"]);

    assert_eq!(
        failure(bench, daemon).await,
        "https://HOST/v2/ns/os/manifests/1: no TLS connection: invalid peer certificate: \
         UnknownIssuer; if its CA is to be trusted, put it into \
         /etc/containers/certs.d/HOST/ca.crt"
    );

    authority.give(bench, daemon, "ca.crt", "ca.crt");
    pull(bench, daemon, &scene.pushed).await;
    push_again(&scene).await;
}

/// Pushes the image under another name of the registry.
async fn push_again(scene: &Scene) {
    let from = format!("oci:{}:1", scene.layout.display());
    let to = format!("docker://{}/ns/again:1", scene.daemon.host);
    let selection = Selection::Arch("amd64".into());
    let done = copied(&scene.bench, (&from, &to), &selection, Arc::new(Silent)).await;
    assert_eq!(done.unwrap(), scene.pushed.digest());
}

#[tokio::test]
async fn insecure_takes_any_certificate() {
    let Some(scene) = Scene::new(false) else {
        return;
    };
    let (bench, daemon) = (&scene.bench, &scene.daemon);
    push(&scene.layout, daemon, &["--dest-tls-verify=false"]);
    let conf = format!(
        "[[registry]]\nlocation = '{}'\ninsecure = true",
        daemon.host
    );
    bench.write("etc/containers/registries.conf", &conf);
    pull(bench, daemon, &scene.pushed).await;
    push_again(&scene).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_there_is_one() {
    let Some(scene) = Scene::new(true) else {
        return;
    };
    let Scene {
        bench,
        authority,
        daemon,
        ..
    } = &scene;
    authority.give(bench, daemon, "ca.crt", "ca.crt");

    let text = failure(bench, daemon).await;
    let advice = "it may want a client certificate: put .cert and .key into \
                  /etc/containers/certs.d/HOST";
    assert!(text.ends_with(advice), "{text}");

    authority.sign("client");
    authority.give(bench, daemon, "client.crt", "client.cert");
    let name = format!("{}/ns/os:1", daemon.host).parse().unwrap();
    let error = RegistrySource::new(&name, &bench.options).unwrap_err();
    let text = error.to_string();
    let needs = "client.key beside it: a client certificate needs both";
    assert!(text.ends_with(needs), "{text}");

    authority.give(bench, daemon, "client.key", "client.key");
    let certs = bench.root.path().join("etc/containers/certs.d");
    let certs = certs.join(&daemon.host);
    push(
        &scene.layout,
        daemon,
        &[&format!("--dest-cert-dir={}", certs.display())],
    );
    pull(bench, daemon, &scene.pushed).await;
    push_again(&scene).await;

    // Of several the one that the registry can know is shown.
    let other = Authority::new(&bench.root.path().join("other"));
    other.sign("client");
    other.give(bench, daemon, "client.crt", "a.cert");
    other.give(bench, daemon, "client.key", "a.key");
    authority.sign_with("plain", &[]);
    authority.give(bench, daemon, "plain.crt", "client.cert");
    authority.give(bench, daemon, "plain.key", "client.key");
    pull(bench, daemon, &scene.pushed).await;
}
