//! `bowline oci unpack` from outside. What needs root says so where it cannot run.

use std::process::Output;

use bowline::testing::ImageBuilder;

use crate::host::{can_mount, in_namespace};
use crate::scene::{Scene, plain, stderr};

fn unpack(scene: &Scene, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bowline"));
    command
        .args(["-q", "oci", "unpack"])
        .args(args)
        .env_clear()
        .env("CONTAINERS_POLICY_JSON", scene.policy());
    command.output().unwrap()
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_made() {
    let scene = Scene::new();
    let image = scene.offer(&plain("hello"), "1");
    let dir = scene.dir.path().join("dir");
    let dir = dir.to_str().unwrap();
    let zeros = "0".repeat(64);
    let digest = format!("sha256:{zeros}");
    let other = match bowline::image::host_arch().as_str() {
        "s390x" => "amd64",
        _ => "s390x",
    };
    for (args, code, words) in [
        (vec!["--arch", other, &image, dir], 7, "is needed"),
        (vec!["--digest", &digest, &image, dir], 3, "is corrupt"),
        (vec!["--digest", "md5:00", &image, dir], 2, "not supported"),
        (vec!["--sha256", &zeros, &image, dir], 2, "behind a URL"),
        (vec!["HTTPS://localhost:1/x.tar", dir], 2, "--sha256"),
        (
            vec!["--sha256", &digest, "HTTP://example.com/x.tar", dir],
            2,
            "is not an https URL",
        ),
        (vec![&image, "/"], 2, "is not an empty directory"),
        (vec![&image, "/dev/null"], 2, "is not an empty directory"),
    ] {
        let output = unpack(&scene, &args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert!(!scene.dir.path().join("dir").exists());
}

#[test]
fn a_link_to_an_empty_directory_is_that_directory() {
    let scene = Scene::new();
    let image = scene.offer(&plain("hello"), "1");
    let at = |name: &str| scene.dir.path().join(name);
    std::fs::create_dir(at("real")).unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    let output = unpack(&scene, &[&image, at("link").to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(at("real/usr/bin/hello").exists() && at("link").is_symlink());
    let output = unpack(&scene, &[&image, at("dangling").to_str().unwrap()]);
    assert!(stderr(&output).contains("is not an empty directory"));
}

/// What a mount and a user without rights have to do with.
fn image() -> bowline::testing::Image {
    let lines = "dir /ro 0 0 500\nfile /ro/in 0 0 400 x\nfile /usr/bin/su 0 0 4755 su\n\
                 fifo /pipe\nchar /null 1 3\nfile /usr/owned 7 8 640 x";
    let image = ImageBuilder::default().derived(lines).unwrap();
    image
        .derived("whiteout /ro/in\nfile /ro/new 0 0 644 new")
        .unwrap()
        .build()
}

#[test]
fn an_image_is_unpacked_to_what_is_mounted() {
    if !can_mount() {
        return;
    }
    let script = r#"
        mkdir $DIR/mounted $DIR/bound
        mount -t tmpfs -o mode=755 tmpfs $DIR/mounted
        mkdir $DIR/mounted/lost+found
        mount --bind $DIR/bound $DIR/bound
        for dir in mounted bound; do
            $BOWLINE -q oci unpack $IMAGE $DIR/$dir >&2
            cd $DIR/$dir
            stat -c '%n %A %u %g' . $(ls -A) usr/owned usr/bin/su ro/new
        done
        cd /
        code=0; $BOWLINE -q oci unpack $IMAGE $DIR/bound || code=$?
        ls -A $DIR | grep new >&2 || exit $code
    "#;
    let scene = Scene::new();
    let output = in_namespace(&scene, &scene.offer(&image(), "1"), script);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("bound is there already and is not an empty"),
        "{said}"
    );
    let tree = "pipe prw-r--r-- 0 0\n\
                ro dr-x------ 0 0\n\
                usr drwxr-xr-x 0 0\n\
                usr/owned -rw-r----- 7 8\n\
                usr/bin/su -rwsr-xr-x 0 0\n\
                ro/new -rw-r--r-- 0 0\n";
    let expected =
        format!(". drwx------ 0 0\nlost+found drwxr-xr-x 0 0\n{tree}. drwx------ 0 0\n{tree}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn somebody_else_than_root_gets_files_of_their_own() {
    if !can_mount() {
        return;
    }
    // The program lies where other users may not look: it is copied.
    let script = r#"
        chmod 755 $DIR
        cp $BOWLINE $DIR/bowline
        mkdir $DIR/theirs
        chown 65534 $DIR/theirs
        chmod -R a+rX $DIR/layout $CONTAINERS_POLICY_JSON
        as="setpriv --reuid 65534 --regid 65534 --clear-groups"
        $as $DIR/bowline oci unpack $IMAGE $DIR/theirs/dir >&2
        cd $DIR/theirs/dir
        stat -c '%n %A %u' . * usr/owned usr/bin/su ro/*
        cd /
        code=0; $as $DIR/bowline -q oci unpack $IMAGE $DIR/dir || code=$?
        ls -A $DIR | grep new >&2 || exit $code
    "#;
    let scene = Scene::new();
    let output = in_namespace(&scene, &scene.offer(&image(), "1"), script);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1 device of the image was left out"),
        "{said}"
    );
    assert!(said.contains("Permission denied"), "{said}");
    let expected = ". drwx------ 65534\n\
                    pipe prw-r--r-- 65534\n\
                    ro dr-x------ 65534\n\
                    usr drwxr-xr-x 65534\n\
                    usr/owned -rw-r----- 65534\n\
                    usr/bin/su -rwxr-xr-x 65534\n\
                    ro/new -rw-r--r-- 65534\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
