//! Root file systems and images to images in layers, and what is said of these: `container build-chunked`,
//! `inspect` and `compare`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::scene::{Scene, has, run};

/// A package of dpkg's database, its version and the only file that it has.
fn package((name, version): (&str, &str)) -> String {
    format!(
        "Package: {name}\nVersion: {version}\nStatus: install ok installed\nArchitecture: amd64\n"
    )
}

/// A small system with these packages: a program for each, a kernel, and what the databases do not know.
fn system(scene: &Scene, name: &str, packages: &[(&str, &str)]) -> String {
    let root = scene.path(name);
    for dir in [
        "usr/bin",
        "usr/lib/modules/6.1",
        "usr/share/odd",
        "var/lib/dpkg/info",
        "etc",
        "dev",
        "run/lock",
        "tmp",
        "sysroot/ostree/repo",
    ] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write("usr/lib/modules/6.1/vmlinuz", "kernel");
    write("usr/lib/modules/6.1/initramfs.img", "initramfs");
    write("usr/lib/os-release", "ID=x\nVERSION_ID=\"13\"\n");
    write("etc/passwd", "root:x:0:0\n");
    write("run/lock/left", "1");
    write("tmp/left", "1");
    write("sysroot/ostree/repo/config", "of a host");
    for (name, version) in packages {
        let program = format!("usr/bin/{name}");
        write(&program, &format!("{name} {version}"));
        let list = format!("var/lib/dpkg/info/{name}.list");
        write(&list, &format!("/{program}\n"));
    }
    let status: Vec<String> = packages.iter().copied().map(package).collect();
    write("var/lib/dpkg/status", &status.join("\n"));
    odd_files(&root.join("usr/share/odd"));
    scene.text(name)
}

/// What is hard to keep, and what cannot be kept.
fn odd_files(dir: &Path) {
    fs::write(dir.join("a, b\nä"), "name").unwrap();
    fs::write(dir.join("setuid"), "mode").unwrap();
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    fs::set_permissions(dir.join("setuid"), mode(0o4711)).unwrap();
    fs::hard_link(dir.join("setuid"), dir.join("twice")).unwrap();
    fs::create_dir(dir.join("sticky")).unwrap();
    fs::set_permissions(dir.join("sticky"), mode(0o1777)).unwrap();
    symlink("..//none", dir.join("dangling")).unwrap();
    drop(UnixListener::bind(dir.join("socket")).unwrap());
    run("mkfifo", &[dir.join("pipe").to_str().unwrap()]);
}

/// Makes an image `IMAGE` in the layout `images`; its name goes out.
fn build(scene: &Scene, root: &str, tag: &str, more: &[&str]) -> String {
    let image = format!("oci:{}:{tag}", scene.text("images"));
    let args = [
        "container",
        "build-chunked",
        "--rootfs",
        root,
        "--output",
        &image,
    ];
    scene.ok_at_epoch(&[&args[..], more].concat());
    image
}

fn inspect(scene: &Scene, image: &str) -> Value {
    let text = scene.bytes(&["container", "inspect", image, "--format", "json"]);
    serde_json::from_slice(&text).unwrap()
}

fn layers(image: &Value) -> BTreeSet<&str> {
    let layers = image["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| layer["digest"].as_str().unwrap())
        .collect()
}

fn components(image: &Value) -> BTreeSet<String> {
    let layers = image["layers"].as_array().unwrap().iter();
    let names = layers.flat_map(|layer| layer["components"].as_array().unwrap());
    names.map(|name| name.as_str().unwrap().into()).collect()
}

/// Paths of the commit in an image, as `ostree ls` has them.
fn paths(scene: &Scene, image: &str, repo: &str) -> String {
    let repo = scene.taken(image, repo, "it");
    run("ostree", &["ls", "--repo", &repo, "-R", "it"])
}

fn refused(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{text}");
}

#[test]
fn a_root_is_an_image_of_its_packages() {
    let scene = Scene::new();
    let root = system(&scene, "root", &[("bash", "1"), ("zsh", "2")]);
    let image = build(&scene, &root, "one", &["--label", "a=b"]);
    let found = inspect(&scene, &image);
    for (key, value) in [
        ("version", json!("13")),
        ("bootable", json!(true)),
        ("created", json!("1970-01-02T00:00:00Z")),
        ("signatures", json!(0)),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    let labels = &found["labels"];
    assert_eq!(labels["ostree.linux"], "6.1");
    assert_eq!(labels["a"], "b");
    assert_eq!(labels["ostree.commit"], found["commit"]);
    let wanted = ["bash", "initramfs", "unpackaged", "zsh"].map(String::from);
    assert_eq!(components(&found), BTreeSet::from(wanted));
    // The same from another place, and for people and in YAML.
    let copy = scene.text("copy");
    run("cp", &["-a", &root, &copy]);
    let again = inspect(&scene, &build(&scene, &copy, "two", &["--label", "a=b"]));
    assert_eq!(again["digest"], found["digest"]);
    let yaml = scene.ok(&["container", "info", &image, "--format", "yaml"]);
    let yaml: Value = serde_yaml_ng::from_str(&yaml).unwrap();
    assert_eq!(yaml, found);
    let human = scene.ok(&["container", "inspect", &image]);
    assert!(human.contains("Bootable      yes\n"), "{human}");
    assert!(human.contains("  a=b\n"), "{human}");
}

#[test]
fn a_commit_holds_what_it_can_of_a_root() {
    let scene = Scene::new();
    let root = system(&scene, "root", &[("bash", "1")]);
    let found = paths(&scene, &build(&scene, &root, "one", &[]), "repo");
    let has = |start: &str, end: &str| {
        let lines = found.lines();
        let mut lines = lines.filter(|line| line.starts_with(start) && line.ends_with(end));
        lines.next().is_some()
    };
    for (start, end) in [
        ("-04711", " /usr/share/odd/setuid"),
        ("-04711", " /usr/share/odd/twice"),
        ("d01777", " /usr/share/odd/sticky"),
        ("l00777", " /usr/share/odd/dangling -> ..//none"),
        ("-", " /usr/etc/passwd"),
        ("l", " /ostree -> sysroot/ostree"),
        ("d", " /sysroot"),
        ("d", " /run"),
        ("d", " /dev"),
    ] {
        assert!(has(start, end), "{end}: {found}");
    }
    assert!(found.contains("/usr/share/odd/a, b\nä\n"), "{found}");
    for gone in [
        "socket",
        "pipe",
        "/run/lock",
        "/tmp/left",
        "/sysroot/",
        " /etc",
    ] {
        assert!(!found.contains(gone), "{gone}: {found}");
    }
}

#[test]
fn files_are_labelled_by_the_policy_in_the_root() {
    let scene = Scene::new();
    let root = system(&scene, "root", &[("bash", "1")]);
    let write = |path: &str, text: &str| {
        let path = scene.path("root/etc/selinux").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("config", "SELINUX=enforcing\nSELINUXTYPE=mini\n");
    write("mini/policy/policy.33", "policy");
    let rules = "/.* u:r:any:s0\n/usr/bin/.* -- u:r:bin:s0\n/etc/passwd -- u:r:passwd:s0\n";
    write("mini/contexts/files/file_contexts", rules);
    let repo = scene.repo("repo");
    let image = build(&scene, &root, "one", &[]);
    let import = ["container", "unencapsulate", "-q", "--repo", &repo, &image];
    let commit = scene.ok(&import);
    let listing = run("ostree", &["ls", "--repo", &repo, "-RX", commit.trim()]);
    for (path, label) in [
        ("/usr/bin/bash", "bin"),
        ("/usr/etc/passwd", "passwd"),
        ("/usr/lib/os-release", "any"),
        ("/usr/bin", "any"),
    ] {
        let line = listing
            .lines()
            .find(|line| line.ends_with(&format!(" {path}")));
        let label = format!("b'u:r:{label}:s0'");
        assert!(line.unwrap().contains(&label), "{label}: {line:?}");
    }
}

#[test]
fn layers_without_a_change_stay_as_they_are() {
    let scene = Scene::new();
    let root = system(
        &scene,
        "root",
        &[("bash", "1"), ("fish", "1"), ("zsh", "2")],
    );
    let first = build(&scene, &root, "one", &[]);
    let new = system(&scene, "new", &[("bash", "2"), ("fish", "1"), ("zsh", "2")]);
    let second = build(&scene, &new, "two", &["--previous-build", &first]);
    let (before, after) = (inspect(&scene, &first), inspect(&scene, &second));
    let (old, new) = (layers(&before), layers(&after));
    for layer in before["layers"].as_array().unwrap() {
        let names = layer["components"].as_array().unwrap();
        let changed = layer["kind"] == "base"
            || names.contains(&json!("bash"))
            || names.contains(&json!("unpackaged"));
        let digest = layer["digest"].as_str().unwrap();
        assert_eq!(new.contains(digest), !changed, "{layer}");
    }
    let compared = ["container", "compare", &first, &second, "--format", "json"];
    let compared: Value = serde_json::from_slice(&scene.bytes(&compared)).unwrap();
    let digests = |key: &str| -> BTreeSet<String> {
        let layers = compared[key]["layers"].as_array().unwrap().iter();
        layers
            .map(|l| l["digest"].as_str().unwrap().into())
            .collect()
    };
    let owned = |set: BTreeSet<&str>| set.into_iter().map(String::from).collect::<BTreeSet<_>>();
    assert_eq!(digests("added"), owned(&new - &old));
    assert_eq!(digests("removed"), owned(&old - &new));
    assert_eq!(digests("shared"), owned(&old & &new));
    let changed = json!([{"name": "bash", "old": "1", "new": "2"}]);
    let packages = json!({"added": [], "removed": [], "changed": changed});
    assert_eq!(compared["packages"], packages);
    // A build of another program tells nothing, and does no harm.
    let foreign = scene.text("foreign");
    run("umoci", &["init", "--layout", &foreign]);
    run("umoci", &["new", "--image", &format!("{foreign}:x")]);
    let foreign = format!("oci:{foreign}:x");
    build(&scene, &root, "three", &["--previous-build", &foreign]);
    let third = inspect(&scene, &format!("oci:{}:three", scene.text("images")));
    assert_eq!(third["commit"], before["commit"]);
}

#[test]
fn an_image_is_made_anew_of_an_image() {
    let scene = Scene::new();
    let root = system(&scene, "root", &[("bash", "1")]);
    let first = build(&scene, &root, "one", &["--label", "vendor=x"]);
    let second = format!("oci:{}:two", scene.text("images"));
    let args = [
        "container",
        "build-chunked",
        "--from",
        &first,
        "--output",
        &second,
        "--max-layers",
        "2",
    ];
    scene.ok_at_epoch(&args);
    let found = inspect(&scene, &second);
    assert_eq!(found["layers"].as_array().unwrap().len(), 2);
    assert_eq!(found["labels"]["vendor"], "x");
    assert_eq!(found["version"], "13");
    let (one, two) = (
        paths(&scene, &first, "one"),
        paths(&scene, &second, "other"),
    );
    similar_asserts::assert_eq!(one, two);
}

#[test]
fn what_is_no_system_is_refused() {
    let scene = Scene::new();
    fs::create_dir(scene.path("empty")).unwrap();
    let file = scene.write("file", b"");
    let root = system(&scene, "root", &[("bash", "1")]);
    let image = format!("oci:{}:x", scene.text("images"));
    let try_with = |args: &[&str]| {
        let base = ["container", "build-chunked", "--output", &image];
        scene.run(&[&base[..], args].concat())
    };
    let empty = scene.text("empty");
    refused(&try_with(&[]), 2, "--rootfs");
    let missing = scene.text("missing");
    refused(&try_with(&["--rootfs", &missing]), 2, "is no directory");
    refused(&try_with(&["--rootfs", &file]), 2, "is no directory");
    refused(&try_with(&["--rootfs", &empty]), 2, "--allow-unbootable");
    let none = format!("oci:{}:none", scene.text("images"));
    refused(&try_with(&["--from", &none]), 3, "does not exist");
    let previous = ["--rootfs", &root, "--previous-build", &none];
    refused(&try_with(&previous), 3, "previous build");
    let second = scene.path("root/usr/lib/modules/6.2");
    fs::create_dir(&second).unwrap();
    fs::write(second.join("vmlinuz"), "2").unwrap();
    refused(&try_with(&["--rootfs", &root]), 2, "6.1, 6.2");
    fs::remove_dir_all(second).unwrap();
    fs::create_dir(scene.path("root/usr/etc")).unwrap();
    refused(&try_with(&["--rootfs", &root]), 2, "/usr/etc");
    fs::remove_dir(scene.path("root/usr/etc")).unwrap();
    fs::write(scene.path("root/var/lib/dpkg/status"), vec![b'x'; 2 << 20]).unwrap();
    refused(&try_with(&["--rootfs", &root]), 1, "/var/lib/dpkg/status");
    let broken = scene.path("root/usr/share/rpm");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("rpmdb.sqlite"), [b'x'; 9000]).unwrap();
    fs::write(scene.path("root/var/lib/dpkg/status"), "").unwrap();
    let words = "repair it with its package manager";
    refused(&try_with(&["--rootfs", &root]), 1, words);
    fs::remove_dir_all(broken).unwrap();
    symlink(
        std::ffi::OsStr::from_bytes(b"\xff"),
        scene.path("root/usr/no"),
    )
    .unwrap();
    refused(&try_with(&["--rootfs", &root]), 1, "Reading /usr/no");
    fs::remove_file(scene.path("root/usr/no")).unwrap();
    fs::write(
        scene
            .path("root/usr")
            .join(std::ffi::OsStr::from_bytes(b"\xff")),
        "",
    )
    .unwrap();
    refused(
        &try_with(&["--rootfs", &root]),
        1,
        "Reading the directory /usr",
    );
    assert!(!scene.path("images").exists());
    let allowed = ["--rootfs", &empty, "--allow-unbootable"];
    assert!(try_with(&allowed).status.success());
    assert_eq!(inspect(&scene, &image)["bootable"], false);
}

#[test]
fn packages_of_ordinary_images_are_compared() {
    if !has("umoci") {
        return;
    }
    let scene = Scene::new();
    let layout = scene.text("images");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &format!("{layout}:base")]);
    // One file for each package, as in images without a package manager.
    for (base, tag, name, version) in [
        ("base", "base", "libc", "1"),
        ("base", "old", "tool", "1"),
        ("base", "new", "libc", "2"),
    ] {
        let status = scene.write("status", package((name, version)).as_bytes());
        let path = format!("/var/lib/dpkg/status.d/{name}");
        let image = format!("{layout}:{base}");
        run(
            "umoci",
            &["insert", "--image", &image, "--tag", tag, &status, &path],
        );
    }
    let image = |tag: &str| format!("oci:{layout}:{tag}");
    let packages = |old: &str, new: &str| -> Value {
        let (old, new) = (image(old), image(new));
        let text = scene.bytes(&["container", "compare", &old, &new, "--format", "json"]);
        serde_json::from_slice::<Value>(&text).unwrap()["packages"].clone()
    };
    let named = |name: &str, version: &str| json!([{"name": name, "version": version}]);
    let libc = json!([{"name": "libc", "old": "1", "new": "2"}]);
    let wanted = json!({"added": [], "removed": named("tool", "1"), "changed": libc});
    assert_eq!(packages("old", "new"), wanted);
    let wanted = json!({"added": named("tool", "1"), "removed": [], "changed": []});
    assert_eq!(packages("base", "old"), wanted);
    let missing = scene.run(&["container", "compare", &image("old"), &image("none")]);
    refused(&missing, 3, "check the name and the tag");
}
