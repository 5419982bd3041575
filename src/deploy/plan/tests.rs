//! Tests of the deployment plan: tables for each rule, and properties over random hosts.

use proptest::prelude::*;

use super::*;
use crate::testing::samples;

const A: &str = "ostree-unverified-registry:quay.io/os:a";
const B: &str = "ostree-unverified-registry:quay.io/os:b";

fn image(text: &str) -> OstreeImageReference {
    text.parse().unwrap()
}

fn deployment(commit: &str, slot: Slot, image_text: &str) -> Deployment {
    Deployment {
        origin: Origin::of_image(&image(image_text)),
        kargs: vec![format!("from={commit}")],
        ..samples::deployment(commit, slot)
    }
}

fn kernel(checksum: &str, bytes: u64) -> Kernel {
    Kernel {
        release: "6.1".into(),
        checksums: vec![checksum.into()],
        bytes,
    }
}

/// A host that boots with GRUB and has room enough.
pub fn host(deployments: Vec<Deployment>) -> Snapshot {
    Snapshot {
        image_kargs: vec![ImageKargs::default(); deployments.len()],
        bootloader: Bootloader::Grub,
        deployments,
        room: Room {
            free: FreeSpace {
                boot: 1 << 30,
                root: 1 << 30,
                shared: false,
            },
            kernels: vec![kernel("k1", 10 << 20)],
            esp: None,
        },
    }
}

fn wish(commit: &str, image_text: &str) -> Wish {
    Wish {
        image: image(image_text),
        commit: commit.into(),
        stateroot: None,
        retain: false,
        explicit: true,
        arch: "amd64".into(),
        kargs: Vec::new(),
    }
}

fn plan(host: &Snapshot, wish: &Wish) -> Result<Decision, DeployError> {
    super::plan(host, wish, &tree())
}

/// A tree that can be deployed.
pub fn tree() -> TreeFacts {
    TreeFacts {
        kernel: Some(kernel("k2", 10 << 20)),
        etc_bytes: 1 << 20,
        kargs: ImageKargs::default(),
        title: "Debian GNU/Linux 13 (trixie)".into(),
    }
}

fn planned(host: &Snapshot, wish: &Wish) -> DeployPlan {
    match plan(host, wish).unwrap() {
        Decision::Deploy(plan) => *plan,
        other => panic!("expected a plan, got {other:?}"),
    }
}

/// Their commits.
pub fn commits(ids: &[DeploymentId]) -> Vec<&str> {
    ids.iter().map(|id| id.commit.as_str()).collect()
}

#[test]
fn the_first_deployment_starts_from_nothing() {
    let plan = planned(&host(vec![]), &wish("c1", A));
    assert_eq!(
        plan,
        DeployPlan {
            stateroot: "default".into(),
            commit: "c1".into(),
            origin: Origin::of_image(&image(A)),
            merge_from: None,
            kargs: vec![],
            kargs_before: vec![],
            method: Method::Finish,
            retain: false,
            keep: vec![],
            drop: vec![],
            drop_images: vec![],
        }
    );
}

#[test]
fn a_scratch_sysroot_keeps_the_one_before() {
    let host = host(vec![
        deployment("c2", Slot::Other, A),
        deployment("c1", Slot::Rollback, B),
    ]);
    let plan = planned(&host, &wish("c3", A));
    assert_eq!(plan.method, Method::Finish);
    assert_eq!(plan.merge_from, Some(host.deployments[0].id.clone()));
    assert_eq!(plan.kargs, ["from=c2"]);
    assert_eq!(
        (commits(&plan.keep), commits(&plan.drop)),
        (vec!["c2"], vec!["c1"])
    );
    assert_eq!(plan.drop_images, [image(B).imgref]);
    assert_eq!(
        plan.to_string(),
        "deploy c3 in stateroot os\n  /etc from os/c2.0\n  kernel arguments: from=c2\n  \
         keep os/c2.0\n  drop os/c1.0\n  drop image docker://quay.io/os:b\n"
    );
}

#[test]
fn retain_and_pins_keep_deployments_and_images() {
    let mut snapshot = host(vec![
        deployment("c2", Slot::Other, A),
        deployment("c1", Slot::Rollback, B),
    ]);
    let retained = Wish {
        retain: true,
        ..wish("c3", A)
    };
    let plan = planned(&snapshot, &retained);
    assert_eq!(commits(&plan.keep), ["c2", "c1"]);
    assert_eq!((plan.drop, plan.drop_images), (vec![], vec![]));
    snapshot.deployments[1].pinned = true;
    let plan = planned(&snapshot, &wish("c3", A));
    assert_eq!(commits(&plan.keep), ["c2", "c1"]);
    assert_eq!(plan.drop_images, []);
}

#[test]
fn the_booted_host_stages_and_merges_what_runs() {
    let host = host(vec![
        deployment("c3", Slot::Staged, A),
        deployment("c2", Slot::Booted, A),
        deployment("c1", Slot::Rollback, B),
    ]);
    let plan = planned(&host, &wish("c4", A));
    assert_eq!(plan.method, Method::Stage);
    // Kernel arguments are those of what would have booted next.
    assert_eq!(plan.kargs, ["from=c3"]);
    assert_eq!(
        (commits(&plan.keep), commits(&plan.drop)),
        (vec!["c2"], vec!["c3", "c1"])
    );
    assert_eq!(plan.drop_images, [image(B).imgref]);
}

#[test]
fn nothing_is_deployed_twice() {
    let (staged, booted) = (
        deployment("c2", Slot::Staged, A),
        deployment("c1", Slot::Booted, A),
    );
    let upgrade = |commit| Wish {
        explicit: false,
        ..wish(commit, A)
    };
    let slot = |deployments: &[&Deployment], wish: &Wish| {
        let deployments = deployments.iter().map(|d| (*d).clone()).collect();
        match plan(&host(deployments), wish).unwrap() {
            Decision::Nothing(_, slot) => Some(slot),
            Decision::Deploy(_) => None,
        }
    };
    assert_eq!(
        slot(&[&staged, &booted], &upgrade("c2")),
        Some(Slot::Staged)
    );
    assert_eq!(slot(&[&booted], &upgrade("c1")), Some(Slot::Booted));
    // The tag went back to what runs: what is staged must not boot.
    assert_eq!(slot(&[&staged, &booted], &upgrade("c1")), None);
    // A queued rollback survives an upgrade that brings nothing, but not a rebase.
    let queued = deployment("c0", Slot::Rollback, A);
    assert_eq!(
        slot(&[&queued, &booted], &upgrade("c1")),
        Some(Slot::Booted)
    );
    assert_eq!(slot(&[&queued, &booted], &wish("c1", A)), None);
    // The same content under another name: the origin must change.
    assert_eq!(slot(&[&booted], &wish("c1", B)), None);
    let elsewhere = Wish {
        stateroot: Some("other".into()),
        ..wish("c1", A)
    };
    assert_eq!(slot(&[&booted], &elsewhere), None);
}

#[test]
fn a_new_stateroot_takes_arguments_but_no_etc() {
    let host = host(vec![deployment("c1", Slot::Booted, A)]);
    let elsewhere = Wish {
        stateroot: Some("other".into()),
        ..wish("c2", B)
    };
    let plan = planned(&host, &elsewhere);
    assert_eq!(
        (plan.stateroot.as_str(), &plan.merge_from),
        ("other", &None)
    );
    assert_eq!(plan.kargs, ["from=c1"]);
    assert_eq!(commits(&plan.keep), ["c1"]);
    for name in ["", ".", "..", "a/b", ".hidden", "a b", "a;b", "a'", "a\n"] {
        let bad = Wish {
            stateroot: Some(name.into()),
            ..wish("c2", B)
        };
        let error = plan_error(&host, &bad);
        assert_eq!(error, DeployError::StaterootName(name.into()));
    }
}

fn plan_error(host: &Snapshot, wish: &Wish) -> DeployError {
    plan(host, wish).unwrap_err()
}

#[test]
fn what_cannot_boot_or_fit_is_refused() {
    let no_kernel = TreeFacts::default();
    assert_eq!(
        super::plan(&host(vec![]), &wish("c1", A), &no_kernel),
        Err(DeployError::NoKernel)
    );

    let mut full = host(vec![]);
    full.room.free.boot = (14 << 20) - 1;
    let error = DeployError::NoSpace {
        place: "/boot",
        needed: 14 << 20,
        available: (14 << 20) - 1,
    };
    assert_eq!(plan_error(&full, &wish("c1", A)), error);
    full.room.kernels = vec![kernel("k2", 10 << 20)];
    assert!(
        plan(&full, &wish("c1", A)).is_ok(),
        "the kernel is there already"
    );

    full.room.free = FreeSpace {
        boot: 1,
        root: (5 << 20) - 1,
        shared: true,
    };
    let error = DeployError::NoSpace {
        place: "the sysroot",
        needed: 5 << 20,
        available: (5 << 20) - 1,
    };
    assert_eq!(plan_error(&full, &wish("c1", A)), error);
}

#[test]
fn local_changes_are_not_thrown_away() {
    let mut changed = deployment("c1", Slot::Booted, A);
    changed.origin = "[origin]\n[packages]\nrequested=vim\n".parse().unwrap();
    let error = plan_error(&host(vec![changed]), &wish("c2", A));
    assert_eq!(error, DeployError::LocalChanges("os/c1.0".into()));
}

#[test]
fn an_upgrade_follows_what_is_staged_or_runs() {
    let follows = |all: &[Deployment], name| {
        let (d, image) = followed(all, name).map_err(|e| e.to_string())?;
        Ok::<_, String>((d.id.commit.clone(), image.to_string()))
    };
    let booted = deployment("c1", Slot::Booted, A);
    let staged = deployment("c2", Slot::Staged, B);
    let found = |commit: &str, image: &str| Ok((commit.to_owned(), image.to_owned()));
    assert_eq!(follows(&[staged, booted.clone()], None), found("c2", B));
    let queued = deployment("c0", Slot::Rollback, B);
    assert_eq!(
        follows(&[queued.clone(), booted.clone()], None),
        found("c1", A)
    );
    assert_eq!(follows(&[queued], None), found("c0", B));
    assert_eq!(follows(&[], None), Err("nothing is deployed".into()));
    let mut plain = booted;
    plain.origin = "[origin]\nrefspec=a:b\n".parse().unwrap();
    assert_eq!(
        follows(&[plain], None),
        Err("deployment os/c1.0 does not follow a container image".into())
    );
}

fn any_host() -> impl Strategy<Value = Vec<Deployment>> {
    let one = (0..4usize, prop::bool::ANY, prop::bool::ANY, prop::bool::ANY);
    let booted = prop::option::of(0..5usize);
    (prop::collection::vec(one, 0..6), booted, prop::bool::ANY).prop_map(|(list, booted, stage)| {
        let list = list.into_iter().enumerate();
        let mut all: Vec<_> = list
            .map(|(at, (commit, pinned, other, b))| {
                let image = if b { B } else { A };
                let mut d = deployment(&format!("c{commit}"), Slot::Other, image);
                d.id.serial = u32::try_from(at).unwrap();
                d.pinned = pinned;
                if other {
                    d.id.stateroot = "other".into();
                }
                d
            })
            .collect();
        if let Some(at) = booted.filter(|at| *at < all.len()) {
            all[at].slot = Slot::Booted;
            if stage && at > 0 {
                all[0].slot = Slot::Staged;
                all[0].pinned = false;
            }
        }
        crate::sysroot::assign_slots(&mut all);
        all
    })
}

proptest! {
    #[test]
    fn every_deployment_stays_or_goes(all in any_host(), retain: bool) {
        let wish = Wish { retain, ..wish("new", A) };
        let plan = planned(&host(all.clone()), &wish);
        let mut ids: Vec<_> = plan.keep.iter().chain(&plan.drop).cloned().collect();
        let mut expected: Vec<_> = all.iter().map(|d| d.id.clone()).collect();
        ids.sort();
        expected.sort();
        prop_assert_eq!(ids, expected);
    }

    #[test]
    fn what_runs_what_is_pinned_and_the_merge_stay(all in any_host(), retain: bool) {
        let wish = Wish { retain, ..wish("new", A) };
        let plan = planned(&host(all.clone()), &wish);
        for d in &all {
            let merge = plan.merge_from.as_ref() == Some(&d.id);
            if d.slot == Slot::Booted || d.pinned || merge || d.id.stateroot != plan.stateroot {
                let replaced = d.slot == Slot::Staged;
                prop_assert!(replaced || plan.keep.contains(&d.id), "{} goes", d.id);
            }
        }
    }

    #[test]
    fn no_image_of_a_kept_deployment_goes(all in any_host()) {
        let plan = planned(&host(all.clone()), &wish("new", B));
        for d in all.iter().filter(|d| plan.keep.contains(&d.id)) {
            let image = d.origin.image().unwrap().unwrap().imgref;
            prop_assert!(!plan.drop_images.contains(&image));
        }
        prop_assert!(!plan.drop_images.contains(&image(B).imgref));
    }
}

/// An image that asks for arguments.
fn asking(line: &str) -> ImageKargs {
    let text = format!("kargs: ['{line}']\n");
    let dir = samples::files(&[("usr/lib/bowline/kargs.d/x.yaml", &text)]).unwrap();
    ImageKargs::read(&crate::sys::tree::DirTree::open(dir.path()).unwrap()).unwrap()
}

#[test]
fn arguments_of_images_come_and_go() {
    let mut host = host(vec![deployment("a", Slot::Booted, A)]);
    host.deployments[0].kargs = vec!["root=1".into(), "old".into(), "both".into()];
    host.image_kargs = vec![asking("old both")];
    let tree = |line: &str| TreeFacts {
        kargs: asking(line),
        ..tree()
    };
    let planned = |line: &str| match super::plan(&host, &wish("b", A), &tree(line)).unwrap() {
        Decision::Deploy(plan) => *plan,
        other => panic!("expected a plan, got {other:?}"),
    };
    let plan = planned("both new");
    assert_eq!(plan.kargs, ["root=1", "both", "new"]);
    let record = plan.origin.get("bowline", "image-kargs");
    assert_eq!(record.as_deref(), Some("both new"));
    assert_eq!(planned("").kargs, ["root=1"]);
}

#[test]
fn a_first_deployment_gets_what_image_and_installer_ask_for() {
    let host = host(vec![]);
    let tree = TreeFacts {
        kargs: asking("console=ttyS0 quiet"),
        ..tree()
    };
    let add = |text: &str| Edit::Append(crate::boot::kargs::Karg::new(text).unwrap());
    let wish = Wish {
        kargs: vec![
            Edit::DeleteAll("quiet".into()),
            add("root=UUID=1"),
            add("console=tty0"),
        ],
        ..wish("a", A)
    };
    let Decision::Deploy(plan) = super::plan(&host, &wish, &tree).unwrap() else {
        panic!("expected a plan");
    };
    assert_eq!(plan.kargs, ["console=ttyS0", "root=UUID=1", "console=tty0"]);
}

#[test]
fn an_image_whose_name_grub_cannot_read_is_refused() {
    let mut host = host(vec![deployment("a", Slot::Booted, A)]);
    let tree = TreeFacts {
        title: "Bob's OS".into(),
        ..tree()
    };
    let plan = |host: &Snapshot| super::plan(host, &wish("b", A), &tree);
    let refused = DeployError::Title {
        title: "Bob's OS".into(),
        character: '\'',
    };
    assert_eq!(plan(&host), Err(refused));
    host.bootloader = Bootloader::SystemdBoot;
    assert!(plan(&host).is_ok());
}

#[test]
fn an_image_whose_arguments_grub_would_break_is_refused() {
    let mut host = host(vec![deployment("a", Slot::Booted, A)]);
    let tree = TreeFacts {
        kargs: asking("x=$y"),
        ..tree()
    };
    let plan = |host: &Snapshot| super::plan(host, &wish("b", A), &tree);
    let refused = DeployError::Obstacle {
        arg: "x=$y".into(),
        character: '$',
    };
    assert_eq!(plan(&host), Err(refused));
    // Only our own GRUB configuration is known to break.
    for bootloader in [Bootloader::None, Bootloader::SystemdBoot] {
        host.bootloader = bootloader;
        assert!(plan(&host).is_ok(), "{bootloader:?}");
    }
}

#[test]
fn changed_arguments_that_wait_for_their_boot_are_not_lost() {
    let mut staged = deployment("a", Slot::Staged, A);
    staged.kargs = vec!["changed".into()];
    let host = host(vec![staged, deployment("a", Slot::Booted, A)]);
    let plan = planned(&host, &wish("b", A));
    assert_eq!(plan.kargs, ["changed"]);
    assert_eq!(plan.merge_from.map(|id| id.commit), Some("a".into()));
    let elsewhere = Wish {
        stateroot: Some("new".into()),
        ..wish("b", A)
    };
    assert_eq!(planned(&host, &elsewhere).kargs, ["from=a"]);
}
