//! What is taken for a manifest, and what is refused in which words.

use proptest::prelude::*;

use super::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn docker(layer_type: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"{DOCKER_CONFIG}","digest":"{EMPTY}","size":-1}},
        "layers":[{{"mediaType":"{layer_type}","digest":"{EMPTY}","size":-1,"urls":["https://x"]}}]}}"#
    )
}

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    match ManifestOrIndex::parse(text.into(), None)? {
        ManifestOrIndex::Manifest(manifest) => Ok(manifest),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_size_of_minus_one_is_unknown() {
    let manifest = parse(&docker(&format!("{DOCKER_LAYER}diff.tar"))).unwrap();
    assert_eq!(
        (manifest.config.size, manifest.layers[0].size),
        (None, None)
    );
    let oci: Value = serde_json::from_str(&manifest.to_oci_json()).unwrap();
    assert_eq!(
        (&oci["config"]["size"], &oci["layers"][0]["size"]),
        (&0.into(), &0.into())
    );
    assert_eq!(oci["layers"][0]["urls"][0], "https://x");
    let text = manifest.to_oci_json().replace(":0", ":-1");
    let unknown = parse(&text).unwrap();
    assert_eq!(unknown.layers[0].size, None);
    assert_eq!(unknown.to_oci_json(), manifest.to_oci_json());
    // What was asked for by digest keeps that digest.
    assert_eq!(manifest.digest(), Digest::of(manifest.raw()));
}

#[test]
fn says_what_it_cannot_use() {
    let words = |text: &str| parse(text).unwrap_err().to_string();
    let schema1 = r#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#;
    assert!(words(schema1).contains("Docker schema 1"));
    assert!(words("{").contains("not valid JSON of a manifest"));
    assert!(words("{}").contains("its media type is \"\""));
    let zstd = docker(&format!("{DOCKER_LAYER}diff.tar.zstd"));
    assert!(words(&zstd).contains("which a Docker manifest cannot have"));
    let artifact = docker("x").replace(DOCKER_CONFIG, "application/vnd.cncf.helm.config");
    assert!(words(&artifact).contains("no image but an artifact"));
    let long = format!(r#"{{"mediaType":"{}"}}"#, "x".repeat(10_000));
    assert!(words(&long).len() < 400);
    let stated = ManifestOrIndex::parse(docker("x").into(), Some(OCI_INDEX)).unwrap_err();
    assert!(stated.to_string().starts_with("the source calls it"));
}

/// JSON with the members of manifests and configs, right and wrong.
fn documents() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("2".to_owned()),
        Just("-1".into()),
        Just("null".into()),
        Just("[]".into()),
        Just("{}".into()),
        Just(format!("{EMPTY:?}")),
        Just(format!("{OCI_MANIFEST:?}")),
        Just(format!("{DOCKER_LIST:?}")),
        Just(format!(
            r#"{{"mediaType":"{OCI_CONFIG}","digest":"{EMPTY}","size":1}}"#
        )),
        Just(format!(
            r#"[{{"mediaType":"x","digest":"{EMPTY}","size":-1,"platform":{{"os":"linux"}}}}]"#
        )),
        Just(format!(r#"{{"diff_ids":["{EMPTY}"]}}"#)),
    ];
    let key = prop::sample::select(vec![
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "annotations",
        "architecture",
        "os",
        "rootfs",
        "history",
        "created",
    ]);
    let member = (key, value).prop_map(|(key, value)| format!("{key:?}:{value}"));
    prop::collection::vec(member, 0..6).prop_map(|m| format!("{{{}}}", m.join(",")))
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            documents().prop_map(String::into_bytes),
        ],
        stated in prop::option::of(prop::sample::select(vec![OCI_INDEX, DOCKER_MANIFEST, "text/plain"])),
    ) {
        let _ = crate::image::ImageConfig::parse(bytes.clone());
        match ManifestOrIndex::parse(bytes.clone(), stated) {
            Ok(ManifestOrIndex::Manifest(manifest)) => {
                prop_assert_eq!(manifest.raw(), &bytes);
                prop_assert_eq!(manifest.digest(), Digest::of(&bytes));
                let again = parse(&manifest.to_oci_json()).unwrap();
                prop_assert!(!again.docker);
                prop_assert_eq!(again.layers.len(), manifest.layers.len());
            }
            Ok(ManifestOrIndex::Index(index)) => drop(index.choose("amd64")),
            Err(_) => {}
        }
    }
}
