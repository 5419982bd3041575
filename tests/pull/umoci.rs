//! Images that umoci made, which ends a layer behind the last byte of content and writes whiteouts.
//! Needs the `umoci` program; where it is missing the test says so.

use std::path::Path;
use std::process::Command;

use bowline::image::{ImageReference, Transport};

use crate::support::Place;

#[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
fn umoci_is_there() -> bool {
    let there = Command::new("umoci").arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: umoci is not installed");
    }
    there
}

fn umoci(args: &[&str]) {
    let output = Command::new("umoci").args(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umoci {args:?}: {words}");
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn layers_and_whiteouts_of_umoci() {
    if !umoci_is_there() {
        return;
    }
    let place = Place::new("bare-user");
    let tree = place.dir.path().join("tree");
    write(&tree.join("bin/tool"), "tool\n");
    write(&tree.join("share/old/file"), "old\n");
    let layout = place.layout();
    let (layout, tree) = (layout.to_str().unwrap(), tree.to_str().unwrap());
    let image = format!("{layout}:v1");
    umoci(&["init", "--layout", layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, tree, "/usr"]);
    umoci(&["insert", "--image", &image, "--whiteout", "/usr/share/old"]);
    let conf = place.dir.path().join("conf");
    write(&conf, "conf\n");
    umoci(&[
        "insert",
        "--image",
        &image,
        conf.to_str().unwrap(),
        "/etc/conf",
    ]);

    let imgref = ImageReference {
        transport: Transport::OciDir,
        name: image,
    };
    let record = place.pull(&imgref).unwrap();
    assert_eq!(record.manifest.layers.len(), 3);
    assert_eq!(place.read(&record.commit, "/usr/bin/tool"), "tool\n");
    assert_eq!(place.read(&record.commit, "/usr/etc/conf"), "conf\n");
    let listing = place.list(&record.commit);
    assert!(listing.contains("/usr/share") && !listing.contains("/usr/share/old"));
    place.check();
}
