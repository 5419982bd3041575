//! Verdicts on updates, through each kind of bootloader: what is red is given up and not installed
//! again, what is green stays, and what `status`, `upgrade` and `rebase` say afterwards.

use std::fs;

use bowline::boot::Bootloader;

use crate::booted::{can_run, os, versions};
use crate::scene::{Scene, stderr, turn};
use crate::trial_host::{Host, LOADERS, broken};

#[test]
fn a_red_update_is_tried_three_times_and_never_again() {
    for loader in LOADERS {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::updated_to(loader, &broken());
        for number in 1..=3 {
            assert_eq!(host.boot(), 0, "{loader:?}");
            let (code, said) = host.check();
            assert_eq!(code, Some(9), "{said}");
            assert!(
                said.contains(&format!("This boot is try {number} of 3\n")),
                "{said}"
            );
            let red = "This boot is red: check 10-db failed: it ended with code 3: starting / no \
                       database; ";
            assert!(said.contains(red), "{said}");
            assert_eq!(host.reboots(), number);
        }
        // With nothing that counts, the order has changed already.
        let place = host.boot();
        assert_eq!(place, usize::from(loader != Bootloader::None), "{loader:?}");
        let (code, said) = host.check();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(", and the host went back to the deployment before it: check 10-db"));
        host.machine.bowline(&["boot", "ok"]);
        assert_eq!(host.reboots(), 3);
        assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
        assert_eq!(host.machine.status()["rollbackQueued"], false);
        assert!(!host.counted());
        let hooks = "retry 10-db 2\nretry 10-db 2\ngiven-up 10-db 2\nfell-back 10-db 2\ngood 1\n";
        assert_eq!(host.hooks().replace("  ", " "), hooks);

        let health = host.machine.status()["health"].take();
        assert_eq!(health["lastEvent"]["kind"], "fell-back");
        assert_eq!(health["lastEvent"]["check"], "10-db");
        assert_eq!(health["badImages"].as_array().unwrap().len(), 1);
        let human = host.human();
        assert!(human.contains(" failed its trial at 20"), "{human}");
        assert!(
            human.contains("is not installed again until its tag moves"),
            "{human}"
        );
        refuses_until_the_tag_moves(&host);
        // It boots for good.
        assert_eq!(host.boot(), 0);
        assert_eq!(host.check().0, Some(0));
        host.machine.fsck();
    }
}

fn refuses_until_the_tag_moves(host: &Host) {
    let machine = &host.machine;
    for args in [
        &["upgrade"][..],
        &["upgrade", "--check"],
        &["upgrade", "--unattended"],
    ] {
        let said = machine.bowline(args);
        assert!(said.starts_with("No change: "), "{said}");
        assert!(said.contains("version 2 (2026"), "{said}");
        assert!(
            said.contains("is not installed again until the tag moves"),
            "{said}"
        );
    }
    let output = machine.run(&["/mnt/bowline", "upgrade", "--unchanged-exit-77"]);
    assert_eq!(output.status.code(), Some(77));
    let named = ["/mnt/bowline", "rebase", "oci:/tmp/layout:os"];
    let output = machine.run(&named);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("with --force"),
        "{}",
        stderr(&output)
    );
    let said = machine.ok(&[&named[..], &["--force"]].concat());
    assert!(said.contains("Staged "), "{said}");
    machine.bowline(&["rollback"]);
    let said = machine.bowline(&["upgrade", "--force"]);
    assert!(said.contains("Staged "), "{said}");
    machine.bowline(&["rollback"]);
    machine.publish(&os("3"));
    let said = machine.bowline(&["upgrade"]);
    assert!(said.contains("Version     3 "), "{said}");
    machine.bowline(&["rollback"]);
}

#[test]
fn a_good_update_is_counted_no_more() {
    for loader in LOADERS {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::updated_to(loader, &os("2"));
        // The first try hangs.
        assert_eq!(host.boot(), 0);
        host.boot();
        let (code, said) = host.check();
        assert_eq!(code, Some(0), "{said}");
        let number = if loader == Bootloader::None { 1 } else { 2 };
        assert!(
            said.contains(&format!("This boot is try {number} of 3\n")),
            "{said}"
        );
        assert!(said.contains("green  10-db (required)\n"), "{said}");
        assert!(
            said.contains("red    90-extra (wanted): it ended with code 1\n"),
            "{said}"
        );
        let human = host.human();
        assert!(
            human.contains(&format!(" is on trial: try {number} of 3\n")),
            "{human}"
        );
        let said = host.machine.bowline(&["boot", "ok"]);
        assert!(said.contains(" proved itself at 20"), "{said}");
        assert!(!host.counted());
        assert_eq!(host.machine.status()["health"]["lastEvent"]["kind"], "good");
        assert_eq!(host.machine.bowline(&["boot", "ok"]), "This boot is good\n");
        assert_eq!(host.hooks().replace("  ", " "), "good 2\ngood 2\n");
        for _ in 0..5 {
            assert_eq!(host.boot(), 0, "{loader:?}");
        }
        assert_eq!((host.check().0, host.reboots()), (Some(0), 0));
    }
}

#[test]
fn an_update_that_never_reports_back_is_given_up() {
    for loader in [Bootloader::Grub, Bootloader::SystemdBoot] {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::new(loader);
        // The older one is red, too.
        let local = host.machine.deployment.join("etc/broken");
        host.machine.publish(&os("2"));
        host.update();
        for _ in 0..3 {
            assert_eq!(host.boot(), 0);
        }
        assert_eq!(host.boot(), 1);
        fs::write(local, "x").unwrap();
        let (code, said) = host.check();
        assert_eq!(code, Some(9), "{said}");
        let reason = "never reported back: it hung, panicked or lost power";
        assert!(said.contains(reason), "{said}");
        assert!(
            said.contains("no update is on trial") || said.contains("failed as well"),
            "{said}"
        );
        assert_eq!(host.reboots(), 0, "the older one stays up");
        let health = host.machine.status()["health"].take();
        assert_eq!(health["badImages"][0]["reason"], reason);
        assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
        assert_eq!(host.boot(), 0);
    }
}

#[test]
fn a_red_host_without_a_trial_stays_up() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let host = Host::new(Bootloader::Grub);
    fs::write(host.machine.deployment.join("etc/broken"), "x").unwrap();
    let (code, said) = host.check();
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("no update is on trial"), "{said}");
    assert_eq!(host.reboots(), 0);
    assert!(host.machine.status().get("health").is_none());
}

#[test]
fn there_is_a_boot_to_judge_on_the_booted_host_only() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1"), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    for command in ["check", "ok"] {
        let said = scene.fails(7, &["boot", command]);
        assert!(said.contains("did not boot from"), "{said}");
    }
}
