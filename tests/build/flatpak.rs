//! Flatpaks to images and back, with flatpak itself on the other side.

use crate::scene::{Scene, has, run};

const REF: &str = "app/org.example.App/x86_64/stable";
const METADATA: &str = "[Application]\nname=org.example.App\nruntime=org.example.Platform/x86_64/stable\n\
                        sdk=org.example.Sdk/x86_64/stable\ncommand=hello\n";

/// A repository with an app that flatpak exported; its path and the commit go out.
fn app(scene: &Scene) -> (String, String) {
    let dir = scene.path("app");
    for name in ["files/bin", "files/share", "export"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    std::fs::write(dir.join("metadata"), METADATA).unwrap();
    std::fs::write(dir.join("files/bin/hello"), "#!/bin/sh\necho hi\n").unwrap();
    std::fs::hard_link(dir.join("files/bin/hello"), dir.join("files/bin/again")).unwrap();
    std::os::unix::fs::symlink("hello", dir.join("files/bin/link")).unwrap();
    std::fs::write(dir.join("files/share/empty"), "").unwrap();
    std::fs::write(dir.join("files/share/data"), vec![7; 300_000]).unwrap();
    let (repo, dir) = (scene.text("apps"), dir.to_str().unwrap().to_owned());
    let time = "--timestamp=2026-01-01T00:00:00Z";
    run("flatpak", &["build-export", time, &repo, &dir, "stable"]);
    let commit = rev(&repo);
    (repo, commit)
}

fn rev(repo: &str) -> String {
    run("ostree", &["rev-parse", "--repo", repo, REF])
        .trim()
        .into()
}

fn tree(repo: &str) -> String {
    run("ostree", &["ls", "-R", "-C", "-X", "--repo", repo, REF])
}

/// flatpak makes an image.
fn bundle(repo: &str, layout: &str) {
    let words = ["build-bundle", "--oci", repo, layout];
    run(
        "flatpak",
        &[&words[..], &["org.example.App", "stable"]].concat(),
    );
}

/// Bowline makes an image.
fn wrap(scene: &Scene, repo: &str, image: &str, more: &[&str]) {
    let words = [
        "container",
        "encapsulate",
        "--flatpak",
        "--repo",
        repo,
        REF,
        image,
    ];
    scene.ok(&[&words[..], more].concat());
}

/// Bowline takes the commit out of an image; the repository goes out.
fn taken(scene: &Scene, image: &str, name: &str) -> String {
    let repo = scene.taken(image, name, REF);
    run("ostree", &["fsck", "--quiet", "--repo", &repo]);
    repo
}

#[test]
fn what_bowline_writes_flatpak_imports() {
    if !has("flatpak") {
        return;
    }
    let scene = Scene::new();
    let (apps, commit) = app(&scene);
    for compression in ["gzip", "none"] {
        let (image, repo) = (scene.image(compression), format!("theirs-{compression}"));
        wrap(&scene, &apps, &image, &["--compression", compression]);
        let ours = taken(&scene, &image, &format!("ours-{compression}"));
        assert_eq!(rev(&ours), commit);
        let theirs = scene.repo(&repo);
        run(
            "flatpak",
            &[
                "build-import-bundle",
                "--oci",
                &theirs,
                &scene.text(compression),
            ],
        );
        // flatpak adds metadata of its own, so that its commit is another one.
        assert_eq!(tree(&theirs), tree(&apps));
        for key in ["xa.metadata", "xa.ref"] {
            let of = |repo: &str| {
                let key = format!("--print-metadata-key={key}");
                run("ostree", &["show", &key, "--repo", repo, REF])
            };
            assert_eq!(of(&theirs), of(&apps));
        }
    }
}

#[test]
fn what_flatpak_writes_gives_the_commit_that_went_in() {
    if !has("flatpak") {
        return;
    }
    let scene = Scene::new();
    let (apps, commit) = app(&scene);
    let layout = scene.text("bundle");
    bundle(&apps, &layout);
    let repo = taken(&scene, &format!("oci:{layout}"), "ours");
    assert_eq!(rev(&repo), commit);
    assert_eq!(tree(&repo), tree(&apps));
}

#[test]
fn a_commit_with_all_that_flatpak_can_say_comes_back() {
    if !has("flatpak") {
        return;
    }
    let scene = Scene::new();
    let (apps, first) = app(&scene);
    let data = "\n[Extra Data]\nname=x\nsize=3\nuri=https://example.org/x\nchecksum=";
    let metadata = format!("{METADATA}{data}{}\n", "0".repeat(64));
    scene.write("app/metadata", metadata.as_bytes());
    let more = "--subject=Süß --body=B --collection-id=org.example.Coll --token-type=1 --end-of-life=old \
                --end-of-life-rebase=org.example.New --subset=a --subset=b --timestamp=2026-01-02T00:00:00Z";
    let (dir, layout) = (scene.text("app"), scene.text("bundle"));
    let args: Vec<&str> = ["build-export"]
        .into_iter()
        .chain(more.split_whitespace())
        .collect();
    let collection = ["config", "set", "core.collection-id", "org.example.Coll"];
    let repo = format!("--repo={apps}");
    run("ostree", &[&[&*repo], &collection[..]].concat());
    run("flatpak", &[&args[..], &[&apps, &dir, "stable"]].concat());
    let commit = rev(&apps);
    assert_ne!(commit, first);
    bundle(&apps, &layout);
    let ours = scene.image("ours");
    wrap(&scene, &apps, &ours, &[]);
    for (image, repo) in [(format!("oci:{layout}"), "theirs"), (ours, "own")] {
        assert_eq!(rev(&taken(&scene, &image, repo)), commit);
    }
}

#[test]
fn an_operating_system_is_no_flatpak() {
    let scene = Scene::new();
    let fixture = bowline::testing::Fixture::new().unwrap();
    let commit = fixture.commit(bowline::testing::fixture::OS).unwrap();
    let repo = fixture.path().to_str().unwrap();
    let image = scene.image("layout");
    let args = [
        "container",
        "encapsulate",
        "--flatpak",
        "--repo",
        repo,
        &commit,
        &image,
    ];
    let output = scene.run(&args);
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("is no flatpak's: its metadata name no flatpak ref"),
        "{words}"
    );
}
