//! The program writes images of commits to a real registry, with credentials, and gets the commits back.
//! Needs `docker-registry`, `htpasswd` and `ostree`.

use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline::testing::fixture::OS;
use bowline::testing::{Fixture, samples};
use serde_json::json;

use crate::bench::Bench;
use crate::daemon::{Daemon, missing, run};

fn bowline(bench: &Bench, args: &[&str]) -> Output {
    let policy = bench.root.path().join("any.json");
    std::fs::write(&policy, samples::ANY_IMAGE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(args).env_clear();
    command.env("CONTAINERS_POLICY_JSON", policy);
    command.output().unwrap()
}

fn said(bench: &Bench, args: &[&str]) -> String {
    let output = bowline(bench, args);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {words}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_commit_goes_to_a_registry_and_comes_back() {
    if missing(&["docker-registry", "htpasswd", "ostree"]) {
        return;
    }
    let (bench, fixture) = (Bench::new(), Fixture::new().unwrap());
    let users = bench.root.path().join("htpasswd");
    let path = users.to_str().unwrap();
    run("htpasswd", &["-cbB", path, "dummy", "dummy-password"]);
    let access = json!({"auth": {"htpasswd": {"realm": "test", "path": users}}});
    let daemon = Daemon::start(bench.root.path(), json!({}), access);
    let auth = json!({"auths": {&daemon.host: {"auth": STANDARD.encode("dummy:dummy-password")}}});
    let authfile = bench.root.path().join("mine.json");
    std::fs::write(&authfile, auth.to_string()).unwrap();
    let authfile = authfile.to_str().unwrap();

    let lines: String = (1..9)
        .map(|n| format!("data /usr/lib/d{n}/big 0 0 644 40000 {n}\n"))
        .collect();
    let commit = fixture.commit(&format!("{OS}\n{lines}")).unwrap();
    let repo = fixture.path().to_str().unwrap();
    let other = bench.root.path().join("repo");
    let other = other.to_str().unwrap();
    run("ostree", &["init", "--mode=archive", "--repo", other]);
    let mut digests = Vec::new();
    for compression in ["gzip", "zstd", "zstd:chunked", "none", "gzip"] {
        let image = format!(
            "registry:{}/ns/os:{}",
            daemon.host,
            compression.replace(':', "-")
        );
        let make = ["container", "encapsulate", "--repo", repo, &commit, &image];
        let how = ["--compression", compression];
        let output = bowline(&bench, &[&make[..], &how].concat());
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let how = ["--compression", compression, "--authfile", authfile];
        digests.push(said(&bench, &[&make[..], &how].concat()));
        let take = ["container", "unencapsulate", "-q", "--authfile", authfile];
        let found = said(&bench, &[&take[..], &["--repo", other, &image]].concat());
        assert_eq!(found, commit, "{compression}");
    }
    assert_eq!(digests[0], digests[4]);
    digests.pop();
    digests.dedup();
    assert_eq!(digests.len(), 4);
    run("ostree", &["fsck", "-q", "--repo", other]);
}
