//! The checks on a small good tree, and on that tree with one thing wrong at a time.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::testing::samples;

fn write(root: &Path, path: &str, text: &str) {
    samples::write(root, path, text).unwrap();
}

/// A file system in which nothing is found.
fn good() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in [
        "boot",
        "dev",
        "proc",
        "run/empty",
        "sys",
        "sysroot",
        "tmp",
        "var/tmp",
        "var/lib/x",
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    symlink("sysroot/ostree", root.join("ostree")).unwrap();
    for (path, text) in [
        ("run/systemd/resolve/stub-resolv.conf", ""),
        ("usr/lib/modules/6.1/vmlinuz", "kernel"),
        ("usr/lib/modules/6.1/initramfs.img", "initramfs"),
        ("usr/lib/modules/6.1-leftover/modules.dep", ""),
        (
            "usr/lib/ostree/prepare-root.conf",
            "[sysroot]\nreadonly = true\n",
        ),
        (
            "usr/lib/os-release",
            "ID=x\nVERSION_ID=1\nPRETTY_NAME=\"X 1\"\n",
        ),
        (
            "usr/lib/tmpfiles.d/x.conf",
            "d /var/lib/x 0755 root root -\nd /run/x\n",
        ),
        ("usr/lib/ostree/ostree-prepare-root", "program"),
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nbin:x:2:2::/:\nnobody:x:65534:65534::/:\n_x:x:990:990::/:\n",
        ),
        ("etc/group", "root:x:0:\n_x:x:990:\n_y:x:991:_x\n"),
        (
            "usr/lib/sysusers.d/x.conf",
            "u! _x 990 \"a user\"\nm _x _y\n",
        ),
        ("etc/machine-id", ""),
        ("etc/containers/policy.json", "{}"),
    ] {
        write(root, path, text);
    }
    let system = "usr/lib/systemd/system";
    for unit in host::OSTREE {
        write(root, &format!("{system}/{unit}"), "");
    }
    for (unit, by) in host::BOWLINE {
        write(root, &format!("{system}/{unit}"), "");
        let wants = root.join(format!("etc/systemd/system/{by}.wants"));
        fs::create_dir_all(&wants).unwrap();
        symlink(format!("/{system}/{unit}"), wants.join(unit)).unwrap();
    }
    dir
}

/// Names of the checks that found something, with what they found.
fn found(root: &Path) -> Vec<(&'static str, Vec<String>)> {
    let report = run(root, &[], false).unwrap();
    let failed = report
        .checks
        .into_iter()
        .filter(|c| c.result == Verdict::Failed);
    failed.map(|check| (check.name, check.findings)).collect()
}

#[test]
fn nothing_is_found_in_a_good_tree() {
    assert_eq!(found(good().path()), []);
}

/// One damage a line: the check that finds it, what is done to a good tree, and what the check says.
/// `-PATH` removes a file, `+PATH=TEXT` writes one.
const DAMAGES: &str = r#"
kernel | -usr/lib/modules/6.1/vmlinuz | there is no kernel
kernel | +usr/lib/modules/6.1/vmlinuz= | there is no kernel
initramfs | +usr/lib/modules/6.1/initramfs.img= | dracut --kver 6.1 /usr/lib/modules/6.1/initramfs.img
initramfs | -usr/lib/modules/6.1/initramfs.img | /usr/lib/modules/6.1/initramfs.img is missing
prepare-root | -usr/lib/ostree/ostree-prepare-root | there is no /usr/lib/ostree/ostree-prepare-root
composefs | +usr/lib/ostree/ostree-prepare-root=... composefs ... | does not set enabled=true in [composefs]
sysusers | +usr/lib/sysusers.d/x.conf=g _x\nm _z _y\n | write `u _x 990` to a file
sysusers | +usr/lib/sysusers.d/x.conf=u _x\n | write `g _y 991` to a file
base-directories | -ostree | /ostree is no link
etc-usretc | +usr/etc/passwd=x | move it to /etc
machine-id | +etc/machine-id=0123456789abcdef0123456789abcdef\n | /etc/machine-id holds an identity
kargs | +usr/lib/bowline/kargs.d/x.yaml=kargs: [a]\nother: 1\n | usr/lib/bowline/kargs.d/x.yaml:
kargs | +usr/lib/bootc/kargs.d/x.toml=kargs = 1\n | usr/lib/bootc/kargs.d/x.toml:1:
install-config | +usr/lib/bowline/install/x.yaml=root-fs: ext4\n | usr/lib/bowline/install/x.yaml:1:
install-config | +usr/lib/bootc/install/x.toml=[install\n | usr/lib/bootc/install/x.toml:1:
settings | +usr/lib/bowline/x.yaml=update: {aply: true}\n | usr/lib/bowline/x.yaml:1:
units | -usr/lib/systemd/system/ostree-remount.service | ostree-remount.service is missing
policy | -etc/containers/policy.json | no image is accepted
sysroot-readonly | +usr/lib/ostree/prepare-root.conf=[etc]\nreadonly=true\n | does not set readonly=true
sysroot-readonly | +usr/lib/ostree/prepare-root.conf=[sysroot]\nreadonly=false\n | does not set readonly=true
os-release | +usr/lib/os-release=ID=x\nVERSION_ID=1\n | has no PRETTY_NAME
os-release | -usr/lib/os-release | there is no /usr/lib/os-release
grub | +usr/lib/os-release=ID=x\nVERSION_ID=1\nPRETTY_NAME="X; Y"\n | the image calls itself X; Y in /usr/lib/os-release, with ;
grub | +usr/lib/bowline/kargs.d/x.yaml=kargs: [x=$y]\n | the kernel argument x=$y has $
var-tmpfiles | +var/lib/z/in/state= | /var/lib/z is not made on hosts
var-tmpfiles | +var/lib/x/state= | /var/lib/x/state is not part of updates
nonempty-boot | +boot/vmlinuz-6.1= | /boot/vmlinuz-6.1 is not seen
nonempty-run-tmp | +run/lock/file=x | /run/lock/file is not seen
nonempty-run-tmp | +tmp/file= | /tmp/file is not seen
builder-files | +etc/resolv.conf= | /etc/resolv.conf is an empty file
builder-files | +etc/hostname= | /etc/hostname is an empty file
"#;

type Damage = fn(&Path);

/// Damages that are no matter of one file's text.
const ODD_DAMAGES: [(&str, Damage, &str); 8] = [
    (
        "base-directories",
        |r| fs::remove_dir(r.join("sysroot")).unwrap(),
        "/sysroot is no directory",
    ),
    (
        "base-directories",
        |r| {
            fs::remove_dir(r.join("proc")).unwrap();
            write(r, "proc", "");
        },
        "/proc is no directory",
    ),
    (
        "var-run",
        |r| {
            write(r, "usr/lib/tmpfiles.d/y.conf", "d /var/run");
            fs::create_dir(r.join("var/run")).unwrap();
        },
        "/var/run is a directory",
    ),
    (
        "var-log",
        |r| {
            write(r, "usr/lib/tmpfiles.d/y.conf", "d /var/log");
            write(r, "var/log/dpkg.log", "text");
        },
        "/var/log/dpkg.log tells of the build",
    ),
    (
        "utf8",
        |r| fs::write(r.join("usr/lib").join(OsStr::from_bytes(b"caf\xe9")), "").unwrap(),
        "the name of /usr/lib/caf\u{fffd} is not UTF-8",
    ),
    (
        "utf8",
        |r| symlink(OsStr::from_bytes(b"\xff"), r.join("usr/lib/link")).unwrap(),
        "the target of the link /usr/lib/link",
    ),
    (
        "var-tmpfiles",
        |r| fs::create_dir(r.join("var/lib/y")).unwrap(),
        "write `d /var/lib/y MODE USER GROUP -`",
    ),
    (
        "var-tmpfiles",
        |r| symlink("x", r.join("var/link")).unwrap(),
        "/var/link is not part of updates",
    ),
];

fn damage(root: &Path, how: &str) {
    match (how.strip_prefix('-'), how.strip_prefix('+')) {
        (Some(path), _) => fs::remove_file(root.join(path)).unwrap(),
        (_, Some(file)) => {
            let (path, text) = file.split_once('=').unwrap();
            write(root, path, &text.replace("\\n", "\n"));
        }
        _ => panic!("{how:?} is no damage"),
    }
}

/// Only one check finds anything in a tree, one thing, with these words.
fn is_found(tree: &Path, name: &str, words: &str) {
    let mut found = found(tree);
    if words == "there is no kernel" {
        // Without a kernel there is nothing to have an initramfs.
        found.retain(|(name, _)| *name != "initramfs");
    }
    assert_eq!(found.len(), 1, "{name} ({words}): {found:?}");
    let (by, findings) = &found[0];
    assert_eq!(*by, name, "{findings:?}");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(words), "{findings:?}");
}

#[test]
fn each_damage_is_found_by_its_check_alone() {
    for line in DAMAGES.trim().lines() {
        let parts: Vec<&str> = line.split(" | ").collect();
        let tree = good();
        damage(tree.path(), parts[1]);
        is_found(tree.path(), parts[0], parts[2]);
    }
    for (name, damage, words) in ODD_DAMAGES {
        let tree = good();
        damage(tree.path());
        is_found(tree.path(), name, words);
    }
}

#[test]
fn several_kernels_are_one_finding() {
    let tree = good();
    write(tree.path(), "usr/lib/modules/6.2/vmlinuz", "kernel");
    write(
        tree.path(),
        "usr/lib/modules/6.2/initramfs.img",
        "initramfs",
    );
    let found = found(tree.path());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].1[0].ends_with("/usr/lib/modules/6.1, /usr/lib/modules/6.2"),
        "{found:?}"
    );
}

#[test]
fn a_skipped_check_is_not_asked() {
    let tree = good();
    write(tree.path(), "boot/x", "");
    let report = run(tree.path(), &["nonempty-boot".into()], false).unwrap();
    let check = report
        .checks
        .iter()
        .find(|c| c.name == "nonempty-boot")
        .unwrap();
    assert_eq!(check.result, Verdict::Skipped);
    assert_eq!(
        report.failed(Level::Warning) + report.failed(Level::Fatal),
        0
    );
}

#[test]
fn many_findings_of_one_kind_are_counted() {
    let tree = good();
    for number in 0..9 {
        write(tree.path(), &format!("boot/{number}"), "");
    }
    let found = found(tree.path());
    assert_eq!(found[0].1.len(), 6);
    assert_eq!(found[0].1[5], "and 4 more like these");
    let all = run(tree.path(), &[], true).unwrap();
    let boot = all
        .checks
        .iter()
        .find(|check| check.name == "nonempty-boot");
    assert_eq!(boot.unwrap().findings.len(), 9);
}

#[test]
fn links_do_not_lead_out_of_the_tree() {
    let tree = good();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "lib/x", "");
    fs::remove_dir_all(tree.path().join("var")).unwrap();
    symlink(outside.path(), tree.path().join("var")).unwrap();
    let found = found(tree.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "base-directories");
}

#[test]
fn checks_have_bootcs_names_too() {
    for (theirs, ours) in BOOTC_NAMES {
        assert_eq!(find(theirs).unwrap().name, ours);
    }
    assert_eq!(find("var-log").unwrap().name, "var-log");
    assert!(find("bootc").is_none());
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CHECKS.len());
}
