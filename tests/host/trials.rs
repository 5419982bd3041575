//! What people and other parts do while an update is on trial: rollbacks, further updates, a
//! bootloader that cannot write, a second stateroot. The way back is kept throughout.

use std::fs;

use bowline::boot::Bootloader;

use crate::booted::{can_run, os, versions};
use crate::scene::{stderr, turn};
use crate::trial_host::{Host, LOADERS, broken};

#[test]
fn a_rollback_by_hand_ends_the_trial() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::on_trial(Bootloader::Grub);
    host.machine.bowline(&["rollback"]);
    let health = host.machine.status()["health"].take();
    assert_eq!(health["onTrial"], serde_json::Value::Null);
    assert_eq!(health["lastEvent"]["kind"], "withdrawn");
    assert_eq!(health["badImages"].as_array().unwrap().len(), 0);
    assert!(!host.counted());
    host.boot();
    assert_eq!((host.check().0, host.reboots()), (Some(0), 0));
    assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
}

#[test]
fn what_comes_back_without_ever_having_been_good_is_on_trial_again() {
    for loader in LOADERS {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::updated_to(loader, &broken());
        host.boot();
        assert_eq!(host.check().0, Some(9));
        host.machine.bowline(&["rollback"]);
        assert!(!host.counted());
        let said = host.machine.bowline(&["rollback"]);
        assert!(
            said.ends_with("It never was good, and gets 3 tries\n"),
            "{said}"
        );
        assert_eq!(host.counted(), loader != Bootloader::None);
        let human = host.human();
        assert!(human.contains(" is on trial: it has 3 tries\n"), "{human}");
        for number in 1..=3 {
            assert_eq!(host.boot(), 0, "{loader:?}");
            let (code, said) = host.check();
            assert_eq!(code, Some(9), "{said}");
            let try_ = format!("This boot is try {number} of 3\n");
            assert!(said.contains(&try_), "{loader:?} {said}");
        }
        host.boot();
        assert_eq!((host.check().0, host.reboots()), (Some(0), 4));
        host.machine.bowline(&["boot", "ok"]);
        assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
        // So is one that failed; a good one is not.
        let said = host.machine.bowline(&["rollback"]);
        assert!(said.ends_with("gets 3 tries\n"), "{said}");
        let said = host.machine.bowline(&["rollback"]);
        assert!(!said.contains("tries"), "{said}");
        assert!(!host.counted());
    }
}

#[test]
fn while_what_runs_is_on_trial_its_way_back_is_kept() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::new(Bootloader::Grub);
    fs::write(
        host.machine.deployment.join("etc/bowline/update.yaml"),
        "update: {metered: allow, battery: allow}\n",
    )
    .unwrap();
    host.machine.publish(&os("2"));
    host.update();
    host.boot();
    assert_eq!(host.check().0, Some(0));
    let said = host.machine.bowline(&["upgrade"]);
    assert!(said.starts_with("No change"), "{said}");
    host.machine.publish(&os("3"));
    let program = "/mnt/bowline";
    let refused = |host: &Host, args: &[&str], code: i32| {
        let output = host.machine.run(&[&[program][..], args].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        (
            String::from_utf8(output.stdout.clone()).unwrap(),
            stderr(&output),
        )
    };
    for args in [
        &["upgrade"][..],
        &["rebase", "oci:/tmp/layout:os"],
        &["kargs", "append", "a=1"],
    ] {
        let (_, said) = refused(&host, args, 4);
        assert!(said.contains("which runs, is still on trial"), "{said}");
        assert!(said.contains("--force"), "{said}");
    }
    let (said, _) = refused(&host, &["upgrade", "--unattended"], 75);
    let reason = "Not updated: what runs is still on trial, and its boot not yet marked good\n";
    assert!(said.ends_with(reason), "{said}");
    // After a rollback it runs still, and the way back boots next.
    host.machine.bowline(&["rollback"]);
    refused(&host, &["upgrade"], 4);
    host.machine.bowline(&["rollback"]);
    host.machine.bowline(&["upgrade", "--check"]);
    host.machine.bowline(&["upgrade", "--download-only"]);
    assert_eq!(host.machine.versions(), versions(["", "2", "1"]));
    for args in [
        &["upgrade", "--force"][..],
        &["kargs", "append", "a=1", "--force"],
    ] {
        host.machine.bowline(args);
        assert_ne!(
            host.machine.versions(),
            versions(["", "2", "1"]),
            "{args:?}"
        );
        host.machine.bowline(&["rollback"]);
    }
    host.machine.bowline(&["boot", "ok"]);
    let said = host.machine.bowline(&["upgrade"]);
    assert!(said.contains("Staged "), "{said}");
}

#[test]
fn an_upgrade_waits_for_the_verdict_on_this_boot() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let host = Host::on_trial(Bootloader::Grub);
    host.machine.publish(&os("3"));
    // systemd's part: the job waits at first, and then it runs. The lock is free. Newer libostrees start
    // their service.
    let systemctl = "#!/bin/sh\ncase $* in\n\
                     'show --property=Job --value bowline-boot-ok.service') ;;\n\
                     'start '*ostree-finalize-staged.service) exit 0 ;;\n\
                     *) exit 1 ;;\nesac\n\
                     echo 7\n[ -e /tmp/asked ] && /mnt/bowline boot ok >&2\ntouch /tmp/asked\n";
    fs::write(host.machine.dir.path().join("tmp/bin/systemctl"), systemctl).unwrap();
    let said = host.machine.bowline(&["upgrade"]);
    let waits = said.matches("Waiting for the checks of this boot").count();
    assert_eq!(waits, 1, "{said}");
    assert!(said.contains("Staged "), "{said}");
    assert_eq!(
        host.machine.status()["health"]["onTrial"],
        serde_json::Value::Null
    );
}

#[test]
fn a_grub_that_cannot_write_its_counter_keeps_nobody_waiting() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::updated_to(Bootloader::Grub, &os("2"));
    for number in 1..3 {
        // As our grub.cfg does: what it cannot write down it does not boot.
        host.machine.boot(1);
        let (code, said) = host.check();
        assert_eq!(code, Some(0), "{said}");
        let spent = format!("booted this deployment instead: try {number} of 3 is spent\n");
        assert!(said.contains(&spent), "{said}");
        let health = host.machine.status()["health"].take();
        assert_eq!(health["onTrial"]["uncounted"], true);
        let human = host.human();
        let told = format!("try {number} of 3; the bootloader cannot write down that it counts");
        assert!(human.contains(&told), "{human}");
    }
    host.machine.boot(1);
    let (code, said) = host.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(": the bootloader could not write down that it counts"),
        "{said}"
    );
    assert_eq!((host.counted(), host.reboots()), (false, 0));
    assert_eq!(host.boot(), 0);
    assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
    let said = host.machine.bowline(&["upgrade"]);
    assert!(
        said.contains("is not installed again until the tag moves"),
        "{said}"
    );
}

#[test]
fn both_systems_know_of_a_trial_that_crosses_from_one_to_the_other() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let host = Host::new(Bootloader::Grub);
    let image = "oci:/tmp/layout:os";
    host.machine.publish(&os("2"));
    host.machine
        .bowline(&["--stateroot", "second", "rebase", image]);
    host.machine.bowline(&["boot", "finalize"]);
    for stateroot in ["default", "second"] {
        let var = host
            .machine
            .sysroot
            .path()
            .join("ostree/deploy")
            .join(stateroot);
        let text = fs::read_to_string(var.join("var/lib/bowline/boot-state.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let on_trial = record["trial"]["deployment"].as_str().unwrap();
        assert!(on_trial.starts_with("second/"), "{stateroot}: {text}");
    }
}
