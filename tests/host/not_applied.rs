//! An update that was staged and did not come to be: what the host says of it after the reboot, and
//! when it stops saying so.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::booted::{Machine, can_run, os, os_with, versions};
use crate::scene::turn;

/// What `status` says to programs and people; its exit code is what says that it is bad.
fn missed(machine: &Machine) -> Option<(Value, String)> {
    let output = machine.run(&["/mnt/bowline", "status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missed = status["status"].get("notApplied").cloned();
    let code = if missed.is_some() { 10 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{missed:?}");
    let output = machine.run(&["/mnt/bowline", "status"]);
    assert_eq!(output.status.code(), Some(code));
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        words.contains("was not applied"),
        missed.is_some(),
        "{words}"
    );
    Some((missed?, words))
}

fn record(machine: &Machine) -> PathBuf {
    machine.sysroot.path().join("ostree/bowline/staged.json")
}

#[test]
fn a_power_cut_before_the_end_is_told_until_the_update_boots() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    machine.publish(&os("2"));
    machine.bowline(&["upgrade"]);
    assert_eq!(missed(&machine), None, "it waits for its boot");

    machine.reboot();
    let (json, words) = missed(&machine).unwrap();
    assert_eq!(json["cause"], "interrupted");
    assert_eq!(json["version"], "2");
    assert_eq!(json["imageDigest"], os("2").digest().to_string());
    let first = words.lines().next().unwrap();
    let (start, end) = (
        "! The update to version 2 of oci:/tmp/layout:os (unverified), staged 20",
        ", was not applied: it was never finished",
    );
    assert!(first.starts_with(start) && first.ends_with(end), "{words}");

    let said = machine.bowline(&["upgrade", "--check"]);
    assert!(said.starts_with(start), "{said}");
    let said = machine.bowline(&["upgrade"]);
    assert!(
        said.starts_with(start) && said.contains("\nStaged "),
        "{said}"
    );
    assert_eq!(missed(&machine), None);
    machine.ok(&["ostree", "admin", "finalize-staged"]);
    machine.bowline(&["boot", "mirror"]);
    assert!(!record(&machine).exists());
    machine.reboot();
    assert_eq!(missed(&machine), None);
}

#[test]
fn a_failure_to_finish_is_told_with_its_reason() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os_with("1", "file /usr/etc/clash 0 0 644 x"));
    machine.publish(&os_with("2", "file /usr/etc/clash/x 0 0 644 x"));
    machine.bowline(&["upgrade"]);
    let said = machine.bowline(&["boot", "finalize"]);
    assert!(
        said.contains("no local changes stay, 2 new defaults arrive"),
        "{said}"
    );
    fs::write(machine.deployment.join("etc/clash"), "late").unwrap();
    let said = machine.bowline(&["boot", "finalize"]);
    assert!(said.contains("the old system will boot again\n"), "{said}");
    let finished = machine.run(&["ostree", "admin", "finalize-staged"]);
    assert_ne!(finished.status.code(), Some(0));
    machine.reboot();
    // Whatever it finds of the boot, it keeps libostree's note, whose own service takes it away.
    let checked = machine.run(&["timeout", "20", "/mnt/bowline", "boot", "check"]);
    assert_ne!(checked.status.code(), Some(127), "{checked:?}");
    let stamp = machine
        .sysroot
        .path()
        .join("boot/ostree/finalize-failure.stamp");
    fs::remove_file(stamp).unwrap();

    let (json, words) = missed(&machine).unwrap();
    assert_eq!(json["cause"], "finalizeFailed");
    let reason = json["reason"].as_str().unwrap();
    assert!(
        reason.contains("newly defaults to directory 'clash'"),
        "{reason}"
    );
    assert!(words.contains(reason), "{words}");

    let output = machine.run(&["/mnt/bowline", "upgrade"]);
    assert_eq!(output.status.code(), Some(8), "the conflict is still there");
    assert!(missed(&machine).is_some());
    fs::write(machine.deployment.join("etc/clash"), "x").unwrap();
    machine.bowline(&["upgrade"]);
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    assert_eq!(missed(&machine), None);
}

#[test]
fn what_was_discarded_or_is_out_of_date_is_not_missed() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    machine.publish(&os("2"));
    machine.bowline(&["upgrade"]);
    machine.bowline(&["rollback"]);
    machine.reboot();
    assert_eq!(missed(&machine), None, "discarded by a rollback");

    machine.bowline(&["upgrade"]);
    machine.ok(&["ostree", "admin", "undeploy", "0"]);
    assert_eq!(missed(&machine), None);
    machine.bowline(&["boot", "finalize"]);
    machine.reboot();
    assert_eq!(missed(&machine), None, "discarded by another tool");

    machine.bowline(&["upgrade"]);
    machine.reboot();
    assert!(missed(&machine).is_some());
    machine.publish(&os("1"));
    machine.bowline(&["upgrade"]);
    assert_eq!(missed(&machine), None, "the image went back");
    fs::write(record(&machine), "no json").unwrap();
    assert_eq!(missed(&machine), None);
}
