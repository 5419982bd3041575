//! Tests of the tree of an ordinary layer: order does not matter, paths land where they must.

use proptest::prelude::*;

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

fn build(steps: &[Step]) -> DerivedTree {
    let mut tree = DerivedTree::new(digest("default"));
    for step in steps {
        match step {
            Step::Dir(p) => tree.directory(&path(p), digest(p)).unwrap(),
            Step::File(p) => tree.file(&path(p), digest(p)).unwrap(),
            Step::Link(p, target) => tree.hard_link(&path(p), path(target)).unwrap(),
        }
    }
    tree.resolve_links().unwrap();
    tree
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
        let expected = build(&steps).into_commit_tree(RULES).unwrap();
        let shuffled: Vec<Step> = order.iter().map(|i| steps[*i].clone()).collect();
        prop_assert_eq!(build(&shuffled).into_commit_tree(RULES).unwrap(), expected);
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
        let (mut root, dropped) = build(&steps).into_commit_tree(rules).unwrap();
        let mut found = Vec::new();
        collect(&mut root, String::new(), &mut found);
        (found, dropped.into_iter().collect::<Vec<_>>())
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

fn collect(dir: &mut Dir, at: String, found: &mut Vec<String>) {
    for (name, node) in dir.built().into_iter().flatten() {
        let path = format!("{at}/{name}");
        match node {
            Node::File(_) => found.push(path),
            Node::Dir(dir) => collect(dir, path, found),
        }
    }
}

#[test]
fn links_in_a_circle_are_an_error() {
    let mut tree = DerivedTree::new(digest("default"));
    tree.hard_link(&path("usr/a"), path("usr/b")).unwrap();
    tree.hard_link(&path("usr/b"), path("usr/a")).unwrap();
    assert!(matches!(
        tree.resolve_links(),
        Err(LayerError::LinkTarget { .. })
    ));
}
