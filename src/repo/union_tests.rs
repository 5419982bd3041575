//! Tests of the union: it is what a plain map of paths gives, and it leaves alone what it need not read.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Trees in memory. Files whose name here begins with `link` are symbolic links.
#[derive(Debug, Default)]
struct Store {
    trees: HashMap<Digest, Vec<u8>>,
    links: Vec<Digest>,
    labels: bool,
    read: RefCell<usize>,
}

impl TreeReader for Store {
    fn tree(&self, checksum: Digest) -> Result<Vec<u8>> {
        *self.read.borrow_mut() += 1;
        self.trees.get(&checksum).cloned().context("no such tree")
    }

    fn is_symlink(&self, checksum: Digest) -> Result<bool> {
        Ok(self.links.contains(&checksum))
    }
}

impl TreeWriter for Store {
    fn write_tree(&mut self, data: &[u8]) -> Result<Digest> {
        self.trees.insert(Digest::of(data), data.into());
        Ok(Digest::of(data))
    }

    fn labels(&self) -> bool {
        self.labels
    }

    fn file(&mut self, path: &str, object: Digest) -> Result<Digest> {
        Ok(match self.labels {
            true => digest(&format!("{path} {object}")),
            false => object,
        })
    }

    fn dir(&mut self, path: &str, meta: Digest) -> Result<Digest> {
        self.file(path, meta)
    }
}

/// What stands at each path; the root is "".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    File(Digest),
    Dir(Digest),
}

type Paths = BTreeMap<String, Thing>;

fn write(store: &mut Store, paths: &Paths, at: &str, layered: bool) -> Part {
    let mut tree = TreeBuilder::default();
    let inside = format!("{at}/");
    for (path, thing) in paths.range(inside.clone()..) {
        let Some(name) = path
            .strip_prefix(&inside)
            .filter(|name| !name.contains('/'))
        else {
            continue;
        };
        match thing {
            Thing::File(file) => tree.file(name, file.as_bytes()),
            Thing::Dir(_) => {
                let part = write(store, paths, path, layered);
                tree.dir(name, part.tree.as_bytes(), part.meta.as_bytes());
            }
        }
    }
    let Some(Thing::Dir(meta)) = paths.get(at) else {
        panic!("{at} is no directory");
    };
    Part {
        tree: store.write_tree(&tree.finish()).unwrap(),
        meta: *meta,
        layered,
    }
}

fn read(store: &Store, tree: Digest, meta: Digest, at: &str, out: &mut Paths) {
    out.insert(at.to_owned(), Thing::Dir(meta));
    let data = store.tree(tree).unwrap();
    for entry in DirTree::parse(&data).unwrap().entries() {
        let path = format!("{at}/{}", entry.name());
        match entry {
            Entry::File(_, file) => {
                out.insert(path, Thing::File(Digest::from_bytes(*file)));
            }
            Entry::Dir(_, tree, meta) => {
                let (tree, meta) = (Digest::from_bytes(*tree), Digest::from_bytes(*meta));
                read(store, tree, meta, &path, out);
            }
        }
    }
}

/// The slow way: one path after the other, all whiteouts of a layer first.
fn apply(paths: &mut Paths, layer: &Paths, links: &[Digest]) {
    let is_link = |thing: &Thing| matches!(thing, Thing::File(file) if links.contains(file));
    let whiteout = |path: &str, thing: &Thing| -> Option<(String, String)> {
        let (dir, name) = path.rsplit_once('/')?;
        let hides = name.strip_prefix(".wh.").filter(|_| !is_link(thing))?;
        matches!(thing, Thing::File(_)).then(|| (dir.to_owned(), hides.to_owned()))
    };
    let remove = |paths: &mut Paths, root: &str| {
        let below = format!("{root}/");
        paths.retain(|path, _| path != root && !path.starts_with(&below));
    };
    for (dir, hides) in layer
        .iter()
        .filter_map(|(path, thing)| whiteout(path, thing))
    {
        let below = format!("{dir}/");
        match hides.as_str() {
            ".wh..opq" => {
                paths.retain(|path, _| !path.starts_with(&below));
                // Its metadata is the layer's from here on.
                paths.remove(&dir);
            }
            hides => remove(paths, &format!("{dir}/{hides}")),
        }
    }
    for (path, thing) in layer
        .iter()
        .filter(|(path, thing)| whiteout(path, thing).is_none())
    {
        match (paths.get(path), thing) {
            (Some(Thing::Dir(_)), Thing::Dir(_)) => {}
            _ => {
                remove(paths, path);
                paths.insert(path.clone(), *thing);
            }
        }
    }
}

/// Layers with few names, so that they meet. A file is in the way of what is below it.
fn layer() -> impl Strategy<Value = Vec<(String, u8)>> {
    let path = "(/(a|b|c)){0,2}/(a|b|c|\\.wh\\.a|\\.wh\\.b|\\.wh\\.\\.wh\\.\\.opq)";
    vec((path, 0..6_u8), 0..10)
}

fn paths(number: usize, entries: &[(String, u8)]) -> Paths {
    let mut paths = Paths::new();
    paths.insert(String::new(), Thing::Dir(digest(&format!("root {number}"))));
    for (path, kind) in entries {
        let parents: Vec<&str> = path
            .match_indices('/')
            .map(|(end, _)| &path[..end])
            .collect();
        if parents
            .iter()
            .any(|p| matches!(paths.get(*p), Some(Thing::File(_))))
        {
            continue;
        }
        for parent in parents {
            let meta = digest(&format!("{number} {parent}"));
            paths.entry(parent.to_owned()).or_insert(Thing::Dir(meta));
        }
        let name = format!("{number} {path}");
        let thing = match kind {
            0 | 1 => Thing::Dir(digest(&name)),
            2 => Thing::File(digest("link")),
            _ => Thing::File(digest(&name)),
        };
        paths.entry(path.clone()).or_insert(thing);
    }
    paths
}

proptest! {
    #[test]
    fn a_union_is_what_paths_over_paths_give(
        layers in vec(layer(), 1..5), based: bool, labels: bool, gone in 0..4_usize,
    ) {
        let mut store = Store { links: vec![digest("link")], ..Store::default() };
        let layers: Vec<Paths> = layers.iter().enumerate().map(|(n, l)| paths(n, l)).collect();
        let mut parts = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            parts.push(write(&mut store, layer, "", number > 0 || !based));
        }
        let mut expected = Paths::new();
        for (number, layer) in layers.iter().enumerate() {
            match number {
                0 if based => expected = layer.clone(),
                _ => apply(&mut expected, layer, &store.links),
            }
        }
        let without = ["", "/a", "/a/b", "/b/a/c"][gone].to_owned();
        expected.retain(|path, thing| *path != without || matches!(thing, Thing::Dir(_)));
        if labels && based {
            // What is the base's gets a label.
            for (path, thing) in &mut expected {
                let root = if path.is_empty() { "/" } else { path };
                if let Some(base) = layers[0].get(path).filter(|base| *base == thing) {
                    *thing = match base {
                        Thing::Dir(meta) => Thing::Dir(digest(&format!("{root} {meta}"))),
                        Thing::File(file) if !is_above(&layers[1..], path, *file) => {
                            Thing::File(digest(&format!("{root} {file}")))
                        }
                        Thing::File(_) => *thing,
                    };
                }
            }
        }
        store.labels = labels;
        let written = Union::of(parts).write(&mut store, &[without]);
        let (tree, meta) = written.unwrap();
        let mut found = Paths::new();
        read(&store, tree, meta, "", &mut found);
        prop_assert_eq!(found, expected);
    }
}

/// Whether a layer above brings the same file at the same path: links are all the same.
fn is_above(layers: &[Paths], path: &str, file: Digest) -> bool {
    layers
        .iter()
        .any(|layer| layer.get(path) == Some(&Thing::File(file)))
}

fn tree_of(names: &[&str]) -> Paths {
    let names: Vec<_> = names.iter().map(|name| (format!("/{name}"), 3)).collect();
    paths(0, &names)
}

#[test]
fn what_only_the_lowest_has_is_not_read() {
    let mut store = Store::default();
    let base = write(
        &mut store,
        &tree_of(&["a/x/1", "a/y/2", "b/z/3", "c"]),
        "",
        false,
    );
    let upper = write(&mut store, &tree_of(&["a/x/4"]), "", true);
    *store.read.borrow_mut() = 0;
    assert_eq!(
        Union::of(vec![base]).write(&mut store, &[]).unwrap(),
        (base.tree, base.meta)
    );
    assert_eq!(*store.read.borrow(), 0);
    Union::of(vec![base, upper]).write(&mut store, &[]).unwrap();
    // The root, a and a/x of both.
    assert_eq!(*store.read.borrow(), 6);
}

#[test]
fn names_that_do_not_count_hide_nothing() {
    let mut store = Store::default();
    let base = write(&mut store, &tree_of(&["opt", "usr/a"]), "", false);
    let upper = write(
        &mut store,
        &tree_of(&[".wh.opt", "srv", "usr/.wh.a", "usr/srv"]),
        "",
        true,
    );
    let union = Union {
        keep: |name| name == "usr",
        ..Union::of(vec![base, upper])
    };
    let (tree, meta) = union.write(&mut store, &[]).unwrap();
    let mut found = Paths::new();
    read(&store, tree, meta, "", &mut found);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["", "/opt", "/usr", "/usr/srv"]
    );
}

#[test]
fn a_whiteout_of_nothing_is_refused_and_so_is_endless_nesting() {
    let mut store = Store::default();
    let bad = write(&mut store, &tree_of(&["a/.wh."]), "", true);
    let error = format!(
        "{:#}",
        Union::of(vec![bad]).write(&mut store, &[]).unwrap_err()
    );
    assert!(error.contains("names nothing"), "{error}");
    let deep = vec!["d"; MAX_DEPTH + 2].join("/");
    let deep = write(&mut store, &tree_of(&[&deep]), "", true);
    assert!(Union::of(vec![deep]).write(&mut store, &[]).is_err());
}

#[test]
fn things_are_found_by_path() {
    let mut store = Store::default();
    let base = write(
        &mut store,
        &tree_of(&["usr/etc/hostname", "usr/etc/a", "b"]),
        "",
        false,
    );
    let upper = write(
        &mut store,
        &tree_of(&["usr/etc/.wh.a", "usr/etc/c"]),
        "",
        true,
    );
    let union = Union::of(vec![base, upper]);
    let etc = union.find(&["usr", "etc"], &store).unwrap().unwrap();
    let names: Vec<_> = etc
        .entries(&store)
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["c", "hostname"]);
    assert_eq!(etc.file("c", &store).unwrap(), Some(digest("0 /usr/etc/c")));
    assert_eq!(etc.file("a", &store).unwrap(), None);
    for nowhere in [&["b"][..], &["usr", "etc", "c"], &["x", "y"]] {
        assert!(
            union.find(nowhere, &store).unwrap().is_none(),
            "{nowhere:?}"
        );
    }
}
