//! What the signature policy refuses on a host that runs: nothing is staged, and what runs, what boots
//! next, what is stored and what is noted about updates is as it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::booted::{Machine, can_run, os, versions};
use crate::scene::turn;

/// Every file below a directory with its content, but for the trees of deployments.
fn files(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        match kind.is_dir() && !entry.path().join("usr").exists() {
            true => files(&entry.path(), found),
            false => found.push((entry.path(), fs::read(entry.path()).unwrap_or_default())),
        }
    }
}

/// What boots, what is deployed and what is staged, and what refs there are.
fn state(machine: &Machine) -> (Vec<(PathBuf, Vec<u8>)>, serde_json::Value) {
    let mut found = Vec::new();
    let root = machine.sysroot.path();
    for dir in ["boot", "ostree/deploy", "ostree/repo/refs"] {
        files(&root.join(dir), &mut found);
    }
    files(&machine.dir.path().join("run"), &mut found);
    found.sort();
    (found, machine.status())
}

#[test]
fn what_is_refused_leaves_a_host_that_runs_as_it_was() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    machine.publish(&os("2"));
    let policy = machine.dir.path().join("tmp/policy.json");
    let accept = fs::read_to_string(&policy).unwrap();
    let signed = |kind: &str, more: serde_json::Value| {
        let mut rule = json!({"type": kind, "keyPath": "/tmp/no-key"});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"default": [{"type": "reject"}], "transports": {"oci": {"/tmp": [rule]}}})
            .to_string()
    };
    let before = state(&machine);
    let refused = |words: &str| {
        for command in ["upgrade", "upgrade --check", "upgrade --download-only"] {
            let args = [&["/mnt/bowline"], &*command.split(' ').collect::<Vec<_>>()].concat();
            let output = machine.run(&args);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{command}: {said}");
            let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains(words), "{words:?} is not in: {told}");
            assert_eq!(state(&machine), before, "{command}: {told}");
        }
    };
    for (text, words) in [
        (
            r#"{"default":[{"type":"reject"}]}"#.to_owned(),
            "says \"reject\" for the default",
        ),
        (
            signed("signedBy", json!({"keyType": "GPGKeys"})),
            "says \"signedBy\" for scope \"/tmp\" of transport \"oci\", and its keys cannot be used",
        ),
        (
            signed("sigstoreSigned", json!({})),
            "says \"sigstoreSigned\" for scope \"/tmp\" of transport \"oci\", and its keys cannot",
        ),
        (
            signed("requireSigstoreAttestations", json!({})),
            "unknown requirement type \"requireSigstoreAttestations\"",
        ),
        ("{".into(), "is not valid: it is not valid JSON"),
    ] {
        fs::write(&policy, text).unwrap();
        refused(words);
    }
    fs::remove_file(&policy).unwrap();
    refused("/tmp/policy.json cannot be read: ");
    fs::write(&policy, accept).unwrap();
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.versions(), versions(["2", "1", ""]));
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
}
