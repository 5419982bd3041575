//! Bowline makes images of commits and takes commits out of images, and the peer does: both write the same
//! layers, and each gets the commit that went in from what the other wrote. Needs root, `ostree`, `skopeo`,
//! `umoci`, `buildah`, `setfattr`.

mod common;

use std::fs;
use std::path::Path;

use common::{
    Form, World, bowline, bowline_program, can_mount, fsck, peer, peer_program, run, run_bytes,
    tree,
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

/// The components and the diff_id of each layer.
fn layers(manifest: &Value, config: &Value) -> Vec<(Option<String>, String)> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    let ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    layers
        .zip(ids)
        .map(|(layer, id)| {
            (
                text(&layer["annotations"]["ostree.components"]),
                text(id).unwrap(),
            )
        })
        .collect()
}

/// Each program takes the commit out of an image into a new repository; both get the same tree.
fn both_get(world: &World, image: &str, name: &str) {
    let (ours, theirs) = (format!("repo-ours-{name}"), format!("repo-theirs-{name}"));
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
        let (ours, mut theirs) = (
            layers(&our_manifest, &our_config),
            layers(&manifest, &config),
        );
        assert_eq!(ours[0], theirs[0], "the commit layer of {name}");
        // The peer keeps a chunk free for what comes new; the order of chunks is anybody's choice.
        theirs.retain(|(components, _)| components.as_deref() != Some(""));
        let sorted = |mut layers: Vec<(Option<String>, String)>| {
            layers.sort();
            layers
        };
        assert_eq!(sorted(ours), sorted(theirs), "{name}");
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
fn detached_metadata_come_along() {
    let mut world = World::hard();
    let (repo, tree) = (world.text("src"), format!("--tree=ref={}", world.commit));
    let note = "--add-detached-metadata-string=note=kept";
    let args = ["commit", "--repo", &repo, "--orphan", &tree, note];
    world.commit = run("ostree", &args).trim().into();
    let name = format!(
        "objects/{}/{}.commitmeta",
        &world.commit[..2],
        &world.commit[2..]
    );
    let noted = fs::read(world.path("src").join(&name)).unwrap();
    let image = encapsulate(&world, Form::Chunked, "gzip", "noted");
    let theirs = world.encapsulate(&world.commit, Form::Plain, "theirs-noted");
    for (image, program) in [(&image, "ours"), (&image, "theirs"), (&theirs, "ours")] {
        let repo = world.new_repo(&format!("repo-{program}-{}", image.len()));
        let unverified = format!("ostree-unverified-image:{image}");
        let args = [
            "container",
            "unencapsulate",
            "--quiet",
            "--repo",
            &repo,
            &unverified,
        ];
        match program {
            "ours" => bowline(&args),
            _ => peer(&args),
        };
        assert_eq!(
            fs::read(Path::new(&repo).join(&name)).unwrap(),
            noted,
            "{image} {program}"
        );
    }
}

#[test]
fn a_hundred_thousand_files_survive() {
    // With few objects: what counts here are the paths, and some disks take long to remove files.
    let world = World::with_tree(|root| {
        let many = root.join("usr/share/many");
        for number in 0..100_000 {
            let dir = many.join((number / 1000).to_string());
            let (file, first) = (
                dir.join(format!("file-{number}")),
                many.join(format!("0/file-{}", number % 1000)),
            );
            fs::create_dir_all(&dir).unwrap();
            match number {
                0..1000 => fs::write(file, format!("content {number}\n")).unwrap(),
                _ => fs::hard_link(first, file).unwrap(),
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

#[test]
fn a_container_of_what_we_write_runs() {
    if !can_mount() {
        return;
    }
    // The only program without libraries that every Debian has.
    let program = Path::new("/sbin/ldconfig");
    let world = World::with_tree(|root| {
        fs::copy(program, root.join("usr/bin/ldconfig")).unwrap();
        fs::create_dir_all(root.join("usr/etc")).unwrap();
        fs::write(
            root.join("usr/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n",
        )
        .unwrap();
    });
    for (number, compression) in COMPRESSIONS.into_iter().enumerate() {
        let image = encapsulate(
            &world,
            Form::Chunked,
            compression,
            &format!("image-{number}"),
        );
        let own = [world.text("storage"), world.text("run")];
        let own = [
            "--root",
            &own[0],
            "--runroot",
            &own[1],
            "--storage-driver",
            "vfs",
        ];
        let buildah = |args: &[&str]| run("buildah", &[&own[..], args].concat());
        let stored = format!("containers-storage:[vfs@{}+{}]localhost/os", own[1], own[3]);
        run("skopeo", &["copy", "--quiet", &image, &stored]);
        let container = buildah(&["from", "localhost/os"]);
        let container = container.trim();
        let said = buildah(&[
            "run",
            "--isolation",
            "chroot",
            container,
            "/usr/bin/ldconfig",
            "--version",
        ]);
        assert!(said.starts_with("ldconfig "), "{said}");
        buildah(&["rm", container]);
    }
}
