//! Deployments of commits made from fixture lines, without any image: what is written to disk,
//! what stays, what an interruption leaves.

use std::fs;
use std::path::Path;
use std::process::Command;

use bowline::deploy::{self, Wish};
use bowline::sysroot::{Slot, Sysroot, SysrootError};

use crate::scene::{ostree, turn};

mod host;

use host::{Host, NEXT, STABLE, one_and_two};

#[test]
fn the_first_deployment_boots_and_says_where_it_came_from() {
    let Some(_turn) = turn() else {
        return;
    };
    let host = Host::new();
    let commit = host.commit("1", "");
    let plan = host.deploy_image(&commit, STABLE);
    assert_eq!((plan.keep, plan.drop), (vec![], vec![]));

    let id = &host.ids()[0];
    assert_eq!(id.to_string(), format!("default/{commit}.0"));
    let origin = host
        .directory(0)
        .with_file_name(format!("{commit}.0.origin"));
    assert_eq!(
        fs::read_to_string(origin).unwrap(),
        format!("[origin]\ncontainer-image-reference={STABLE}\n")
    );
    let entries = host.entries();
    let sum = entries[0].split("default-").nth(1).unwrap()[..64].to_owned();
    assert_eq!(
        entries,
        [format!(
            "initrd /ostree/default-{sum}/initramfs-6.1.0.img\n\
             linux /ostree/default-{sum}/vmlinuz-6.1.0\n\
             options ostree=/ostree/boot.1/default/{sum}/0\n\
             title Fixture OS 1 (ostree:0)\n\
             version 1"
        )]
    );
    assert_eq!(
        fs::read_to_string(host.directory(0).join("etc/motd")).unwrap(),
        "version 1\n"
    );
    host.check();
}

#[test]
fn an_upgrade_keeps_arguments_and_local_etc() {
    let Some(_turn) = turn() else {
        return;
    };
    let host = Host::new();
    let one = host.commit("1", "");
    host.deploy_image(&one, STABLE);
    let path = format!("--sysroot={}", host.path().display());
    ostree(&[
        "admin",
        "instutil",
        "set-kargs",
        &path,
        "root=UUID=1",
        "rw",
        "quiet",
    ]);
    fs::write(host.directory(0).join("etc/motd"), "mine\n").unwrap();
    fs::write(host.directory(0).join("etc/new"), "new\n").unwrap();
    fs::remove_file(host.directory(0).join("etc/hosts")).unwrap();

    let more = "file /usr/etc/fresh 0 0 644 fresh\\n\nfile /usr/etc/conf 0 0 644 x\\n";
    let two = host.commit("2", more);
    let plan = host.deploy_image(&two, STABLE);
    assert_eq!(plan.kargs, ["root=UUID=1", "rw", "quiet"]);
    let etc = |name: &str| fs::read_to_string(host.directory(0).join("etc").join(name));
    assert_eq!(etc("motd").unwrap(), "mine\n");
    assert_eq!(etc("new").unwrap(), "new\n");
    assert_eq!(etc("fresh").unwrap(), "fresh\n");
    assert!(etc("hosts").is_err(), "a deleted file came back");
    assert!(host.entries()[0].contains("options root=UUID=1 rw quiet ostree="));
    assert_eq!(host.commits(), [two, one]);
    host.check();
}

#[test]
fn the_plan_and_libostree_agree_on_what_stays() {
    let Some(_turn) = turn() else {
        return;
    };
    let host = Host::new();
    let commits: Vec<_> = (1..=5).map(|n| host.commit(&n.to_string(), "")).collect();
    let distinct: std::collections::BTreeSet<_> = commits.iter().collect();
    assert_eq!(distinct.len(), 5);
    let deploy = |at: usize, retain| {
        let wish = Wish {
            retain,
            ..host.wish(&commits[at], if at == 0 { NEXT } else { STABLE })
        };
        let plan = host.deploy(&wish);
        let ids = host.ids();
        assert_eq!(ids[1..], plan.keep, "{plan}");
        host.check();
        plan
    };
    deploy(0, false);
    deploy(1, false);
    let plan = deploy(2, true);
    assert_eq!((plan.keep.len(), plan.drop_images.len()), (2, 0));
    let path = format!("--sysroot={}", host.path().display());
    ostree(&["admin", "pin", &path, "1"]);
    let plan = deploy(3, false);
    assert_eq!(plan.drop.len(), 1);
    assert_eq!(
        plan.drop_images[0].to_string(),
        "docker://quay.io/example/os:next"
    );
    assert_eq!(
        host.commits(),
        [3, 2, 1].map(|at: usize| commits[at].clone())
    );
    let sysroot = Sysroot::open(host.path()).unwrap();
    let pinned: Vec<_> = sysroot
        .deployments()
        .unwrap()
        .iter()
        .map(|d| d.pinned)
        .collect();
    assert_eq!(pinned, [false, false, true]);
    let elsewhere = Wish {
        stateroot: Some("other".into()),
        ..host.wish(&commits[4], NEXT)
    };
    let plan = host.deploy(&elsewhere);
    assert_eq!((plan.merge_from, plan.keep.len()), (None, 3));
    assert_eq!(host.ids()[0].stateroot, "other");
    host.check();
}

#[test]
fn rollback_is_undone_by_rollback() {
    let Some(_turn) = turn() else {
        return;
    };
    let (host, one, two) = one_and_two();
    host.deploy_image(&two, STABLE);
    let slots = || {
        let sysroot = Sysroot::open(host.path()).unwrap();
        sysroot
            .deployments()
            .unwrap()
            .iter()
            .map(|d| d.slot)
            .collect::<Vec<_>>()
    };
    assert_eq!(slots(), [Slot::Other, Slot::Rollback]);
    assert_eq!(
        host.roll_back(),
        format!("default/{one}.0 boots next, instead of default/{two}.0")
    );
    assert_eq!(host.commits(), [one.clone(), two.clone()]);
    let origin = |at: usize| {
        let sysroot = Sysroot::open(host.path()).unwrap();
        sysroot.deployments().unwrap()[at].origin.to_string()
    };
    assert_eq!(
        origin(0),
        format!("[origin]\ncontainer-image-reference={NEXT}\n")
    );
    host.check();
    host.roll_back();
    assert_eq!(host.commits(), [two, one]);
    assert_eq!(
        origin(0),
        format!("[origin]\ncontainer-image-reference={STABLE}\n")
    );
    host.check();
}

#[test]
fn a_held_lock_is_busy_and_given_back() {
    let Some(_turn) = turn() else {
        return;
    };
    let host = Host::new();
    let held = host.lock();
    let error = Sysroot::open_locked(host.path()).unwrap_err();
    let found = error.downcast_ref::<SysrootError>();
    assert!(matches!(found, Some(SysrootError::Busy(path)) if path == host.path()));
    assert!(Sysroot::open(host.path()).is_ok(), "reading needs no lock");
    drop(held);
    assert!(Sysroot::open_locked(host.path()).is_ok());
}

#[test]
fn what_is_no_sysroot_is_told_apart() {
    let kind = |path: &Path| {
        let error = Sysroot::open(path).unwrap_err();
        error.downcast::<SysrootError>().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        kind(&dir.path().join("x")),
        SysrootError::NoDirectory(_)
    ));
    assert!(matches!(kind(dir.path()), SysrootError::Empty(_)));
    fs::write(dir.path().join("precious"), "").unwrap();
    assert!(matches!(kind(dir.path()), SysrootError::NoSysroot(_)));
    let error = bowline::sysroot::initialize(dir.path()).unwrap_err();
    let found = error.downcast_ref::<SysrootError>();
    assert!(matches!(found, Some(SysrootError::NotEmpty(_))));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "a refused directory was changed");
}

#[test]
fn an_empty_directory_becomes_a_sysroot_as_with_ostree() {
    let Some(_turn) = turn() else {
        return;
    };
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    bowline::sysroot::initialize(ours.path()).unwrap();
    ostree(&[
        "admin",
        "init-fs",
        "--modern",
        theirs.path().to_str().unwrap(),
    ]);
    let list = |root: &Path| {
        let output = Command::new("find")
            .args([".", "-printf", "%p %y %m\\n"])
            .current_dir(root)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|l| !l.starts_with(". "))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(list(ours.path()), list(theirs.path()));
    assert!(
        Sysroot::open(ours.path())
            .unwrap()
            .deployments()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_interrupted_deploy_is_finished_by_the_next() {
    let Some(_turn) = turn() else {
        return;
    };
    let (host, one, two) = one_and_two();
    // What a cut between the checkout and the boot entries leaves: a tree that nothing boots.
    let before = host.entries();
    let left = host.directory(0).with_file_name(format!("{two}.0"));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("half"), "").unwrap();
    let origin = format!("[origin]\ncontainer-image-reference={STABLE}\n");
    fs::write(left.with_file_name(format!("{two}.0.origin")), origin).unwrap();

    let pending = || deploy::cleanup::is_pending(&Sysroot::open(host.path()).unwrap());
    assert!(pending().unwrap());
    assert_eq!(
        (host.commits(), host.entries()),
        (vec![one.clone()], before)
    );
    host.check();

    host.deploy_image(&two, STABLE);
    assert_eq!(host.ids()[0].to_string(), format!("default/{two}.1"));
    assert!(!left.exists(), "what the cut left is still there");
    assert!(!pending().unwrap());
    host.check();
}

#[test]
fn nothing_boots_what_could_not_be_completed() {
    let Some(_turn) = turn() else {
        return;
    };
    let (host, one, two) = one_and_two();
    let before = host.entries();
    let sysroot = host.lock();
    let plan = host.plan(&sysroot, &host.wish(&two, STABLE));
    let failed = deploy::finish(&sysroot, &plan, &|tree| {
        assert!(tree.join("etc/hosts").is_file(), "/etc is complete");
        anyhow::bail!("no room for a key")
    });
    assert_eq!(
        failed.unwrap_err().root_cause().to_string(),
        "no room for a key"
    );
    drop(sysroot);
    assert_eq!(
        (host.commits(), host.entries()),
        (vec![one.clone()], before)
    );
    let sysroot = host.lock();
    let plan = host.plan(&sysroot, &host.wish(&two, STABLE));
    let add = |tree: &Path| Ok(fs::write(tree.join("etc/key"), "of this machine")?);
    deploy::finish(&sysroot, &plan, &add).unwrap();
    sysroot.clean_deployments().unwrap();
    drop(sysroot);
    assert_eq!(host.commits(), [two, one]);
    assert_eq!(
        fs::read_to_string(host.directory(0).join("etc/key")).unwrap(),
        "of this machine"
    );
    host.check();
}

#[test]
fn a_half_made_stateroot_is_completed() {
    let Some(_turn) = turn() else {
        return;
    };
    let host = Host::new();
    fs::create_dir(host.path().join("ostree/deploy/os")).unwrap();
    let wish = Wish {
        stateroot: Some("os".into()),
        ..host.wish(&host.commit("1", ""), STABLE)
    };
    host.deploy(&wish);
    assert_eq!(host.ids()[0].stateroot, "os");
    host.check();
}
