//! Bowline pulls what the peer made and gets the commit that went in; both store the same image in
//! the same way, and each reads the other's repository. Needs root, `ostree`, `skopeo`, `buildah`,
//! `setfattr`.

mod common;

use common::{
    Form, World, bowline, can_mount, fsck, image_commit, metadata, peer, refs, run, tree,
};

fn pull(repo: &str, image: &str) {
    bowline(&["image", "--repo", repo, "pull", image]);
    fsck(repo);
}

fn peer_pull(repo: &str, image: &str) {
    let image = format!("ostree-unverified-image:{image}");
    peer(&["container", "image", "pull", repo, &image]);
}

#[test]
fn the_commit_that_went_in_comes_out() {
    let world = World::new();
    for (form, name) in [(Form::Plain, "plain"), (Form::Chunked, "chunked")] {
        let gzip = world.encapsulate(&world.commit, form, name);
        let zstd = world.as_zstd(&gzip, &format!("{name}-zstd"));
        for (image, repo) in [(gzip, name.to_string()), (zstd, format!("{name}-z"))] {
            let repo = world.new_repo(&format!("repo-{repo}"));
            pull(&repo, &image);
            let commits: Vec<String> = refs(&repo).into_iter().map(|(_, c)| c).collect();
            assert!(commits.contains(&world.commit), "{image}: {commits:?}");
            assert_eq!(
                tree(&repo, &image_commit(&repo)),
                tree(&repo, &world.commit),
                "{image}"
            );
        }
    }
}

#[test]
fn both_store_an_image_in_the_same_way() {
    let world = World::new();
    for (form, name) in [(Form::Plain, "plain"), (Form::Chunked, "chunked")] {
        let image = world.encapsulate(&world.commit, form, name);
        let ours = world.new_repo(&format!("ours-{name}"));
        let theirs = world.new_repo(&format!("theirs-{name}"));
        pull(&ours, &image);
        peer_pull(&theirs, &image);
        let layers = |repo: &str| {
            let all = refs(repo).into_iter();
            let layers = all.filter(|(name, _)| name.starts_with("ostree/container/blob/"));
            layers.collect::<Vec<_>>()
        };
        assert_eq!(layers(&ours), layers(&theirs), "{image}");
        same_merge_commit(&ours, &theirs);
    }
}

#[test]
fn layers_on_top_give_the_same_tree() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let image = world.encapsulate(&world.commit, Form::Chunked, "image");
    let image = world.derive(&image, "derived");
    let (ours, theirs) = (world.new_repo("ours"), world.new_repo("theirs"));
    pull(&ours, &image);
    peer_pull(&theirs, &image);
    same_merge_commit(&ours, &theirs);
    let merged = tree(&ours, &image_commit(&ours));
    for (path, there) in [
        ("/usr/etc/layer.conf", true),
        ("/usr/bin/tool", true),
        ("/usr/bin/hi", false),
    ] {
        assert_eq!(
            merged.lines().any(|l| l.split(' ').any(|w| w == path)),
            there,
            "{path}"
        );
    }
    // The peer dates a layer's commit with the hour of the pull; the names and trees are the same.
    let layers = |repo: &str| {
        let names = refs(repo).into_iter();
        let layers = names.map(|(name, commit)| (name, tree(repo, &commit)));
        layers.collect::<Vec<_>>()
    };
    assert_eq!(layers(&ours), layers(&theirs));
}

/// Same ref, tree, time, manifest, digest and config; the importer's version is each program's own.
fn same_merge_commit(ours: &str, theirs: &str) {
    let names = |repo: &str| refs(repo).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs));
    let (our, their) = (image_commit(ours), image_commit(theirs));
    assert_eq!(tree(ours, &our), tree(theirs, &their));
    let digest = |repo, commit| metadata(repo, commit, "ostree.manifest-digest");
    assert_eq!(digest(ours, &our), digest(theirs, &their));
    for key in ["ostree.manifest", "ostree.container.image-config"] {
        assert_eq!(json(ours, &our, key), json(theirs, &their, key), "{key}");
    }
    let date = |repo, commit| {
        let shown = run("ostree", &["show", "--repo", repo, commit]);
        shown
            .lines()
            .find(|l| l.starts_with("Date:"))
            .unwrap()
            .to_string()
    };
    assert_eq!(date(ours, &our), date(theirs, &their));
}

/// Metadata that holds JSON, without what the peer adds when it writes a manifest anew.
fn json(repo: &str, commit: &str, key: &str) -> serde_json::Value {
    let text = metadata(repo, commit, key);
    let text = text
        .trim()
        .trim_matches('\'')
        .replace("\\\"", "\"")
        .replace("\\\\", "\\");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{key}: {e}: {text}"))
}

#[test]
fn each_reads_what_the_other_pulled() {
    let world = World::new();
    let image = world.encapsulate(&world.commit, Form::Chunked, "image");
    let (ours, theirs) = (world.new_repo("ours"), world.new_repo("theirs"));
    pull(&ours, &image);
    peer_pull(&theirs, &image);
    let peer_list = |repo: &str| peer(&["container", "image", "list", "--repo", repo]);
    assert_eq!(peer_list(&ours), format!("{image}\n"));
    assert_eq!(peer_list(&ours), peer_list(&theirs));
    let history = |repo: &str| peer(&["container", "image", "history", "--repo", repo, &image]);
    assert_eq!(history(&ours), history(&theirs));
    let own_list = |repo: &str| {
        let text = bowline(&["image", "--repo", repo, "list", "--format", "json"]);
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        // The importers' merge commits differ in their own version only.
        drop_key(&mut value, "commit");
        value
    };
    assert_eq!(own_list(&ours), own_list(&theirs));
    let own_history = |repo: &str| bowline(&["image", "--repo", repo, "history", &image]);
    assert_eq!(own_history(&ours), own_history(&theirs));
}

fn drop_key(value: &mut serde_json::Value, key: &str) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove(key);
            map.values_mut().for_each(|v| drop_key(v, key));
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|v| drop_key(v, key)),
        _ => {}
    }
}

#[test]
fn layers_of_the_other_are_reused() {
    let world = World::new();
    let one = world.encapsulate(&world.commit, Form::Chunked, "one");
    let two = world.encapsulate(&world.next_version("2"), Form::Chunked, "two");
    let (ours, theirs) = (world.new_repo("ours"), world.new_repo("theirs"));
    peer_pull(&theirs, &one);
    remove_shared_blobs(&world, "one", "two");
    pull(&theirs, &two);
    let one = world.encapsulate(&world.commit, Form::Chunked, "one-again");
    pull(&ours, &one);
    peer_pull(&ours, &two);
    fsck(&ours);
}

/// Takes the layers that `old` has as well out of `new`: whoever asks for one fails.
fn remove_shared_blobs(world: &World, old: &str, new: &str) {
    let blobs = |name: &str| world.path(name).join("blobs/sha256");
    let names = std::fs::read_dir(blobs(new))
        .unwrap()
        .map(|e| e.unwrap().file_name());
    let shared: Vec<_> = names.filter(|n| blobs(old).join(n).exists()).collect();
    assert!(!shared.is_empty(), "the two versions share no layer");
    for name in shared {
        std::fs::remove_file(blobs(new).join(name)).unwrap();
    }
}
