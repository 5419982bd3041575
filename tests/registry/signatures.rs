//! Where signatures of an image are looked for, and what happens when that fails.

use bowline::image::{Digest, SignatureContent, StoredSignature};
use bowline::testing::registry::{Fault, TestRegistry};
use bowline::transport::{Error, ImageSource, RegistrySource};
use serde_json::json;

use crate::bench::{Bench, MANIFEST, OCI_MANIFEST};

const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

fn source(bench: &Bench) -> RegistrySource {
    let name = format!("{}/ns/os:1", bench.registry.host())
        .parse()
        .unwrap();
    RegistrySource::new(&name, &bench.options).unwrap()
}

/// Offers an attachment with one signature of this text, as `ns/os:REFERENCE`.
fn attach(registry: &TestRegistry, reference: &str, text: &str) -> Digest {
    let payload = registry.add_blob(text.to_owned());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": payload, "size": 2},
        "layers": [
            {"mediaType": LAYER, "digest": payload, "size": text.len(), "annotations": {"a": text}},
            {"mediaType": "application/spdx+json", "digest": payload, "size": text.len()},
        ],
    });
    registry.add_manifest("ns/os", reference, manifest.to_string(), OCI_MANIFEST)
}

fn index(digest: Digest, kind: &str) -> String {
    let entry = json!({
        "mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "artifactType": kind,
    });
    json!({"schemaVersion": 2, "manifests": [entry]}).to_string()
}

/// The payloads of all signatures that are found.
async fn found(bench: &Bench) -> Result<Vec<String>, Error> {
    let signatures = source(bench).signatures(&[Digest::of(MANIFEST)]).await?;
    Ok(signatures.into_iter().map(payload).collect())
}

fn payload(signature: StoredSignature) -> String {
    let bytes = match signature.content {
        SignatureContent::Attachment { payload, .. } => payload,
        SignatureContent::File(bytes) => bytes,
    };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn tags_lists_and_files_are_looked_through() {
    let bench = Bench::new();
    assert_eq!(found(&bench).await.unwrap(), [""; 0]);
    let hex = Digest::of(MANIFEST).hex();
    attach(&bench.registry, &format!("sha256-{hex}.sig"), "by tag");
    let referrer = attach(&bench.registry, "other", "by list");
    bench
        .registry
        .fault("/referrers/", Fault::Status(200, index(referrer, ARTIFACT)));
    let path = format!("var/lib/containers/sigstore/ns/os@sha256={hex}/signature-1");
    bench.write(&path, "in a file");
    assert_eq!(
        found(&bench).await.unwrap(),
        ["in a file", "by tag", "by list"]
    );
    // What is attached by several ways counts once, and what is no signature not at all.
    let referrer = attach(&bench.registry, "other", "by tag");
    bench.registry.clear_faults();
    bench
        .registry
        .fault("/referrers/", Fault::Status(200, index(referrer, ARTIFACT)));
    assert_eq!(found(&bench).await.unwrap(), ["in a file", "by tag"]);
    bench.registry.clear_faults();
    let fallback = index(attach(&bench.registry, "other", "by fallback"), ARTIFACT);
    let kind = "application/vnd.oci.image.index.v1+json";
    bench
        .registry
        .add_manifest("ns/os", &format!("sha256-{hex}"), fallback, kind);
    assert_eq!(
        found(&bench).await.unwrap(),
        ["in a file", "by tag", "by fallback"]
    );
    let off = "default-docker: {use-sigstore-attachments: false}";
    bench.write("etc/containers/registries.d/off.yaml", off);
    assert_eq!(found(&bench).await.unwrap(), ["in a file"]);
}

#[tokio::test]
async fn what_is_damaged_is_no_signature() {
    let bench = Bench::new();
    let hex = Digest::of(MANIFEST).hex();
    let tag = format!("sha256-{hex}.sig");
    attach(&bench.registry, &tag, "good");
    bench.registry.fault("/blobs/", Fault::Shorten(2));
    let error = found(&bench).await.unwrap_err();
    assert!(
        matches!(error, Error::Temporary { .. } | Error::Mismatch { .. }),
        "{error}"
    );
    bench.registry.clear_faults();
    bench
        .registry
        .add_manifest("ns/os", &tag, "{\"layers\":7}", OCI_MANIFEST);
    let error = found(&bench).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("should list signatures is malformed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_place_that_fails_matters_where_nothing_else_has_signatures() {
    let bench = Bench::new();
    bench
        .registry
        .fault("/referrers/", Fault::Status(500, String::new()));
    let error = found(&bench).await.unwrap_err();
    assert!(matches!(error, Error::Temporary { .. }), "{error}");
    let hex = Digest::of(MANIFEST).hex();
    attach(&bench.registry, &format!("sha256-{hex}.sig"), "by tag");
    assert_eq!(found(&bench).await.unwrap(), ["by tag"]);
    // A mirror without signatures, or without an answer.
    let mirror = TestRegistry::start();
    mirror.add_manifest("ns/os", "1", MANIFEST, OCI_MANIFEST);
    let config = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\n",
        bench.registry.host(),
        mirror.host()
    );
    bench.write("etc/containers/registries.conf", &config);
    assert_eq!(found(&bench).await.unwrap(), ["by tag"]);
    mirror.fault("", Fault::Status(500, String::new()));
    assert_eq!(found(&bench).await.unwrap(), ["by tag"]);
    bench.registry.clear_faults();
    bench
        .registry
        .fault("sha256-", Fault::Status(404, String::new()));
    assert_eq!(found(&bench).await.unwrap(), [""; 0]);
}

/// Of a mirror that has signatures only its own count at first; with the others' the registry's do.
#[tokio::test]
async fn bad_signatures_of_a_mirror_hide_none() {
    let bench = Bench::new();
    let tag = format!("sha256-{}.sig", Digest::of(MANIFEST).hex());
    let mirror = TestRegistry::start();
    mirror.add_manifest("ns/os", "1", MANIFEST, OCI_MANIFEST);
    attach(&mirror, &tag, "bad");
    attach(&bench.registry, &tag, "good");
    let config = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\n",
        bench.registry.host(),
        mirror.host()
    );
    bench.write("etc/containers/registries.conf", &config);
    assert_eq!(found(&bench).await.unwrap(), ["bad"]);
    let all = || async {
        let all = source(&bench).all_signatures(&[Digest::of(MANIFEST)]).await;
        all.into_iter().map(payload).collect::<Vec<_>>()
    };
    assert_eq!(all().await, ["bad", "good"]);
    mirror.fault("sha256-", Fault::Status(403, String::new()));
    assert_eq!(all().await, ["good"]);
}
