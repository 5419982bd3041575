//! Tests of the tree of an ordinary layer: order does not matter, paths land where they must.

use proptest::prelude::*;

use super::super::open_dirs::named;
use super::super::tree::memory::Trees;
use super::super::tree::walk;
use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn path(text: &str) -> Vec<String> {
    components(text.as_bytes()).unwrap()
}

const RULES: PathRules = PathRules {
    allow_nonusr: false,
    retain_var: true,
};

/// One step of building a tree.
#[derive(Debug, Clone)]
enum Step {
    Dir(String),
    File(String),
    Link(String, String),
}

fn build(steps: &[Step], store: &mut Trees) -> DerivedTree {
    let mut tree = DerivedTree::new(digest("default"));
    for step in steps {
        match step {
            Step::Dir(p) => tree.directory(store, &path(p), digest(p)).unwrap(),
            Step::File(p) => tree.file(store, &path(p), digest(p)).unwrap(),
            Step::Link(p, target) => tree.hard_link(store, &path(p), &path(target)).unwrap(),
        }
    }
    tree.resolve_links(store).unwrap();
    tree
}

/// Every path of a tree that is written, directories with a slash behind.
fn paths(tree: Digest, store: &Trees) -> BTreeMap<String, Digest> {
    let mut found = BTreeMap::new();
    collect(tree, store, "", &mut found);
    found
}

fn collect(tree: Digest, store: &Trees, at: &str, found: &mut BTreeMap<String, Digest>) {
    let data = store.read_tree(tree).unwrap();
    for entry in parse(tree, &data).unwrap().entries() {
        let path = format!("{at}/{}", entry.name());
        match entry {
            Entry::File(_, file) => drop(found.insert(path, Digest::from_bytes(*file))),
            Entry::Dir(_, tree, meta) => {
                collect(Digest::from_bytes(*tree), store, &path, found);
                found.insert(format!("{path}/"), Digest::from_bytes(*meta));
            }
        }
    }
}

proptest! {
    #[test]
    fn the_order_of_entries_does_not_matter(
        order in Just((0..8).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let dir = |p: &str| Step::Dir(p.into());
        let file = |p: &str| Step::File(p.into());
        let link = |p: &str, t: &str| Step::Link(p.into(), t.into());
        let steps = [
            dir("usr"), dir("usr/bin"), file("usr/bin/a"), link("usr/bin/b", "usr/bin/a"),
            link("usr/bin/c", "usr/bin/b"), file("etc/conf"), link("etc/conf2", "./etc//conf"),
            dir("var/empty"),
        ];
        let mut store = Trees::default();
        let expected = build(&steps, &mut store).into_commit_tree(&mut store, RULES).unwrap();
        let shuffled: Vec<Step> = order.iter().map(|i| steps[*i].clone()).collect();
        let found = build(&shuffled, &mut store).into_commit_tree(&mut store, RULES).unwrap();
        prop_assert_eq!(found, expected);
    }

    /// Whenever directories are stored on the way: the tree is the same, and what is left behind
    /// is known.
    #[test]
    fn stored_directories_are_as_good_as_open_ones(
        steps in proptest::collection::vec(
            (0..10_usize, "(usr|etc|var|run|opt)(/[ab]){1,3}", 0..4_usize, 0..20_usize), 1..60,
        ),
        few in 0..2_usize,
    ) {
        let mut store = Trees::default();
        let (mut tree, mut model) = (DerivedTree::new(digest("default")), Model::default());
        tree.dirs = OpenDirs::with_limit(few);
        for (number, (kind, p, source, _)) in steps.iter().enumerate() {
            let object = digest(&number.to_string());
            let source = &steps[source % steps.len()].1;
            let (took, expected) = match kind {
                0..=3 => (tree.directory(&mut store, &path(p), object).is_ok(), model.dir(p, object)),
                4 => match model.files.get(source).copied() {
                    Some(same) => (
                        tree.hard_link(&mut store, &path(p), &path(source)).is_ok(),
                        model.file(p, same),
                    ),
                    None => continue,
                },
                _ => (tree.file(&mut store, &path(p), object).is_ok(), model.file(p, object)),
            };
            prop_assert_eq!(took, expected);
        }
        tree.resolve_links(&mut store).unwrap();
        let rules = PathRules { allow_nonusr: true, retain_var: true };
        let written = tree.into_commit_tree(&mut store, rules).unwrap();
        prop_assert_eq!(paths(written.tree, &store), model.commit_paths());
        let mut here = BTreeSet::from([(written.tree, ObjectKind::DirTree)]);
        walk(written.tree, &store, &mut |entry| {
            here.insert(named(entry));
            Ok::<_, LayerError>(())
        }).unwrap();
        let all = store.0.keys().map(|tree| (*tree, ObjectKind::DirTree));
        let files = model.came.iter().map(|file| (*file, ObjectKind::File));
        for object in all.chain(files) {
            prop_assert!(here.contains(&object) || written.doubtful.contains(&object));
        }
    }

    #[test]
    fn paths_never_leave_the_tree(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(parts) = components(&bytes) {
            for part in parts {
                prop_assert!(!part.is_empty() && part != "." && part != "..");
                prop_assert!(!part.contains('/') && !part.contains('\0'));
            }
        }
    }
}

#[test]
fn paths_land_where_an_ostree_host_has_them() {
    let steps: Vec<Step> = [
        "usr/a",
        "etc/b",
        "var/lib/c",
        "run/d",
        "opt/e",
        "opt/f",
        "g",
    ]
    .map(|p| Step::File(p.into()))
    .into();
    let names = |rules| {
        let mut store = Trees::default();
        let tree = build(&steps, &mut store)
            .into_commit_tree(&mut store, rules)
            .unwrap();
        let files = paths(tree.tree, &store)
            .into_keys()
            .filter(|path| !path.ends_with('/'));
        (
            files.collect::<Vec<_>>(),
            tree.dropped.into_iter().collect::<Vec<_>>(),
        )
    };
    let (found, dropped) = names(RULES);
    assert_eq!(found, ["/usr/a", "/usr/etc/b", "/var/lib/c"]);
    assert_eq!(dropped, [("g".to_owned(), 1), ("opt".to_owned(), 3)]);
    let (found, dropped) = names(PathRules {
        allow_nonusr: true,
        retain_var: false,
    });
    let expected = [
        "/g",
        "/opt/e",
        "/opt/f",
        "/usr/a",
        "/usr/etc/b",
        "/usr/share/factory/var/lib/c",
    ];
    assert_eq!(found, expected);
    assert_eq!(dropped, []);
}

/// A layer as plain maps of paths.
#[derive(Debug, Default)]
struct Model {
    files: BTreeMap<String, Digest>,
    dirs: BTreeMap<String, Digest>,
    came: Vec<Digest>,
}

impl Model {
    /// False where a directory above is a file.
    fn parents(&mut self, path: &str) -> bool {
        for (end, _) in path.match_indices('/') {
            if self.files.contains_key(&path[..end]) {
                return false;
            }
            let dir = self.dirs.entry(path[..end].to_owned());
            dir.or_insert(digest("default"));
        }
        true
    }

    fn dir(&mut self, path: &str, meta: Digest) -> bool {
        let fits = self.parents(path);
        if fits {
            self.files.remove(path);
            self.dirs.insert(path.into(), meta);
        }
        fits
    }

    fn file(&mut self, path: &str, object: Digest) -> bool {
        self.came.push(object);
        let fits = self.parents(path);
        if fits {
            let below = format!("{path}/");
            self.files.retain(|path, _| !path.starts_with(&below));
            self.dirs
                .retain(|dir, _| dir != path && !dir.starts_with(&below));
            self.files.insert(path.into(), object);
        } else {
            self.came.pop();
        }
        fits
    }

    /// The paths of the commit: `etc` in `usr`, `run` empty.
    fn commit_paths(&self) -> BTreeMap<String, Digest> {
        let place = |path: &str| match path.strip_prefix("etc") {
            Some(rest) => format!("/usr/etc{rest}"),
            None => format!("/{path}"),
        };
        let kept = |(path, _): &(&String, &Digest)| !path.starts_with("run/");
        let mut out = BTreeMap::new();
        for (dir, meta) in self.dirs.iter().filter(kept) {
            out.insert(format!("{}/", place(dir)), *meta);
        }
        for (file, object) in self.files.iter().filter(kept) {
            out.insert(place(file), *object);
        }
        if out.keys().any(|path| path.starts_with("/usr/etc")) {
            out.entry("/usr/".into()).or_insert(digest("default"));
        }
        out
    }
}

#[test]
fn memory_does_not_grow_with_the_layer() {
    let mut store = Trees::default();
    let mut tree = DerivedTree::new(digest("default"));
    let mut most = 0;
    for number in 0..60_000 {
        let path = path(&format!(
            "usr/lib/{}/{}/{number}",
            number / 5000,
            number / 50
        ));
        tree.file(&mut store, &path, digest("x")).unwrap();
        most = most.max(tree.dirs.names());
    }
    assert!(most < 20_000, "{most} names");
    tree.resolve_links(&mut store).unwrap();
    assert!(tree.dirs.names() < 100);
    let written = tree.into_commit_tree(&mut store, RULES).unwrap();
    assert_eq!(paths(written.tree, &store).len(), 60_000 + 1200 + 12 + 2);
    // Nothing had to be read again.
    assert_eq!(written.doubtful, BTreeSet::new());
}

#[test]
fn an_archive_in_a_bad_order_is_kept_in_memory() {
    let mut store = Trees::default();
    let mut tree = DerivedTree::new(digest("default"));
    // As if directories had been read again all the time.
    tree.dirs.looked(1 << 40);
    for number in 0..20_000 {
        let path = path(&format!("usr/{}/{number}", number % 400));
        tree.file(&mut store, &path, digest("x")).unwrap();
    }
    assert_eq!(tree.dirs.names(), 20_000 + 400 + 1);
    tree.resolve_links(&mut store).unwrap();
    let written = tree.into_commit_tree(&mut store, RULES).unwrap();
    assert_eq!(paths(written.tree, &store).len(), 20_000 + 400 + 1);
}

#[test]
fn links_in_a_circle_are_an_error() {
    let mut store = Trees::default();
    let mut tree = DerivedTree::new(digest("default"));
    for (link, target) in [("usr/a", "usr/b"), ("usr/b", "usr/a")] {
        tree.hard_link(&mut store, &path(link), &path(target))
            .unwrap();
    }
    assert!(matches!(
        tree.resolve_links(&mut store),
        Err(LayerError::LinkTarget { .. })
    ));
}
