//! Our preview of the `/etc` merge against the merge itself: random old defaults, local changes
//! and new defaults are deployed by libostree, and what it leaves on disk is compared.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bowline::etc_merge::{Conflict, ConflictKind, Entry, Kind, Tree, list, merge};
use bowline::image::Digest;
use bowline::sysroot::{DeploymentId, Sysroot, specials};
use bowline::testing::{Fixture, ScratchSysroot};
use ostree::gio;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::scene::turn;

const NONE: Option<&gio::Cancellable> = None;
/// A tree that libostree deploys.
const KERNEL: &str = "
    file /usr/lib/modules/6.1.0/vmlinuz 0 0 644 k
    file /usr/lib/os-release 0 0 644 ID=x
    dir /usr/elsewhere 0 0 755
    link /ostree sysroot/ostree
    dir /sysroot 0 0 755
";
/// Every path that a random tree may have, parents first.
const PATHS: [&str; 9] = ["a", "a/x", "a/x/z", "a/y", "b", "b/x", "c", "c/x", "d"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Absent,
    Dir(u32),
    File(u8, u32, u32),
    Link(&'static str),
    Fifo,
}

type Row = [Node; 3];

/// One path in the old defaults, `/etc` and the new defaults.
fn row() -> impl Strategy<Value = Row> {
    use Node::{Absent, Dir, Fifo, File, Link};
    let links = [
        "b",
        "b/x",
        "none",
        "../../usr/elsewhere",
        "../d",
        ".",
        "b/../c",
    ];
    let any = prop_oneof![
        3 => Just(Absent),
        4 => Just(Dir(0o755)),
        1 => Just(Dir(0o700)),
        3 => (1..3u8).prop_map(|text| File(text, 0, 0o644)),
        1 => Just(File(1, 0, 0o600)),
        1 => Just(File(1, 1, 0o644)),
        1 => prop::sample::select(links.to_vec()).prop_map(Link),
    ];
    let any = any.boxed();
    // Most paths are the same in two of the three trees.
    (any.clone(), any.clone(), any, 0..8u8).prop_map(|(x, y, z, sort)| match sort {
        0 | 1 => [x, x, x],
        2 => [x, x, y],
        3 => [x, y, x],
        4 => [x, y, y],
        5 => [x, Fifo, y],
        _ => [x, y, z],
    })
}

/// The nodes of one of the three trees; what has no directory above it is left out.
fn nodes(rows: &[Row], side: usize) -> Vec<(&'static str, Node)> {
    let mut nodes: Vec<(&str, Node)> = Vec::new();
    for (path, row) in PATHS.into_iter().zip(rows) {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let is_dir = |node: &Node| matches!(node, Node::Dir(_));
        let mut above = nodes.iter().filter(|(other, _)| Some(*other) == parent);
        let has_place = parent.is_none() || above.any(|(_, node)| is_dir(node));
        if has_place && row[side] != Node::Absent {
            nodes.push((path, row[side]));
        }
    }
    nodes
}

type Nodes = Vec<(String, Node)>;

fn lines(nodes: &Nodes) -> String {
    let line = |(path, node): &(String, Node)| match node {
        Node::Dir(mode) => format!("dir /usr/etc/{path} 0 0 {mode:o}\n"),
        Node::File(text, uid, mode) => format!("file /usr/etc/{path} {uid} 0 {mode:o} {text}\n"),
        Node::Link(target) => format!("link /usr/etc/{path} {target}\n"),
        Node::Absent | Node::Fifo => String::new(),
    };
    KERNEL.to_owned() + &nodes.iter().map(line).collect::<String>()
}

fn tree(nodes: &Nodes) -> Tree {
    let entry = |(path, node): &(String, Node)| {
        let (kind, uid, mode) = match *node {
            Node::Absent => return None,
            Node::Dir(mode) => (Kind::Directory, 0, mode),
            Node::File(text, uid, mode) => {
                let content = Some(Digest::of(text.to_string().as_bytes()));
                (Kind::File { content }, uid, mode)
            }
            Node::Link(target) => (Kind::Link(target.into()), 0, 0o777),
            Node::Fifo => (Kind::Special, 0, 0o644),
        };
        let entry = Entry {
            kind,
            mode,
            uid,
            gid: 0,
        };
        Some((path.into(), entry))
    };
    nodes.iter().filter_map(entry).collect()
}

fn write(etc: &Path, nodes: &Nodes) {
    for entry in fs::read_dir(etc).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (path, node) in nodes {
        let path = etc.join(path);
        match node {
            Node::Absent => {}
            Node::Dir(bits) => {
                fs::create_dir(&path).unwrap();
                mode(&path, *bits);
            }
            Node::File(text, uid, bits) => {
                fs::write(&path, text.to_string()).unwrap();
                chown(&path, Some(*uid), None).unwrap();
                mode(&path, *bits);
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Fifo => {
                let fifo = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, 0o644.into(), 0).unwrap();
            }
        }
    }
}

/// A sysroot in which libostree makes deployments that no boot entry knows.
struct Lab {
    scratch: ScratchSysroot,
    sysroot: ostree::Sysroot,
    fixture: Fixture,
}

impl Lab {
    fn new() -> Self {
        let scratch = ScratchSysroot::new().unwrap();
        let config = scratch.path().join("ostree/repo/config");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[core]", "[core]\nfsync=false")).unwrap();
        let sysroot = ostree::Sysroot::new(Some(&gio::File::for_path(scratch.path())));
        sysroot.load(NONE).unwrap();
        let fixture = Fixture::new().unwrap();
        Self {
            scratch,
            sysroot,
            fixture,
        }
    }

    fn commit(&self, nodes: &Nodes) -> String {
        let commit = self.fixture.commit(&lines(nodes)).unwrap();
        let from = format!("file://{}", self.fixture.path().display());
        let repo = self.sysroot.repo();
        let flags = ostree::RepoPullFlags::NONE;
        let pull = || repo.pull(&from, &[&commit], flags, None, NONE);
        // Else two threads that pull share the context of the process, and run each other's half
        // done work.
        let context = ostree::glib::MainContext::new();
        context.with_thread_default(pull).unwrap().unwrap();
        commit
    }

    fn deploy(&self, commit: &str, merge: Option<&ostree::Deployment>) -> Made {
        let made = self
            .sysroot
            .deploy_tree(Some("default"), commit, None, merge, &[], NONE);
        made.map_err(|error| error.to_string())
    }

    /// Deploys, changes `/etc`, deploys again. What we foretell is checked against what comes.
    fn merge(&self, nodes: &[Nodes; 3]) -> Made {
        let ours = Sysroot::open(self.scratch.path()).unwrap();
        let old = self.deploy(&self.commit(&nodes[0]), None).unwrap();
        write(&ours.directory(&id(&old)).join("etc"), &nodes[1]);
        let commit = self.commit(&nodes[2]);
        // Each way to read a tree gives the same.
        let [defaults, current, new] = nodes.each_ref().map(tree);
        assert_eq!(ours.defaults_of_deployment(&id(&old)).unwrap(), defaults);
        assert_eq!(ours.defaults_of_commit(&id(&old).commit).unwrap(), defaults);
        assert_eq!(ours.etc_of_deployment(&id(&old)).unwrap(), current);
        assert_eq!(ours.defaults_of_commit(&commit).unwrap(), new);

        let made = self.deploy(&commit, Some(&old))?;
        let found = list(&ours.directory(&id(&made)).join("etc")).unwrap();
        assert_eq!(found, merge(&defaults, &current, &new, specials()).tree);
        Ok(made)
    }
}

type Made = Result<ostree::Deployment, String>;

fn id(deployment: &ostree::Deployment) -> DeploymentId {
    DeploymentId {
        stateroot: deployment.osname().into(),
        commit: deployment.csum().into(),
        serial: deployment.deployserial().try_into().unwrap(),
    }
}

fn case() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), PATHS.len())
}

/// The three trees of some cases, each case below a directory of its own.
fn trees(cases: &[&Vec<Row>]) -> [Nodes; 3] {
    [0, 1, 2].map(|side| {
        let mut all = vec![("hosts".into(), Node::File(0, 0, 0o644))];
        for (at, rows) in cases.iter().enumerate() {
            all.push((format!("k{at}"), Node::Dir(0o755)));
            let nodes = nodes(rows, side).into_iter();
            all.extend(nodes.map(|(path, node)| (format!("k{at}/{path}"), node)));
        }
        all
    })
}

fn foretold(case: &Vec<Row>) -> Vec<Conflict> {
    let [old, current, new] = trees(&[case]).map(|nodes| tree(&nodes));
    merge(&old, &current, &new, specials()).conflicts
}

/// Random cases until there are `wanted` that `pick` takes.
fn some_cases(wanted: usize, pick: impl Fn(&[Conflict]) -> bool) -> Vec<Vec<Row>> {
    let mut runner = TestRunner::default();
    let mut cases = Vec::new();
    while cases.len() < wanted {
        let case = case().new_tree(&mut runner).unwrap().current();
        if pick(&foretold(&case)) {
            cases.push(case);
        }
    }
    cases
}

/// One merge for all of them; where that fails, one for each, to name the culprit.
#[test]
fn libostree_merges_what_has_no_conflict_as_foretold() {
    let Some(_turn) = turn() else {
        return;
    };
    let lab = Lab::new();
    let cases = some_cases(250, <[_]>::is_empty);
    let all = trees(&cases.iter().collect::<Vec<_>>());
    let together = AssertUnwindSafe(|| lab.merge(&all).unwrap());
    if catch_unwind(together).is_err() {
        for case in &cases {
            let alone = AssertUnwindSafe(|| lab.merge(&trees(&[case])).unwrap());
            assert!(catch_unwind(alone).is_ok(), "{case:?}");
        }
        panic!("each case works alone, but not all together");
    }
}

#[test]
fn libostree_refuses_what_has_a_conflict() {
    let Some(_turn) = turn() else {
        return;
    };
    let lab = Lab::new();
    // Through a link out of /etc libostree may well get, but it changes other places then.
    let refused = |c: &Conflict| c.kind != ConflictKind::LeavesEtc;
    for case in some_cases(8, |found| found.iter().any(refused)) {
        let made = lab.merge(&trees(&[&case]));
        assert!(made.is_err(), "{case:?}: {:?}", foretold(&case));
    }
}
