//! What differs between two commits: `commit diff`.

use bowline::testing::Fixture;
use serde_json::{Value, json};

use crate::scene::Scene;

const OLD: &str = "file /usr/lib/sysimage/dpkg/status 0 0 644 Package: bash\\nVersion: 1\\nStatus: install ok installed\\n\n\
    file /usr/lib/sysimage/dpkg/info/bash.list 0 0 644 /usr/bin/bash\\n/etc/bash.rc\\n\n\
    file /usr/bin/bash 0 0 755 1\nfile /usr/etc/bash.rc 0 0 644 1\nfile /usr/share/same 0 0 644 1\n\
    dir /usr/share/doc 0 0 755";
const NEW: &str = "file /usr/lib/sysimage/dpkg/status 0 0 644 Package: bash\\nVersion: 2\\nStatus: install ok installed\\n\n\
    file /usr/lib/sysimage/dpkg/info/bash.list 0 0 644 /usr/bin/bash\\n/etc/bash.rc\\n\n\
    file /usr/bin/bash 0 0 755 2\nfile /usr/etc/bash.rc 0 0 600 1\nfile /usr/share/same 0 0 644 1\n\
    link /usr/share/doc same";

#[test]
fn files_are_told_with_their_packages() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let [old, new] = [OLD, NEW].map(|lines| fixture.commit(lines).unwrap());
    let repo = fixture.path().to_str().unwrap();
    let args = ["commit", "diff", "--repo", repo, &old, &new];
    let wanted = "\
M /usr/bin/bash  (bash)
M /usr/etc/bash.rc  (bash)
M /usr/lib/sysimage/dpkg/status
A /usr/share/doc
D /usr/share/doc/
1 file removed, 1 added, 3 changed

  bash 1 -> 2
0 packages removed, 0 added, 1 changed
";
    similar_asserts::assert_eq!(scene.ok(&args), wanted);
    let json = |more: &[&str]| -> Value {
        let format = ["--format", "json"];
        let text = scene.bytes(&[&args[..], &format, more].concat());
        serde_json::from_slice(&text).unwrap()
    };
    let bash = json!([{"name": "bash", "old": "1", "new": "2"}]);
    let found = json!({
        "added": [],
        "removed": [],
        "changed": [{"path": "/usr/bin/bash", "package": "bash"}],
        "packages": {"added": [], "removed": [], "changed": bash},
    });
    assert_eq!(json(&["--subdir", "/usr/bin"]), found);
    assert_eq!(
        json(&["--subdir", "usr/share/doc"])["removed"][0]["path"],
        "/usr/share/doc/"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let (scene, fixture) = (Scene::new(), Fixture::new().unwrap());
    let commit = fixture.commit(OLD).unwrap();
    let repo = fixture.path().to_str().unwrap();
    let nowhere = scene.text("nowhere");
    for (repo, new, subdir, words) in [
        (
            repo,
            commit.as_str(),
            "/none",
            "neither has a directory /none/",
        ),
        (repo, commit.as_str(), "../usr", "neither has a directory"),
        (repo, "none", "/", "no such ref or commit"),
        (
            nowhere.as_str(),
            commit.as_str(),
            "/",
            "is not an ostree repository",
        ),
    ] {
        let args = [
            "commit", "diff", "--repo", repo, &commit, new, "--subdir", subdir,
        ];
        let output = scene.run(&args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
    }
}
