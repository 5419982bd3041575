//! `sigstoreSigned` with certificates: authorities, signers and a transparency log of the test's own, made
//! by `openssl`, and certificates that `cosign` attaches.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::daemon::missing;
use crate::scene::{Scene, cosign_claim, dir_image, os, sigstore_file};
use crate::sigstore::{cosign, key_pair};

/// Settings of `openssl ca`, which alone makes certificates for any time.
const CA: &str = "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=certs\ndatabase=index\ndefault_md=sha256\npolicy=p\n\
    unique_subject=no\nrand_serial=yes\n[p]\ncommonName=supplied\n";
const AUTHORITY: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
const SIGNER: &str = "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n\
    subjectAltName=email:dev@example.org,DNS:build.example.org\n";
/// Fulcio's issuer of identities, as plain text and as a DER text.
const ISSUERS: [&str; 2] = [
    "1.3.6.1.4.1.57264.1.1=DER:68747470733A2F2F69642E6578616D706C65\n",
    "1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:https://id.example\n",
];
/// A time when certificates were valid that are so no more, and one when they were not yet.
const MIDNIGHT: i64 = 1_704_067_200;
const THEN: [&str; 2] = ["20240101000000Z", "20240101001000Z"];
const LONG: [&str; 2] = ["20230101000000Z", "20990101000000Z"];

/// Keys, certificates and an image in a directory.
struct Bench {
    scene: Scene,
    /// The image as a user names it.
    image: String,
    payload: String,
}

impl Bench {
    fn new() -> Option<Self> {
        let scene = Scene::new(&["openssl"])?;
        scene.write("ca.conf", CA);
        fs::create_dir(scene.path("certs")).unwrap();
        fs::write(scene.path("index"), "").unwrap();
        let (image, digest) = dir_image(&scene, &os("1"));
        let payload = cosign_claim(&digest);
        scene.write("payload", &payload);
        Some(Self {
            scene,
            image,
            payload,
        })
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command
            .args(words.split(' '))
            .current_dir(self.scene.path("."));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {said}");
    }

    /// Makes `NAME.key` and `NAME.pub`.
    fn key(&self, name: &str) {
        self.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
        ));
        self.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
    }

    /// Makes `NAME.pem` for a new key, certified by `by` or by itself.
    fn certify(&self, name: &str, by: &str, [from, to]: [&str; 2], extensions: &str) {
        self.key(name);
        self.scene.write("extensions", extensions);
        self.openssl(&format!(
            "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
        ));
        let authority = match by == name {
            true => format!("-selfsign -keyfile {name}.key"),
            false => format!("-cert {by}.pem -keyfile {by}.key"),
        };
        self.openssl(&format!(
            "ca -batch -notext -config ca.conf -in {name}.csr -out {name}.pem \
             -startdate {from} -enddate {to} -extfile extensions {authority}"
        ));
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.scene.path(name)).unwrap()
    }

    fn sign(&self, key: &str, what: &str) -> String {
        let file = self.scene.write("to-sign", what);
        self.openssl(&format!("dgst -sha256 -sign {key}.key -out signed to-sign"));
        fs::remove_file(file).unwrap();
        BASE64_STANDARD.encode(fs::read(self.scene.path("signed")).unwrap())
    }

    /// The promise of the log `log` about a signature by the signer `signer`, seen at `time`.
    fn promise(&self, log: &str, signer: &str, signature: &str, time: i64) -> String {
        let hash = bowline::image::Digest::of(self.payload.as_bytes()).hex();
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hash}},
                "signature": {
                    "content": signature,
                    "publicKey": {"content": BASE64_STANDARD.encode(self.read(signer))},
                },
            },
        });
        let body = BASE64_STANDARD.encode(body.to_string());
        // The members are in their order already.
        let entry = json!({"body": body, "integratedTime": time, "logID": "ab", "logIndex": 7});
        let set = self.sign(log, &entry.to_string());
        json!({"SignedEntryTimestamp": set, "Payload": entry}).to_string()
    }

    /// Lays a signature by `NAME.key` with `NAME.pem` and more annotations beside the image.
    fn lay(&self, name: &str, more: &[(&str, String)]) {
        let signature = self.sign(name, &self.payload);
        let mut annotations = json!({
            "dev.cosignproject.cosign/signature": signature,
            "dev.sigstore.cosign/certificate": self.read(&format!("{name}.pem")),
        });
        for (key, value) in more {
            annotations[*key] = value.clone().into();
        }
        let file = sigstore_file(&self.payload, &annotations);
        fs::write(self.scene.path("image/signature-1"), file).unwrap();
    }

    /// The same with the promise of a log.
    fn lay_logged(&self, name: &str, log: &str, time: i64) {
        let signature = self.sign(name, &self.payload);
        let promise = self.promise(log, &format!("{name}.pem"), &signature, time);
        let mut annotations = json!({
            "dev.cosignproject.cosign/signature": signature,
            "dev.sigstore.cosign/certificate": self.read(&format!("{name}.pem")),
            "dev.sigstore.cosign/bundle": promise,
        });
        annotations["dev.sigstore.cosign/chain"] = self.read("fulcio.pem").into();
        let file = sigstore_file(&self.payload, &annotations);
        fs::write(self.scene.path("image/signature-1"), file).unwrap();
    }

    /// The policy, with one thing changed.
    fn policy(&self, mut rule: Value, change: Option<(&str, &str)>) {
        match change.map(|(key, value)| (key.split_once('/'), key, value)) {
            Some((Some((outer, inner)), _, value)) => rule[outer][inner] = value.into(),
            Some((None, key, value)) => rule[key] = value.into(),
            None => {}
        }
        rule["type"] = "sigstoreSigned".into();
        rule["signedIdentity"] =
            json!({"type": "exactReference", "dockerReference": "quay.io/a:1"});
        self.scene.policy(&json!([rule]));
    }

    fn path(&self, name: &str) -> String {
        self.scene.path(name).display().to_string()
    }

    fn accepted(&self) -> Value {
        self.scene
            .image(&["pull", &format!("ostree-image-signed:{}", self.image)]);
        self.scene.inspect(&self.image)["verified"][0].clone()
    }

    fn refused(&self, words: &str) {
        let image = format!("ostree-image-signed:{}", self.image);
        self.scene.refused(&image, words);
    }
}

#[test]
fn certificates_of_fulcio_count_for_the_time_when_the_log_saw_the_signature() {
    let Some(bench) = Bench::new() else { return };
    for authority in ["fulcio", "stranger"] {
        bench.certify(authority, authority, LONG, AUTHORITY);
    }
    for log in ["log", "other-log"] {
        bench.key(log);
    }
    let rule = json!({
        "fulcio": {
            "caPath": bench.path("fulcio.pem"),
            "oidcIssuer": "https://id.example",
            "subjectEmail": "dev@example.org",
        },
        "rekorPublicKeyPath": bench.path("log.pub"),
    });
    for (number, issuer) in ISSUERS.iter().enumerate() {
        let name = format!("dev{number}");
        bench.certify(&name, "fulcio", THEN, &format!("{SIGNER}{issuer}"));
        bench.lay_logged(&name, "log", MIDNIGHT + 60);
        bench.policy(rule.clone(), None);
        let by = bench.accepted();
        assert_eq!(by["kind"], "sigstore");
        let key = by["key"].as_str().unwrap();
        let words = "dev@example.org (by the word of https://id.example) (sha256:";
        assert!(key.starts_with(words), "{key}");
        assert_eq!(by["identity"], "quay.io/a:1");
    }
    for (change, words) in [
        (
            ("fulcio/subjectEmail", "Dev@example.org"),
            "the certificate is not for Dev@example.org but",
        ),
        (
            ("fulcio/oidcIssuer", "https://id.example/"),
            "is https://id.example's word, not https://id.example/'s",
        ),
        (
            ("fulcio/caPath", &*bench.path("stranger.pem")),
            "the certificate is not trusted",
        ),
        (
            ("rekorPublicKeyPath", &*bench.path("other-log.pub")),
            "promise is signed by none of its keys",
        ),
    ] {
        bench.policy(rule.clone(), Some(change));
        bench.refused(words);
    }
    bench.policy(rule, None);
    for time in [MIDNIGHT - 60, MIDNIGHT + 660] {
        bench.lay_logged("dev0", "log", time);
        bench.refused("the certificate is not trusted");
    }
    bench.lay("dev0", &[]);
    bench.refused("the signature has no annotation dev.sigstore.cosign/bundle");
    // The log saw a signature of something else.
    let other = bench.promise(
        "log",
        "dev0.pem",
        &BASE64_STANDARD.encode("x"),
        MIDNIGHT + 60,
    );
    bench.lay("dev0", &[("dev.sigstore.cosign/bundle", other)]);
    bench.refused("it is about another signature");
}

#[test]
fn certificates_of_an_authority_of_ones_own_count_now() {
    let Some(bench) = Bench::new() else { return };
    bench.certify("root", "root", LONG, AUTHORITY);
    bench.certify("stranger", "stranger", LONG, AUTHORITY);
    bench.certify("between", "root", LONG, AUTHORITY);
    bench.certify("dev", "between", LONG, SIGNER);
    bench.certify("old", "between", THEN, SIGNER);
    bench.certify(
        "server",
        "between",
        LONG,
        &SIGNER.replace("codeSigning", "serverAuth"),
    );
    let chain = || {
        [(
            "dev.sigstore.cosign/chain",
            bench.read("between.pem") + &bench.read("root.pem"),
        )]
    };
    let rule = json!({"pki": {
        "caRootsPath": bench.path("root.pem"),
        "subjectEmail": "dev@example.org",
        "subjectHostname": "build.example.org",
    }});
    bench.policy(rule.clone(), None);
    bench.lay("dev", &chain());
    let by = bench.accepted();
    let key = by["key"].as_str().unwrap();
    assert!(
        key.starts_with("dev@example.org, build.example.org (sha256:"),
        "{key}"
    );
    for (change, words) in [
        (
            ("pki/subjectEmail", "root@example.org"),
            "the certificate is not for root@example.org but",
        ),
        (
            ("pki/subjectHostname", "www.example.org"),
            "the certificate is not for host www.example.org",
        ),
        (
            ("pki/caRootsPath", &*bench.path("stranger.pem")),
            "the certificate is not trusted",
        ),
    ] {
        bench.policy(rule.clone(), Some(change));
        bench.refused(words);
    }
    bench.policy(rule.clone(), None);
    for name in ["old", "server"] {
        bench.lay(name, &chain());
        bench.refused("the certificate is not trusted");
    }
    // Intermediates may be the policy's, and must be somebody's.
    bench.lay("dev", &[]);
    bench.refused("the certificate is not trusted");
    bench.policy(
        rule,
        Some(("pki/caIntermediatesPath", &bench.path("between.pem"))),
    );
    bench.accepted();
}

#[test]
fn certificates_that_cosign_attaches_are_verified() {
    let Some(bench) = Bench::new() else { return };
    if missing(&["cosign"]) {
        return;
    }
    bench.certify("root", "root", LONG, AUTHORITY);
    bench.certify("dev", "root", LONG, SIGNER);
    // The same for cosign's own key, the only kind that it takes.
    let key = key_pair(&bench.scene, "cosign");
    bench.openssl(
        "x509 -req -in dev.csr -CA root.pem -CAkey root.key -set_serial 7 -days 3650 -extfile extensions \
         -force_pubkey cosign.pub -out dev.pem",
    );
    let scene = &bench.scene;
    scene.push(&os("1"), "1", &[]);
    let (leaf, chain) = (bench.path("dev.pem"), bench.path("root.pem"));
    let certificates = ["--certificate", &*leaf, "--certificate-chain", &*chain];
    let name = scene.name("1");
    let more = [&certificates[..], &["--sign-container-identity", &*name]].concat();
    cosign(&key, &name, &more);
    let rule = |email: &str| {
        json!([{
            "type": "sigstoreSigned",
            "pki": {"caRootsPath": bench.path("root.pem"), "subjectEmail": email},
        }])
    };
    scene.policy(&rule("other@example.org"));
    scene.refused(
        &scene.signed("1"),
        "the certificate is not for other@example.org but",
    );
    scene.policy(&rule("dev@example.org"));
    scene.image(&["pull", &scene.signed("1")]);
}
