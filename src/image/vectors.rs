//! Checks this room against tables made by running containers/image (tests only). The tables live
//! beside the project; where they are missing, the tests say so and pass.

use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::*;

const SCHEMA1: &str = "distribution.manifest.v1+";

/// The tables of one folder, or nothing where they are not on this machine.
pub(crate) fn load(folder: &str) -> Option<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let folder = root.join(folder);
    match std::fs::read_to_string(folder.join("expect.yaml")) {
        Ok(text) => Some((folder, serde_yaml_ng::from_str(&text).unwrap())),
        Err(_) => {
            skipped();
            None
        }
    }
}

#[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skipped() {
    eprintln!("skipped: the test vectors are not on this machine");
}

pub(crate) fn list<'a>(table: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    let list = table[key].as_sequence();
    list.map(|l| l.iter()).unwrap_or_default()
}

pub(crate) fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

fn check_blob(found: &Descriptor, case: &Value) {
    assert_eq!(found.digest.to_string(), text(case, "digest"));
    assert_eq!(found.media_type, text(case, "media_type"));
    let size = found.size.map_or(-1, |s| s as i64);
    assert_eq!(Some(size), case["size"].as_i64());
}

fn check_manifest(manifest: &Manifest, case: &Value) {
    let docker = text(case, "media_type").contains("docker");
    assert_eq!(manifest.docker, docker);
    assert_eq!(manifest.digest().to_string(), text(case, "digest"));
    check_blob(&manifest.config, &case["config"]);
    let layers: Vec<_> = list(case, "layers").collect();
    assert_eq!(manifest.layers.len(), layers.len());
    for (found, expected) in manifest.layers.iter().zip(layers) {
        check_blob(found, expected);
    }
}

fn check_index(index: &Index, case: &Value) {
    assert_eq!(index.digest().to_string(), text(case, "digest"));
    let instances: Vec<_> = list(case, "instances").collect();
    assert_eq!(index.entries.len(), instances.len());
    for (found, expected) in index.entries.iter().zip(instances) {
        check_blob(&found.descriptor, expected);
    }
    for chosen in list(case, "chosen") {
        let found = index.choose_for(&platform(chosen));
        let found = found.map_or("none".into(), |d| d.digest.to_string());
        assert_eq!(found, text(chosen, "digest"), "{chosen:?}");
    }
}

fn platform(case: &Value) -> Platform {
    Platform {
        architecture: text(case, "architecture").into(),
        os: text(case, "os").into(),
        variant: Some(text(case, "variant").into()),
    }
}

#[test]
fn manifests_agree() {
    let Some((folder, table)) = load("manifests") else {
        return;
    };
    for case in list(&table, "manifests") {
        let file = text(case, "file");
        let raw = std::fs::read(folder.join(file)).unwrap();
        let parsed = ManifestOrIndex::parse(raw, None);
        let refused = text(case, "expect") == "error"
            || text(case, "media_type").contains(SCHEMA1)
            || is_artifact(case);
        assert_eq!(parsed.is_err(), refused, "{file}: {parsed:?}");
        match parsed {
            Ok(ManifestOrIndex::Manifest(manifest)) => check_manifest(&manifest, case),
            Ok(ManifestOrIndex::Index(index)) => check_index(&index, case),
            Err(error) if is_artifact(case) => {
                assert!(
                    matches!(error, ManifestError::Artifact(_)),
                    "{file}: {error}"
                )
            }
            Err(_) => {}
        }
    }
}

fn is_artifact(case: &Value) -> bool {
    let image = case.get("container_image").and_then(Value::as_bool);
    let oci = "application/vnd.oci.image.config.v1+json";
    let docker = text(case, "media_type").contains("docker");
    image == Some(false)
        || case
            .get("config")
            .is_some_and(|config| !docker && text(config, "media_type") != oci)
}

#[test]
fn platforms_agree() {
    let Some((_, table)) = load("manifests") else {
        return;
    };
    for case in list(&table["wanted_platforms"], "cases") {
        let host = platform(case);
        let accepted: Vec<_> = list(case, "accepted_in_order").collect();
        for (rank, word) in accepted.iter().enumerate() {
            let mut image = Platform::linux(word.as_str().unwrap());
            image.os = host.os.clone();
            assert_eq!(image.rank_for(&host), Some(rank), "{image} on {host}");
        }
        let mut other = host.clone();
        other.variant = Some("v99".into());
        assert_eq!(other.rank_for(&host), None, "{other} on {host}");
    }
}

#[test]
fn ambiguous_manifests_are_refused() {
    let Some((folder, table)) = load("manifests") else {
        return;
    };
    for case in list(&table["ambiguous_fields"], "cases") {
        let file = text(case, "file");
        let raw = std::fs::read_to_string(folder.join(file)).unwrap();
        let (head, tail) = raw.rsplit_once('}').unwrap();
        let raw = format!("{head},\"{}\":[]}}{tail}", text(case, "added_field"));
        let refused = text(case, "expect") == "error" || file.contains("to-schema1");
        let parsed = ManifestOrIndex::parse(raw.into(), None);
        assert_eq!(parsed.is_err(), refused, "{case:?}: {parsed:?}");
    }
    for case in list(&table["parsed_as_other_type"], "cases") {
        let raw = std::fs::read(folder.join(text(case, "file"))).unwrap();
        let parsed = ManifestOrIndex::parse(raw, Some(text(case, "parsed_as")));
        assert_eq!(parsed.is_err(), text(case, "expect") == "error", "{case:?}");
    }
}

#[test]
fn digests_agree() {
    let Some((folder, table)) = load("manifests") else {
        return;
    };
    for case in list(&table, "digest_matching") {
        let file = text(case, "file");
        // Schema 1 digests are over a part of the bytes; we refuse these manifests.
        if file.starts_with("v2s1") {
            continue;
        }
        let found = Digest::of(&std::fs::read(folder.join(file)).unwrap());
        let matches = text(case, "digest").parse() == Ok(found);
        assert_eq!(Some(matches), case["matches"].as_bool(), "{case:?}");
    }
}

#[test]
fn configs_agree() {
    let Some((folder, table)) = load("manifests") else {
        return;
    };
    for case in list(&table, "configs") {
        let raw = std::fs::read(folder.join(text(case, "file"))).unwrap();
        let parsed = ImageConfig::parse(raw);
        let Some(os) = case["os"].as_str() else {
            assert!(parsed.is_err(), "{case:?}");
            continue;
        };
        let config = parsed.unwrap();
        assert_eq!(
            (&*config.os, &*config.architecture),
            (os, text(case, "architecture"))
        );
        let diff_ids = config.diff_ids.iter().map(ToString::to_string);
        let expected = list(case, "diff_ids").map(|id| id.as_str().unwrap().to_owned());
        assert!(diff_ids.eq(expected), "{case:?}");
        let with_layer = config.history.iter().filter(|h| !h.empty_layer).count();
        let found = (Some(config.history.len() as u64), Some(with_layer as u64));
        let count = |key: &str| case[key].as_u64();
        let expected = (
            count("history_entries"),
            count("history_entries_with_layer"),
        );
        assert_eq!(found, expected, "{case:?}");
    }
}

/// Docker manifests become OCI as containers/image converts them; only the config keeps its own
/// digest and size, since we keep the config as it came.
#[test]
fn docker_manifests_convert_alike() {
    let Some((folder, _)) = load("manifests") else {
        return;
    };
    for name in ["schema2", "schema2-all-media-types"] {
        let raw = |name: &str| std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        let parse = |raw: Vec<u8>| match ManifestOrIndex::parse(raw, None).unwrap() {
            ManifestOrIndex::Manifest(manifest) => manifest,
            other => panic!("{other:?}"),
        };
        let docker = parse(raw(name));
        let converted = parse(docker.to_oci_json().into());
        let expected = parse(raw(&format!("{name}-to-oci1")));
        assert_eq!(converted.layers, expected.layers);
        assert_eq!(converted.config.media_type, expected.config.media_type);
        assert_eq!(converted.config.digest, docker.config.digest);
        assert_eq!(
            parse(expected.raw().to_vec()).to_oci_json().as_bytes(),
            expected.raw()
        );
    }
}
