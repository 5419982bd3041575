//! Bowline makes images of commits and takes commits out of images, and the peer does: both write the same
//! layers, and each gets the commit that went in from what the other wrote. Needs root, `ostree`, `skopeo`,
//! `umoci`, `buildah`, `setfattr`.

mod common;

use std::fs;
use std::path::Path;

use common::{
    Form, World, bowline, bowline_program, fsck, peer, peer_program, run, run_bytes, tree,
};
use serde_json::Value;

const COMPRESSIONS: [&str; 4] = ["gzip", "zstd", "zstd:chunked", "none"];

/// Bowline encapsulates a commit; the image reference goes out.
fn encapsulate(world: &World, form: Form, compression: &str, name: &str) -> String {
    let image = format!("oci:{}:latest", world.text(name));
    let (repo, meta) = (world.text("src"), world.text("contentmeta.json"));
    let mut args = vec![
        "container",
        "encapsulate",
        "--repo",
        &repo,
        &world.commit,
        &image,
    ];
    args.extend(["--compression", compression]);
    if form == Form::Chunked {
        fs::write(&meta, world.content_meta(&world.commit)).unwrap();
        args.extend(["--contentmeta", &meta]);
    } else {
        args.extend(["--max-layers", "1"]);
    }
    bowline(&args);
    image
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Manifest and config of the only image in a layout.
fn image(world: &World, name: &str) -> (Value, Value) {
    let dir = world.path(name);
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        json(&fs::read(dir.join("blobs").join(digest.replace(':', "/"))).unwrap())
    };
    let index = json(&fs::read(dir.join("index.json")).unwrap());
    let manifest = blob(&index["manifests"][0]);
    let config = blob(&manifest["config"]);
    (manifest, config)
}

/// Each program takes the commit out of an image into a new repository; both get the same tree.
fn both_get(world: &World, image: &str, name: &str) {
    let (ours, theirs) = (format!("ours-{name}"), format!("theirs-{name}"));
    let (ours, theirs) = (world.new_repo(&ours), world.new_repo(&theirs));
    let commit = bowline(&[
        "container",
        "unencapsulate",
        "-q",
        "--repo",
        &ours,
        image,
        "--write-ref",
        "os",
    ]);
    assert_eq!(commit.trim(), world.commit, "{image}");
    let unverified = format!("ostree-unverified-image:{image}");
    peer(&[
        "container",
        "unencapsulate",
        "--quiet",
        "--repo",
        &theirs,
        "--write-ref",
        "os",
        &unverified,
    ]);
    for repo in [&ours, &theirs] {
        fsck(repo);
        let names = run("ostree", &["refs", "--repo", repo]);
        assert_eq!(names.trim(), "os", "{image}");
        assert_eq!(
            run("ostree", &["rev-parse", "--repo", repo, "os"]).trim(),
            world.commit
        );
        assert_eq!(
            tree(repo, &world.commit),
            tree(&world.text("src"), &world.commit),
            "{image}"
        );
        fs::remove_dir_all(repo).unwrap();
    }
}

#[test]
fn an_archive_is_the_same_bytes() {
    let world = World::hard();
    let repo = world.text("src");
    let ours = run_bytes(
        &bowline_program(),
        &["tar", "export", "--repo", &repo, &world.commit],
    );
    let theirs = [
        "tar",
        "export",
        "--format-version",
        "1",
        "--repo",
        &repo,
        &world.commit,
    ];
    let theirs = run_bytes(&peer_program(), &theirs);
    assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
    let file = world.text("commit.tar");
    fs::write(&file, ours).unwrap();
    for (name, import) in [("ours", bowline as fn(&[&str]) -> String), ("theirs", peer)] {
        let repo = world.new_repo(name);
        import(&["tar", "import", "--repo", &repo, &file]);
        fsck(&repo);
        assert_eq!(
            tree(&repo, &world.commit),
            tree(&world.text("src"), &world.commit)
        );
    }
}

#[test]
fn layers_and_labels_are_the_same() {
    let world = World::hard();
    for (form, name) in [(Form::Plain, "plain"), (Form::Chunked, "chunked")] {
        let theirs = format!("theirs-{name}");
        world.encapsulate(&world.commit, form, &theirs);
        encapsulate(&world, form, "gzip", name);
        let ((our_manifest, our_config), (manifest, config)) =
            (image(&world, name), image(&world, &theirs));
        let mut diff_ids = [&our_config, &config].map(|config| {
            let ids = config["rootfs"]["diff_ids"].as_array().unwrap().clone();
            ids.iter()
                .map(|id| id.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        });
        assert_eq!(diff_ids[0][0], diff_ids[1][0], "the commit layer of {name}");
        // The order of chunks is anybody's choice.
        diff_ids.iter_mut().for_each(|ids| ids.sort());
        assert_eq!(diff_ids[0], diff_ids[1], "{name}");
        let labels = |config: &Value| {
            let mut labels = config["config"]["Labels"].clone();
            labels
                .as_object_mut()
                .unwrap()
                .remove("ostree.final-diffid")
                .unwrap();
            labels
        };
        assert_eq!(labels(&our_config), labels(&config));
        assert_eq!(our_config["created"], config["created"]);
        let components = |manifest: &Value| {
            let layers = manifest["layers"].as_array().unwrap().iter();
            let mut found: Vec<String> = layers.map(|l| l["annotations"].to_string()).collect();
            found.sort();
            found
        };
        assert_eq!(components(&our_manifest), components(&manifest));
    }
}

#[test]
fn each_gets_the_commit_from_what_the_other_wrote() {
    let world = World::hard();
    for (form, name) in [(Form::Plain, "plain"), (Form::Chunked, "chunked")] {
        let theirs = world.encapsulate(&world.commit, form, &format!("theirs-{name}"));
        both_get(&world, &theirs, name);
        let zstd = world.as_zstd(&theirs, &format!("theirs-{name}-zstd"));
        both_get(&world, &zstd, name);
        for (number, compression) in COMPRESSIONS.into_iter().enumerate() {
            let image = encapsulate(&world, form, compression, &format!("ours-{name}-{number}"));
            both_get(&world, &image, name);
        }
    }
}

#[test]
fn signatures_come_along() {
    let world = World::hard();
    let dir = world.path("src").join("objects").join(&world.commit[..2]);
    let name = format!("{}.commitmeta", &world.commit[2..]);
    run(
        "ostree",
        &[
            "sign",
            "--repo",
            &world.text("src"),
            "--sign-type=ed25519",
            &world.commit,
            KEY,
        ],
    );
    let signed = fs::read(dir.join(&name)).unwrap();
    let image = encapsulate(&world, Form::Chunked, "gzip", "signed");
    for (repo, take) in [("ours", bowline as fn(&[&str]) -> String), ("theirs", peer)] {
        let repo = world.new_repo(repo);
        let unverified = format!("ostree-unverified-image:{image}");
        take(&[
            "container",
            "unencapsulate",
            "--quiet",
            "--repo",
            &repo,
            &unverified,
        ]);
        let path = Path::new(&repo)
            .join("objects")
            .join(&world.commit[..2])
            .join(&name);
        assert_eq!(fs::read(path).unwrap(), signed, "{repo}");
    }
}

/// A secret key for ed25519, for tests only.
const KEY: &str =
    "o59y9JDwRqQ2hvGv8Y3uUmBxV5TjVjYlV3vlk1oTtYk8tr5Qq4tJ1i5Y8Tq6s4mYQ0S2Z0nQJ8qz7l1s8D3y0A==";

#[test]
fn a_hundred_thousand_files_survive() {
    let world = World::with_tree(|root| {
        for dir in 0..100 {
            let dir = root.join(format!("usr/share/many/{dir}"));
            fs::create_dir_all(&dir).unwrap();
            for file in 0..1000 {
                fs::write(
                    dir.join(format!("file-{file}")),
                    format!("{}{file}", dir.display()),
                )
                .unwrap();
            }
        }
    });
    let image = encapsulate(&world, Form::Plain, "gzip", "many");
    let repo = world.new_repo("theirs");
    let unverified = format!("ostree-unverified-image:{image}");
    peer(&[
        "container",
        "unencapsulate",
        "--quiet",
        "--repo",
        &repo,
        &unverified,
    ]);
    let theirs = world.encapsulate(&world.commit, Form::Plain, "theirs-image");
    let ours = world.new_repo("ours");
    bowline(&["container", "unencapsulate", "-q", "--repo", &ours, &theirs]);
    for repo in [repo, ours] {
        assert_eq!(
            tree(&repo, &world.commit),
            tree(&world.text("src"), &world.commit)
        );
    }
}

#[test]
fn other_programs_take_what_we_write() {
    let world = World::hard();
    for (number, compression) in COMPRESSIONS.into_iter().enumerate() {
        let name = format!("image-{number}");
        let image = encapsulate(&world, Form::Chunked, compression, &name);
        // skopeo checks every digest, diff_ids included, when it copies without compression.
        let plain = format!("dir:{}", world.text(&format!("plain-{number}")));
        run(
            "skopeo",
            &["copy", "--quiet", "--dest-decompress", &image, &plain],
        );
        let inspected = json(run("skopeo", &["inspect", &image]).as_bytes());
        assert_eq!(inspected["Labels"]["ostree.commit"], world.commit);
        if compression != "gzip" && compression != "none" {
            // umoci knows no zstd.
            continue;
        }
        let bundle = world.text(&format!("bundle-{number}"));
        run(
            "umoci",
            &["raw", "unpack", "--image", &image["oci:".len()..], &bundle],
        );
        let unpacked = fs::read(Path::new(&bundle).join("usr/bin/hello")).unwrap();
        assert_eq!(unpacked, b"#!/bin/sh\necho hello\n");
        assert!(Path::new(&bundle).join("etc/motd").exists());
    }
}
