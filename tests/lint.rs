//! `container lint` from outside: what it prints, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn lint(root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["container", "lint"]).env_clear();
    if !args.contains(&"--list") {
        command.arg("--rootfs").arg(root);
    }
    command.args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of the checks with a result.
fn names(report: &Value, result: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let found = checks.filter(|check| check["result"] == result);
    found.map(|c| c["name"].as_str().unwrap().into()).collect()
}

#[test]
fn exit_codes_tell_what_was_found() {
    let empty = tempfile::tempdir().unwrap();
    let output = lint(empty.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(9));
    let report = json(&output);
    let fatal = ["kernel", "prepare-root", "base-directories"];
    let failed = names(&report, "failed");
    assert!(
        failed.len() > 2 && failed.starts_with(&fatal.map(String::from)),
        "{failed:?}"
    );

    let mut skip: Vec<&str> = fatal.iter().flat_map(|name| ["--skip", name]).collect();
    assert_eq!(lint(empty.path(), &skip).status.code(), Some(0));
    skip.push("--fatal-warnings");
    assert_eq!(lint(empty.path(), &skip).status.code(), Some(9));

    let output = lint(empty.path(), &["--skip", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no check \"nonsense\""), "{said}");
    assert_eq!(lint(Path::new("/nonexistent"), &[]).status.code(), Some(2));
}

#[test]
fn people_read_one_line_for_each_finding_and_a_sum() {
    let dir = tempfile::tempdir().unwrap();
    let modules = dir.path().join("usr/lib/modules/6.1");
    fs::create_dir_all(&modules).unwrap();
    fs::write(modules.join("vmlinuz"), "kernel").unwrap();
    let output = lint(dir.path(), &["--skip", "utf8"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let line = "error (initramfs): /usr/lib/modules/6.1/initramfs.img is missing or empty: make it";
    assert!(said.lines().any(|l| l.starts_with(line)), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("Checks passed: ") && last.ends_with(", failed: 3, skipped: 1"),
        "{last}"
    );
}

#[test]
fn the_list_names_all_checks() {
    let list = lint(Path::new("/"), &["--list"]);
    assert_eq!(list.status.code(), Some(0));
    let text = String::from_utf8(list.stdout).unwrap();
    let list = json(&lint(Path::new("/"), &["--list", "--format", "json"]));
    let names = list
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap());
    let first = text.lines().map(|line| line.split(' ').next().unwrap());
    assert_eq!(first.collect::<Vec<_>>(), names.collect::<Vec<_>>());
    assert!(
        text.contains("kernel            error    There is exactly one kernel.\n"),
        "{text}"
    );
}
