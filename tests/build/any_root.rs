//! Whatever a root file system holds: an image is made of it, twice the same, and what is fetched of the image
//! is the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;

use crate::scene::{Scene, run};

/// What may stand under a name.
#[derive(Debug, Clone)]
enum Node {
    File(u32, Vec<u8>),
    Link(String),
    /// Another name of what came before, by its number.
    Twice(usize),
    Dir(u32, Vec<(String, Node)>),
}

fn node() -> impl Strategy<Value = Node> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0; 70_000]),
        Just(b"often the same".to_vec()),
    ];
    let mode = prop::sample::select(vec![0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1644, 0o444]);
    let leaf = prop_oneof![
        4 => (mode, content).prop_map(|(mode, content)| Node::File(mode, content)),
        1 => "[a-zé/.]{1,9}".prop_map(Node::Link),
        1 => any::<usize>().prop_map(Node::Twice),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let mode = prop::sample::select(vec![0o755, 0o700, 0o1777, 0o2755]);
        (mode, entries(inner)).prop_map(|(mode, entries)| Node::Dir(mode, entries))
    })
}

fn entries(node: impl Strategy<Value = Node>) -> impl Strategy<Value = Vec<(String, Node)>> {
    let name = "[a-z,:%=# é-]{1,12}|[.]w?h?[.]?[a-z]{1,3}";
    prop::collection::vec((name, node), 0..6)
}

/// Makes what a generator thought of; names that are taken are left out.
fn make(dir: &Path, nodes: &[(String, Node)], made: &mut Vec<std::path::PathBuf>) {
    for (name, node) in nodes {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        let mode = |mode: &u32| fs::set_permissions(&path, fs::Permissions::from_mode(*mode));
        match node {
            Node::File(bits, content) => {
                fs::write(&path, content).unwrap();
                mode(bits).unwrap();
                made.push(path);
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Twice(number) if !made.is_empty() => {
                fs::hard_link(&made[number % made.len()], &path).unwrap();
            }
            Node::Twice(_) => {}
            Node::Dir(bits, below) => {
                fs::create_dir(&path).unwrap();
                make(&path, below, made);
                mode(bits).unwrap();
            }
        }
    }
}

/// Each path with its mode, its owner, and its content or target.
type Tree = BTreeMap<String, (u32, u32, u32, Vec<u8>)>;

fn walk(dir: &Path, path: &str, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        let meta = entry.path().symlink_metadata().unwrap();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => {
                let target = fs::read_link(entry.path()).unwrap();
                target.into_os_string().into_encoded_bytes()
            }
            kind if kind.is_file() => fs::read(entry.path()).unwrap(),
            _ => {
                walk(&entry.path(), &path, tree);
                Vec::new()
            }
        };
        tree.insert(path, (meta.mode(), meta.uid(), meta.gid(), content));
    }
}

/// The same of a commit.
fn listed(repo: &str) -> Tree {
    let mut tree = Tree::new();
    for line in run("ostree", &["ls", "--repo", repo, "-R", "it", "/usr/data"]).lines() {
        // As in `-00644 0 0     10 /usr/bin/a` and `l00777 0 0      0 /usr/bin/b -> a`.
        let (facts, path) = line.split_once(" /").unwrap();
        let mut facts = facts.split_whitespace();
        let mode = facts.next().unwrap();
        let (kind, bits) = mode.split_at(1);
        let bits = u32::from_str_radix(bits, 8).unwrap();
        let mut number = || facts.next().unwrap().parse().unwrap();
        let (uid, gid) = (number(), number());
        let path = format!("/{path}");
        let (kind, path, content) = match kind {
            "d" => (0o040_000, path, Vec::new()),
            "l" => {
                let (path, target) = path.split_once(" -> ").unwrap();
                (0o120_000, path.to_string(), target.into())
            }
            _ => {
                let content = run_bytes("ostree", &["cat", "--repo", repo, "it", &path]);
                (0o100_000, path, content)
            }
        };
        tree.insert(path, (kind | bits, uid, gid, content));
    }
    tree.remove("/usr/data");
    tree
}

fn run_bytes(program: &str, args: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new(program).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}");
    output.stdout
}

#[test]
fn directories_may_lie_deep_in_each_other() {
    let scene = Scene::new();
    let data = scene.path("root/usr/data");
    fs::create_dir_all(data.join("d/".repeat(900))).unwrap();
    fs::write(data.join("d/".repeat(900) + "file"), "x").unwrap();
    let (root, image) = (scene.text("root"), scene.image("image"));
    let args = ["container", "build-chunked", "--allow-unbootable"];
    scene.ok(&[&args[..], &["--rootfs", &root, "--output", &image]].concat());
    let repo = scene.taken(&image, "repo", "it");
    let listing = run("ostree", &["ls", "--repo", &repo, "-R", "it", "/usr/data"]);
    assert_eq!(listing.lines().count(), 902);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_root_comes_back(nodes in entries(node()), layers in 1u32..9, version in 1u32..3) {
        let scene = Scene::new();
        let data = scene.path("root/usr/data");
        fs::create_dir_all(&data).unwrap();
        make(&data, &nodes, &mut Vec::new());
        let (root, layers, version) = (scene.text("root"), layers.to_string(), version.to_string());
        let build = |name: &str, more: &[&str]| {
            let image = scene.image(name);
            let args = ["container", "build-chunked", "--allow-unbootable", "--rootfs", &root, "--output", &image];
            let shape = ["--max-layers", &layers, "--format-version", &version, "--compression", "zstd"];
            (scene.ok_at_epoch(&[&args[..], &shape, more].concat()), image)
        };
        let (first, image) = build("one", &[]);
        prop_assert_eq!(&first, &build("two", &[]).0);
        // With itself as its previous build, nothing is to be fetched again.
        build("three", &["--previous-build", &image]);
        let digests = |name: &str| -> Vec<serde_json::Value> {
            let (manifest, _) = scene.parts(name);
            let layers = manifest["layers"].as_array().unwrap();
            let mut digests: Vec<_> = layers.iter().map(|l| l["digest"].clone()).collect();
            digests.sort_by_key(ToString::to_string);
            digests
        };
        prop_assert!(digests("one").len() <= layers.parse().unwrap());
        prop_assert_eq!(digests("one"), digests("three"));
        let repo = scene.taken(&image, "repo", "it");
        let mut wanted = Tree::new();
        walk(&data, "/usr/data", &mut wanted);
        prop_assert_eq!(listed(&repo), wanted);
    }
}
