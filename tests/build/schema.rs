//! What is written is valid by the JSON schemas of image-spec, which lie beside the project. Needs Debian's
//! `python3-jsonschema`.

use std::path::Path;
use std::process::Command;

use bowline::testing::Fixture;
use bowline::testing::fixture::OS;
use serde_json::{Map, Value, json};

use crate::scene::{Scene, encapsulate, has, run};

const FILES: [&str; 6] = [
    "config-schema.json",
    "content-descriptor.json",
    "defs-descriptor.json",
    "defs.json",
    "image-index-schema.json",
    "image-manifest-schema.json",
];

/// All schemas in one document, so that references lead nowhere else.
#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
fn schemas() -> Option<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/schema/json");
    let mut all = Map::new();
    for name in FILES {
        let Ok(text) = std::fs::read_to_string(dir.join(name)) else {
            println!("skipped: the schemas are not on this machine");
            return None;
        };
        let mut schema = serde_json::from_str(&text).unwrap();
        rewrite(&mut schema, name);
        all.insert(name.into(), schema);
    }
    Some(all.into())
}

/// Lets references lead into the document, and takes off the names that would lead out of it.
fn rewrite(value: &mut Value, file: &str) {
    match value {
        Value::Object(members) => {
            members.retain(|key, value| key != "$schema" && !(key == "id" && value.is_string()));
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                let (name, path) = reference.split_once('#').unwrap_or((reference, ""));
                let name = if name.is_empty() { file } else { name };
                *reference = format!("#/definitions/{name}{path}");
            }
            members.values_mut().for_each(|value| rewrite(value, file));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(value, file)),
        _ => {}
    }
}

/// Whether a value is valid by one of the schemas; what is wrong with it otherwise.
fn validate(scene: &Scene, schemas: &Value, name: &str, value: &Value) -> Result<(), String> {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "definitions": schemas,
        "allOf": [{"$ref": format!("#/definitions/{name}")}],
    });
    let schema = scene.write("schema.json", schema.to_string().as_bytes());
    let value = scene.write("value.json", value.to_string().as_bytes());
    let args = ["-W", "ignore", "-m", "jsonschema", "-i", &value, &schema];
    let output = Command::new("python3").args(args).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
fn can_validate() -> bool {
    let args = ["-W", "ignore", "-c", "import jsonschema"];
    let can = Command::new("python3").args(args).status();
    let can = can.is_ok_and(|status| status.success());
    if !can {
        println!("skipped: there is no python3-jsonschema");
    }
    can
}

#[test]
fn what_is_written_is_valid() {
    let Some(schemas) = schemas().filter(|_| can_validate()) else {
        return;
    };
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    for compression in ["gzip", "zstd", "zstd:chunked", "none"] {
        let scene = Scene::new();
        let more = [
            "--compression",
            compression,
            "--cmd",
            "/bin/sh",
            "--label",
            "a=b",
        ];
        encapsulate(&scene, &fixture, &commit, &more);
        let (manifest, config) = scene.parts("layout");
        for (name, value) in [
            ("image-manifest-schema.json", &manifest),
            ("config-schema.json", &config),
            ("image-index-schema.json", &scene.json("layout/index.json")),
        ] {
            let valid = validate(&scene, &schemas, name, value);
            assert_eq!(valid, Ok(()), "{name} {compression}");
        }
        let mut wrong = manifest;
        wrong["layers"][0]["digest"] = "sha256:x y".into();
        let refused = validate(&scene, &schemas, "image-manifest-schema.json", &wrong);
        assert!(refused.unwrap_err().contains("sha256:x y"));
    }
}

#[test]
fn other_programs_take_it() {
    if !has("skopeo") || !has("umoci") {
        return;
    }
    let fixture = Fixture::new().unwrap();
    let commit = fixture.commit(OS).unwrap();
    for compression in ["gzip", "zstd", "zstd:chunked", "none"] {
        let scene = Scene::new();
        encapsulate(&scene, &fixture, &commit, &["--compression", compression]);
        // skopeo checks every digest, those of the streams included.
        let copy = format!("dir:{}", scene.text("copy"));
        let image = scene.image("layout");
        run(
            "skopeo",
            &["copy", "--quiet", "--dest-decompress", &image, &copy],
        );
        let inspected: Value = serde_json::from_str(&run("skopeo", &["inspect", &image])).unwrap();
        assert_eq!(inspected["Labels"]["ostree.commit"], commit);
        if !compression.starts_with("zstd") {
            // umoci reads no zstd.
            let root = scene.text("root");
            run(
                "umoci",
                &[
                    "raw",
                    "unpack",
                    "--rootless",
                    "--image",
                    &image["oci:".len()..],
                    &root,
                ],
            );
            let hello = std::fs::read(scene.path("root/usr/bin/hello")).unwrap();
            assert_eq!(hello, b"#!/bin/sh\necho hello\n");
            assert!(scene.path("root/etc/motd").exists());
        }
    }
}
