//! Exact texts of `image list`, `inspect` and `history`, also for hostile labels.

use super::*;
use crate::image::{Digest, ImageConfig, ManifestOrIndex};

fn image() -> (ImageReference, ImageRecord) {
    let layer = |n: u8, size: i64, components: Option<&str>| {
        let mut layer = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(&[n]).to_string(),
            "size": size,
        });
        if let Some(names) = components {
            layer["annotations"] = serde_json::json!({ "ostree.components": names });
        }
        layer
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(b"config").to_string(),
            "size": 6,
        },
        "layers": [layer(0, 1500, None), layer(1, 2_500_000, Some("bash,zlib")), layer(2, -1, None)],
    });
    let diff_ids: Vec<_> = (10..13).map(|n| Digest::of(&[n]).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T04:04:05.678+01:00",
        "config": { "Labels": {
            "org.opencontainers.image.version": "13.1",
            "ostree.bootable": "true",
            "ostree.final-diffid": diff_ids[1],
            "evil": "a\u{1b}[2J\nb",
        } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [
            { "created_by": "ostree export of commit 0123" },
            { "created_by": "ENV X=1", "empty_layer": true },
            { "created_by": "bash and zlib" },
            { "created_by": "RUN apt-get\tinstall\n  nano" },
        ],
    });
    let manifest = ManifestOrIndex::parse(manifest.to_string().into_bytes(), None).unwrap();
    let ManifestOrIndex::Manifest(manifest) = manifest else {
        panic!("not a manifest");
    };
    let record = ImageRecord {
        commit: "c0ffee".repeat(10) + "0123",
        manifest_digest: Digest::of(b"manifest"),
        manifest,
        config: ImageConfig::parse(config.to_string().into_bytes()).unwrap(),
    };
    ("docker://quay.io/a/b:1".parse().unwrap(), record)
}

fn layer_name(n: u8) -> String {
    text::short(&Digest::of(&[n]))
}

#[test]
fn a_list_has_a_row_for_every_image() {
    let (imgref, record) = image();
    assert_eq!(
        list_table(&[Summary::new(&imgref, &record)]),
        format!(
            "IMAGE                   DIGEST        VERSION  CREATED               COMMIT
docker://quay.io/a/b:1  {}  13.1     2026-01-02T03:04:05Z  c0ffeec0ffee
",
            text::short(&Digest::of(b"manifest"))
        )
    );
}

#[test]
fn an_empty_list_is_its_header() {
    assert_eq!(list_table(&[]), "IMAGE  DIGEST  VERSION  CREATED  COMMIT\n");
}

#[test]
fn inspection_shows_kinds_and_components_and_defuses_labels() {
    let (imgref, record) = image();
    let shown = inspect_text(&Details::new(&imgref, &record, None));
    let (labels, layers) = shown.split_once("\n\nLAYER").unwrap();
    assert!(labels.contains("Bootable      yes\n"), "{labels}");
    assert!(labels.contains("\n  evil=a [2J b\n"), "{labels}");
    assert_eq!(
        layers,
        format!(
            "         KIND     SIZE     COMPONENTS
{}  base     1.5 kB
{}  chunk    2.5 MB   bash, zlib
{}  derived  unknown
",
            layer_name(0),
            layer_name(1),
            layer_name(2)
        )
    );
}

#[test]
fn history_skips_steps_without_a_layer() {
    let (_, record) = image();
    assert_eq!(
        history_table(&record.manifest, &record.config.history),
        format!(
            "LAYER         SIZE     CREATED BY
{}  1.5 kB   ostree export of commit 0123
{}  2.5 MB   bash and zlib
{}  unknown  RUN apt-get install nano
",
            layer_name(0),
            layer_name(1),
            layer_name(2)
        )
    );
}

#[test]
fn programs_get_stable_field_names() {
    let (imgref, record) = image();
    let details = Details::new(&imgref, &record, None);
    let json: serde_json::Value =
        serde_json::from_str(&serialized(&details, Format::Json).unwrap()).unwrap();
    assert_eq!(json["image"], "docker://quay.io/a/b:1");
    assert_eq!(json["version"], "13.1");
    assert_eq!(json["bootable"], true);
    assert_eq!(json["labels"]["evil"], "a\u{1b}[2J\nb");
    assert_eq!(
        json["layers"][1],
        serde_json::json!({
            "digest": Digest::of(&[1]).to_string(),
            "diffId": Digest::of(&[11]).to_string(),
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "size": 2_500_000,
            "kind": "chunk",
            "components": ["bash", "zlib"],
        })
    );
    let yaml = serialized(&[Summary::new(&imgref, &record)], Format::Yaml).unwrap();
    assert!(
        yaml.starts_with("- image: docker://quay.io/a/b:1\n  digest: sha256:"),
        "{yaml}"
    );
}
