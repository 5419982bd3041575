//! A real registry that sends its clients to a token service, which is played here: it signs the
//! tokens that docker-registry checks (distribution, "Token Authentication Specification"). Needs
//! `docker-registry`, `skopeo` and `openssl`.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bowline::transport::{Error, ImageSource};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::daemon::{Daemon, image, missing, push, run};
use crate::docker_registry::{pull, source};

const USER: &str = "dummy:dummy-password";

/// A token service on a free port, for as long as the test runs.
struct TokenServer {
    realm: String,
    certificate: PathBuf,
    /// Scopes that tokens were given for.
    scopes: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    fn start(dir: &Path) -> Self {
        let (key, certificate) = (dir.join("token.key"), dir.join("token.crt"));
        let (key_path, certificate_path) = (key.to_str().unwrap(), certificate.to_str().unwrap());
        let subject = ["-subj", "/CN=token", "-days", "2"];
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes"];
        let files = ["-keyout", key_path, "-out", certificate_path];
        run("openssl", &[&new[..], &files, &subject].concat());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let scopes = Arc::new(Mutex::new(Vec::new()));
        let (seen, chain) = (scopes.clone(), certificate.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &key, &chain, &seen);
            }
        });
        Self {
            realm,
            certificate,
            scopes,
        }
    }

    fn access(&self) -> Value {
        json!({"auth": {"token": {
            "realm": self.realm,
            "service": "test",
            "issuer": "test issuer",
            "rootcertbundle": self.certificate,
        }}})
    }
}

/// Answers one request: a token for the one user, for what is asked for.
fn answer(mut stream: TcpStream, key: &Path, certificate: &Path, scopes: &Mutex<Vec<String>>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let lines: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect();
    let target = lines[0].split(' ').nth(1).unwrap();
    let url = reqwest::Url::parse(&format!("http://x{target}")).unwrap();
    let scope = url.query_pairs().find(|(name, _)| name == "scope");
    let scope = scope
        .map(|(_, scope)| scope.into_owned())
        .unwrap_or_default();
    let given = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    let (status, body) = match given == Some(&format!("Basic {}", STANDARD.encode(USER))) {
        true => (
            "200 OK",
            json!({"token": token(key, certificate, &scope), "expires_in": 300}),
        ),
        false => ("401 Unauthorized", json!({"details": "who are you?"})),
    };
    scopes.lock().unwrap().push(scope);
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
}

/// A JSON Web Token (RFC 7519) for a scope `repository:NAME:ACTIONS`.
fn token(key: &Path, certificate: &Path, scope: &str) -> String {
    let pem = std::fs::read_to_string(certificate).unwrap();
    let der: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let access: Vec<Value> = scope
        .split_once(':')
        .and_then(|(kind, rest)| {
            rest.rsplit_once(':')
                .map(|(name, actions)| (kind, name, actions))
        })
        .map(|(kind, name, actions)| {
            let actions: Vec<&str> = actions.split(',').collect();
            json!({"type": kind, "name": name, "actions": actions})
        })
        .into_iter()
        .collect();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let claims = json!({
        "iss": "test issuer", "sub": "dummy", "aud": "test", "jti": "1",
        "exp": now + 300, "nbf": now - 60, "iat": now - 60, "access": access,
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let signature = openssl.wait_with_output().unwrap().stdout;
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_token_service_opens_the_registry() {
    if missing(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let bench = Bench::new();
    let layout = bench.root.path().join("layout");
    let pushed = image(&layout);
    let server = TokenServer::start(bench.root.path());
    let daemon = Daemon::start(bench.root.path(), json!({}), server.access());
    let credentials = format!("--dest-creds={USER}");
    push(&layout, &daemon, &["--dest-tls-verify=false", &credentials]);

    let error = source(&bench, &daemon).manifest(None).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");

    server.scopes.lock().unwrap().clear();
    let auth = STANDARD.encode(USER);
    let text = json!({"auths": {&daemon.host: {"auth": auth}}});
    bench.write("run/containers/0/auth.json", &text.to_string());
    pull(&bench, &daemon, &pushed).await;
    // One token for the manifest, the config and the layers.
    assert_eq!(*server.scopes.lock().unwrap(), ["repository:ns/os:pull"]);
}
