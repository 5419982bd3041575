//! An upgrade of a scratch sysroot, killed everywhere between resolve and prune: what boots next is
//! the old deployment or the new one, whole, and the same command finishes the job.

use std::path::{Path, PathBuf};
use std::process::Command;

use bowline::testing::{Encapsulation, Fixture, OS};
use tempfile::TempDir;

use crate::kill::{can_trace, kill_everywhere, killed_at, succeed};

/// Calls of libostree and ours that change the file system during a deployment.
const CALLS: [&str; 9] = [
    "renameat",
    "symlinkat",
    "linkat",
    "unlinkat",
    "mkdirat",
    "fsync",
    "syncfs",
    "ioctl",
    "fchmod",
];

/// A sysroot on version 1, its edited /etc, and a reference that means version 2 by now.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            dir: TempDir::new().unwrap(),
        };
        let fixture = Fixture::new().unwrap();
        let layout = scene.dir.path().join("image");
        let image = |lines: &str| {
            let commit = fixture.commit(lines).unwrap();
            Encapsulation::chunked()
                .image(fixture.repo(), &commit)
                .unwrap()
                .build()
        };
        image(OS).write_layout(&layout, "os").unwrap();
        std::fs::create_dir(scene.sysroot()).unwrap();
        let reference = format!("ostree-unverified-image:oci:{}:os", layout.display());
        succeed(&[
            "-q",
            "--sysroot",
            scene.sysroot().to_str().unwrap(),
            "rebase",
            &reference,
        ]);
        let etc = deployments(&scene.sysroot()).remove(0).join("etc");
        std::fs::write(etc.join("local.conf"), "mine").unwrap();
        let changed = format!("{OS}\nfile /usr/share/two 0 0 644 2\nfile /usr/etc/two 0 0 644 2\n");
        image(&changed).write_layout(&layout, "os").unwrap();
        scene
    }

    fn sysroot(&self) -> PathBuf {
        self.dir.path().join("sysroot")
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        let status = Command::new("cp")
            .arg("-a")
            .args([&self.sysroot(), &to])
            .status();
        assert!(status.unwrap().success());
        to
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        mutable(self.dir.path());
    }
}

/// libostree makes deployments immutable; they cannot be removed like that.
fn mutable(path: &Path) {
    let _ = Command::new("chattr")
        .args(["-R", "-f", "-i"])
        .arg(path)
        .output();
}

fn deployments(sysroot: &Path) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(sysroot.join("ostree/deploy/default/deploy")).unwrap();
    dir.map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect()
}

/// The deployment that boots next: its entry's kernel and tree must be there.
fn boots_next(sysroot: &Path) -> PathBuf {
    let entries = std::fs::read_dir(sysroot.join("boot/loader/entries")).unwrap();
    let entries = entries.map(|e| std::fs::read_to_string(e.unwrap().path()).unwrap());
    let key = |text: &str, key: &str| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(key))
            .unwrap_or_else(|| panic!("{text}"));
        line.trim().to_owned()
    };
    let version = |text: &String| key(text, "version ").parse::<u32>().unwrap();
    let entry = entries.max_by_key(version).expect("a boot entry");
    for file in ["linux ", "initrd "] {
        let path = sysroot
            .join("boot")
            .join(key(&entry, file).trim_start_matches('/'));
        assert!(path.is_file(), "{} of {entry}", path.display());
    }
    let options = key(&entry, "options ");
    let tree = options
        .split(' ')
        .find_map(|o| o.strip_prefix("ostree=/"))
        .unwrap();
    let tree = std::fs::canonicalize(sysroot.join(tree)).unwrap();
    assert!(tree.join("usr/lib/modules").is_dir(), "{}", tree.display());
    tree
}

#[test]
fn a_killed_upgrade_boots_the_old_system_or_the_new_one() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    let harmless = |call: &str, when| killed_upgrade_is_harmless(&scene, call, when);
    let kills = kill_everywhere(&CALLS, harmless);
    assert!(
        kills > 20,
        "only {kills} kills: has the upgrade changed so much?"
    );
}

/// Kills one upgrade and checks what it leaves; false when it ended before the kill.
fn killed_upgrade_is_harmless(scene: &Scene, call: &str, when: usize) -> bool {
    let sysroot = scene.copy(&format!("{call}-{when}"));
    let at = sysroot.to_str().unwrap();
    let args = ["-q", "--sysroot", at, "upgrade"];
    let killed = killed_at(call, when, &args);
    let what = format!("{call} {when}");
    let next = check(&sysroot, &what);
    let is_new = next.join("usr/share/two").exists();
    assert_eq!(next.join("etc/two").exists(), is_new, "{what}");
    succeed(&args);
    let next = check(&sysroot, &what);
    assert!(
        next.join("usr/share/two").exists() && next.join("etc/two").exists(),
        "{what}"
    );
    discard(sysroot);
    killed
}

/// Arguments of the entry that boots next, without the deployment.
fn options(sysroot: &Path) -> String {
    let list = succeed(&[
        "--sysroot",
        sysroot.to_str().unwrap(),
        "kargs",
        "--format",
        "json",
    ]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    list["options"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_change_of_kernel_arguments_was_made_or_was_not() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    let harmless = |call: &str, when| killed_change_is_harmless(&scene, call, when);
    let kills = kill_everywhere(&CALLS, harmless);
    assert!(kills > 10, "only {kills} kills");
}

/// Kills one change of arguments and checks what it leaves; false when it ended before the kill.
fn killed_change_is_harmless(scene: &Scene, call: &str, when: usize) -> bool {
    let sysroot = scene.copy(&format!("kargs-{call}-{when}"));
    let at = sysroot.to_str().unwrap();
    let args = [
        "-q",
        "--sysroot",
        at,
        "kargs",
        "append",
        "--if-missing",
        "x=1",
    ];
    let killed = killed_at(call, when, &args);
    let what = format!("{call} {when}");
    check(&sysroot, &what);
    let found = options(&sysroot);
    assert!(["", "x=1"].contains(&&*found), "{what}: {found}");
    succeed(&args);
    assert_eq!(options(&sysroot), "x=1", "{what}");
    let count = deployments(&sysroot).len();
    assert_eq!(count, 2, "{what}: deployments");
    discard(sysroot);
    killed
}

/// The deployment that boots next is whole, and has what the host had in `/etc`.
fn check(sysroot: &Path, what: &str) -> PathBuf {
    let next = boots_next(sysroot);
    let local = std::fs::read_to_string(next.join("etc/local.conf"));
    assert_eq!(local.unwrap(), "mine", "{what}");
    fsck(sysroot);
    next
}

fn discard(sysroot: PathBuf) {
    fsck(&sysroot);
    mutable(&sysroot);
    std::fs::remove_dir_all(sysroot).unwrap();
}

fn fsck(sysroot: &Path) {
    let repo = format!("--repo={}", sysroot.join("ostree/repo").display());
    let output = Command::new("ostree")
        .args(["fsck", "--quiet", &repo])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
