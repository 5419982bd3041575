//! Somebody, or a disk that fails, changes what is stored of an image that was verified: it is neither
//! deployed nor made a part of what is. Needs root.

use std::fs;
use std::path::PathBuf;

use bowline::testing::samples::stderr;

use crate::host::{Host, layered, ostree};

#[test]
fn what_was_changed_on_the_disk_is_not_deployed() {
    let Some(host) = Host::new() else { return };
    // The second version shares files with the first.
    let second = host.second();
    host.sign(&second, &host.scene.name("1"));
    let changed = largest_file(&host.repo());
    let good = fs::read(&changed).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    // In place: a deployment may have a hard link to it.
    fs::write(&changed, &bad).unwrap();
    let words = "in the repository was changed or damaged on the disk";
    let output = host.run(&["upgrade"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(words), "{told}");
    let status = host.run(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let deployed = &status["status"]["otherDeployments"];
    assert_eq!(deployed.as_array().unwrap().len(), 1, "{status}");
    assert_eq!(
        deployed[0]["image"]["imageDigest"],
        host.first.digest().to_string()
    );
    fs::write(&changed, &good).unwrap();
    host.upgrades();
}

/// The largest file object of a repository.
fn largest_file(repo: &std::path::Path) -> PathBuf {
    let dirs = fs::read_dir(repo.join("objects")).unwrap();
    let files = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap().path());
    let objects = files.filter(|p| p.extension().is_some_and(|e| e == "file") && p.is_file());
    objects
        .max_by_key(|p| fs::symlink_metadata(p).unwrap().len())
        .unwrap()
}

/// A directory of a stored layer becomes part of a new one, whose name would then be right.
#[test]
fn what_was_changed_on_the_disk_is_not_merged() {
    let Some(host) = Host::new() else { return };
    let second = layered("1", "file /usr/bin/new 0 0 755 new\\n");
    host.scene.push(&second, "1", &[]);
    host.sign(&second, &host.scene.name("1"));
    let commit = host.next()["ostree"]["checksum"]
        .as_str()
        .unwrap()
        .to_owned();
    let sum = |path: &str| {
        let line = ostree(&host.repo(), &["ls", "-d", "-C", &commit, path]);
        line.split_whitespace().nth(4).unwrap().to_owned()
    };
    let bytes = |hex: &str| *bowline::image::Digest::from_hex(hex).unwrap().as_bytes();
    let (dir, hello, setuid) = (sum("/usr/bin"), sum("/usr/bin/hello"), sum("/usr/bin/ping"));
    let tree = host
        .repo()
        .join(format!("objects/{}/{}.dirtree", &dir[..2], &dir[2..]));
    let good = fs::read(&tree).unwrap();
    let at = good.windows(32).position(|part| part == bytes(&hello));
    let mut bad = good.clone();
    bad[at.unwrap()..][..32].copy_from_slice(&bytes(&setuid));
    fs::write(&tree, &bad).unwrap();
    let words = "in the repository was changed or damaged on the disk";
    host.refuses(&["upgrade"], words);
    fs::write(&tree, &good).unwrap();
    host.upgrades();
    let next = host.next();
    assert_eq!(next["image"]["imageDigest"], second.digest().to_string());
}
