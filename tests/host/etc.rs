//! What `rebase`, `upgrade` and `config-diff` say about the host's own files, and what they refuse.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::scene::{Scene, os, turn};

const DEFAULTS: &str = "
    file /usr/etc/shadowed.conf 0 0 644 old\\n
    file /usr/etc/dropped.conf 0 0 644 old\\n
    file /usr/etc/fixed.conf 0 0 644 bug\\n
    file /usr/etc/gone.conf 0 0 644 old\\n
    file /usr/etc/follows.conf 0 0 644 old\\n
    file /usr/etc/clash 0 0 644 old\\n
    dir /usr/etc/conf.d 0 0 755
";

const NEXT: &str = "
    file /usr/etc/shadowed.conf 0 0 644 new\\n
    file /usr/etc/fixed.conf 0 0 644 fixed\\n
    file /usr/etc/gone.conf 0 0 644 new\\n
    file /usr/etc/follows.conf 0 0 644 new\\n
    file /usr/etc/clash 0 0 644 old\\n
    dir /usr/etc/conf.d 0 0 755
    file /var/lib/app/seed 0 0 644 x\\n
";

/// A host on version 1 with local changes.
fn changed() -> Scene {
    let scene = Scene::new();
    scene.publish(&os("1", DEFAULTS), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    let etc = scene.next().join("etc");
    let write = |name: &str, text: &str| fs::write(etc.join(name), text).unwrap();
    write("shadowed.conf", "mine\n");
    write("dropped.conf", "mine\n");
    write("fixed.conf", "fixed\n");
    write("conf.d/mine.conf", "mine\n");
    fs::remove_file(etc.join("gone.conf")).unwrap();
    scene
}

const TOLD: &str = "\
Merge of /etc: 5 local changes stay, 1 new default arrives
  The image has another default now, yours stays:
    /etc/shadowed.conf
  The image has no default any more, yours stays:
    /etc/dropped.conf
  Equal to the new default, follows the image again:
    /etc/fixed.conf
  Removed here, stays removed though the default changed:
    /etc/gone.conf
Not on this host: /var/lib/app/seed, which the image brings; /var belongs to the host and is not updated
";

#[test]
fn the_merge_is_told_before_it_is_done() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = changed();
    scene.publish(&os("2", NEXT), "os");
    let said = scene.ok(&["upgrade", "--check"]);
    assert!(!said.contains("Merge of /etc"), "not here yet: {said}");
    scene.ok(&["upgrade", "--download-only"]);
    let said = scene.ok(&["upgrade", "--check"]);
    assert!(said.ends_with(TOLD), "{said}");
    let json = scene.ok(&["upgrade", "--check", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["result"], "available");
    assert_eq!(json["version"], "2");
    assert_eq!(json["varLeftBehind"], json!(["/var/lib/app/seed"]));
    assert_eq!(
        json["etc"],
        json!({
            "kept": [],
            "added": ["/etc/conf.d/mine.conf"],
            "removed": ["/etc/gone.conf"],
            "shadows": [
                {"path": "/etc/dropped.conf", "default": "dropped"},
                {"path": "/etc/gone.conf", "default": "changed"},
                {"path": "/etc/shadowed.conf", "default": "changed"},
            ],
            "reverts": ["/etc/fixed.conf"],
            "lost": [],
            "skipped": [],
            "arrives": ["/etc/follows.conf"],
            "conflicts": [],
        })
    );
    let said = scene.ok(&["upgrade"]);
    let (before, after) = said.split_once(TOLD).unwrap_or_else(|| panic!("{said}"));
    assert!(before.starts_with("Pulled "), "{said}");
    assert!(after.starts_with("Deployed "), "{said}");

    let etc = scene.next().join("etc");
    let read = |name: &str| fs::read_to_string(etc.join(name)).ok();
    for (name, text) in [
        ("shadowed.conf", Some("mine\n")),
        ("dropped.conf", Some("mine\n")),
        ("fixed.conf", Some("fixed\n")),
        ("conf.d/mine.conf", Some("mine\n")),
        ("gone.conf", None),
        ("follows.conf", Some("new\n")),
    ] {
        assert_eq!(read(name).as_deref(), text, "{name}");
    }
}

#[test]
fn a_conflict_is_refused_with_the_way_out() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = changed();
    let old = scene.next();
    fs::write(old.join("etc/clash"), "mine\n").unwrap();
    let next = NEXT.replace(
        "file /usr/etc/clash 0 0 644 old\\n",
        "file /usr/etc/clash/a 0 0 644 a\\n",
    );
    let next = next.replace(
        "dir /usr/etc/conf.d 0 0 755",
        "link /usr/etc/conf.d /usr/share",
    );
    scene.publish(&os("2", &next), "os");
    scene.ok(&["upgrade", "--download-only"]);
    let said = scene.ok(&["upgrade", "--check"]);
    assert!(said.contains("The update will be refused until"), "{said}");
    let json = scene.ok(&["upgrade", "--check", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let conflict = &json["etc"]["conflicts"][0];
    assert_eq!(
        (&conflict["path"], &conflict["kind"]),
        (&json!("/etc/clash"), &json!("newDirectory"))
    );

    let said = scene.fails(8, &["upgrade"]);
    let clash = "/etc/clash is no directory here, but the new image has one there";
    let below = "/etc/conf.d/mine.conf was changed here, but /etc/conf.d is a link out of /etc";
    assert!(said.contains(clash) && said.contains(below), "{said}");
    let (_, commands) = said
        .split_once("then run `")
        .unwrap_or_else(|| panic!("{said}"));
    let (commands, _) = commands.split_once('`').unwrap();
    let run = Command::new("sh").args(["-ec", commands]).status().unwrap();
    assert!(run.success(), "{commands}");

    scene.ok(&["upgrade"]);
    let new = scene.next().join("etc");
    assert_ne!(scene.next(), old);
    assert_eq!(fs::read_to_string(new.join("clash/a")).unwrap(), "a\n");
    assert!(new.join("conf.d").is_symlink());
    assert_eq!(
        fs::read_to_string(new.join("shadowed.conf")).unwrap(),
        "mine\n"
    );
}

#[test]
fn a_rebase_tells_the_same() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = changed();
    scene.publish(&os("2", NEXT), "other");
    let said = scene.ok(&["rebase", &scene.image_name("other")]);
    assert!(said.contains(TOLD), "{said}");
    let back = ["-q", "rebase", &scene.image_name("os"), "--allow-downgrade"];
    assert_eq!(scene.ok(&back), "");
    let yaml = scene.ok(&["rebase", &scene.image_name("other"), "--format", "yaml"]);
    assert!(yaml.starts_with("result: deployed\n"), "{yaml}");
    let json = scene.ok(&["upgrade", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["result"], &json["etc"]),
        (&json!("unchanged"), &Value::Null)
    );
}

#[test]
fn config_diff_shows_local_changes() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    assert!(
        scene
            .fails(2, &["config-diff"])
            .contains("nothing is deployed")
    );
    scene.publish(&os("1", DEFAULTS), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    assert_eq!(scene.ok(&["config-diff"]), "No local changes to /etc\n");
    let output = scene.run(&["config-diff", "--unchanged-exit-77"]);
    assert_eq!(output.status.code(), Some(77));

    let etc = scene.next().join("etc");
    fs::write(etc.join("shadowed.conf"), "mine\n").unwrap();
    fs::remove_file(etc.join("gone.conf")).unwrap();
    fs::write(etc.join("conf.d/key"), "hush\n").unwrap();
    fs::set_permissions(etc.join("conf.d/key"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = scene.state();
    let said = scene.ok(&["config-diff", "--unchanged-exit-77"]);
    let expected = "\
added /etc/conf.d/key: not for everybody to read, see --show-private
removed /etc/gone.conf
--- /usr/etc/gone.conf
+++ /dev/null
@@ -1 +0,0 @@
-old
changed /etc/shadowed.conf
--- /usr/etc/shadowed.conf
+++ /etc/shadowed.conf
@@ -1 +1 @@
-old
+mine
1 added, 1 changed, 1 removed
";
    assert_eq!(said, expected);
    let said = scene.ok(&["config-diff", "--show-private"]);
    assert!(said.contains("\n+hush\n"), "{said}");
    let said = scene.ok(&["config-diff", "--name-only"]);
    assert_eq!(
        said,
        "/etc/conf.d/key\n/etc/gone.conf\n/etc/shadowed.conf\n"
    );
    let json = scene.ok(&["config-diff", "--format", "json"]);
    assert!(!json.contains("hush"), "{json}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["changes"][0],
        json!({
            "path": "/etc/conf.d/key",
            "change": "added",
            "before": null,
            "after": {"type": "file", "mode": "0600", "uid": 0, "gid": 0},
            "diff": null,
            "notShown": "private",
            "linesAdded": 0,
            "linesRemoved": 0,
        })
    );
    assert_eq!(json["changes"][2]["linesAdded"], 1);
    assert_eq!(scene.state(), before);
}
