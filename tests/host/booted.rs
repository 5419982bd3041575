//! A host that runs from a deployment, as far as libostree can tell: the deployment is the root
//! of a private mount namespace with `/run/ostree-booted` in it. Shows what only a booted host
//! does: staging, finishing at shutdown, a read-only `/sysroot`. Needs the programs
//! `unshare`, `mount` and `chroot`, and a merged `/usr`; says so and passes otherwise.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bowline::sysroot::{Slot, Sysroot};
use bowline::testing::{Image, ScratchSysroot, samples};
use serde_json::Value;

use crate::scene::{alone, turn};

/// Directories that the host's programs need in the deployment's root.
const LINKS: &str = "
    link /bin usr/bin
    link /sbin usr/sbin
    link /lib usr/lib
    link /lib64 usr/lib64
    dir /mnt 0 0 755
";

/// In mount and process namespaces of its own (libostree compares its mount namespace with that
/// of process 1), makes `$1` a root in which the deployment `$2` of the sysroot `$3` runs, with `$4` as `/run`
/// and `$5` as `/tmp`, and runs the rest there.
const BOOT: &str = r#"
set -eu
root=$1 deployment=$2 sysroot=$3 run=$4 tmp=$5 program=$6; shift 6
mount --bind "$deployment" "$root"
mount --bind "$sysroot" "$root/sysroot"
mount --bind "$sysroot/boot" "$root/boot"
mount --bind "$run" "$root/run"
mount --bind "$tmp" "$root/tmp"
mount --bind "$sysroot/ostree/deploy/default/var" "$root/var"
mount --bind "$program" "$root/mnt"
mount -t proc proc "$root/proc"
mount --bind "$run/boot-id" "$root/proc/sys/kernel/random/boot_id"
mount --rbind /dev "$root/dev"
mount --rbind /usr "$root/usr"
[ -z "${READ_ONLY:-}" ] || { mount -o remount,bind,ro "$root/sysroot"; mount -o remount,bind,ro "$root/boot"; }
exec chroot "$root" "$@"
"#;

#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
pub fn can_run() -> bool {
    let merged = Path::new("/lib").is_symlink();
    let mut unshare = Command::new("unshare");
    let unshare = unshare.args(["-m", "-p", "-f", "--", "mount", "-t", "proc", "x", "/mnt"]);
    let can = merged && unshare.output().is_ok_and(|o| o.status.success());
    if !can {
        println!("skipped: needs a merged /usr and mount namespaces");
    }
    can
}

pub struct Machine {
    pub sysroot: ScratchSysroot,
    pub dir: tempfile::TempDir,
    pub deployment: PathBuf,
    read_only: bool,
    boots: u32,
}

impl Machine {
    /// Deploys an image from outside and boots into it.
    pub fn new(image: &Image) -> Self {
        let sysroot = ScratchSysroot::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "run", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("tmp/policy.json"), samples::ANY_IMAGE).unwrap();
        // In place of the real one, which must never be run by a test.
        let stub = dir.path().join("tmp/bin/systemctl");
        fs::create_dir(stub.parent().unwrap()).unwrap();
        fs::write(&stub, "#!/bin/sh\necho \"$@\" >>/tmp/systemctl.log\n").unwrap();
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
        let mut machine = Self {
            deployment: PathBuf::new(),
            read_only: false,
            boots: 0,
            sysroot,
            dir,
        };
        // The layout must have the same path inside and outside.
        machine.publish(image);
        let output = Command::new(env!("CARGO_BIN_EXE_bowline"))
            .args(["rebase", "--sysroot"])
            .arg(machine.sysroot.path())
            .arg(format!("oci:{}:os", machine.layout().display()))
            .env(
                "CONTAINERS_POLICY_JSON",
                machine.dir.path().join("tmp/policy.json"),
            )
            .output();
        good(&output.unwrap());
        let origin = machine.origin();
        let text = fs::read_to_string(&origin).unwrap();
        let inside = text.replace(machine.layout().to_str().unwrap(), "/tmp/layout");
        fs::write(origin, inside).unwrap();
        machine.reboot();
        machine
    }

    pub fn layout(&self) -> PathBuf {
        self.dir.path().join("tmp/layout")
    }

    pub fn publish(&self, image: &Image) {
        self.publish_as(image, "os");
    }

    pub fn publish_as(&self, image: &Image, tag: &str) {
        image.write_layout(&self.layout(), tag).unwrap();
    }

    pub fn first(&self) -> PathBuf {
        let sysroot = Sysroot::open(self.sysroot.path()).unwrap();
        sysroot.directory(&sysroot.deployments().unwrap()[0].id)
    }

    pub fn origin(&self) -> PathBuf {
        let first = self.first();
        let name = first.file_name().unwrap().to_str().unwrap();
        first.with_file_name(format!("{name}.origin"))
    }

    /// Starts the first deployment of the boot order with a fresh `/run`. Without more before it,
    /// this is what follows a power cut.
    pub fn reboot(&mut self) {
        self.boot(0);
    }

    /// Starts a deployment by its place in the boot order, as a bootloader may choose.
    pub fn boot(&mut self, place: usize) {
        let run = self.dir.path().join("run");
        fs::remove_dir_all(&run).unwrap();
        fs::create_dir(&run).unwrap();
        fs::write(run.join("ostree-booted"), "").unwrap();
        self.boots += 1;
        fs::write(run.join("boot-id"), format!("{:032}\n", self.boots)).unwrap();
        let sysroot = Sysroot::open(self.sysroot.path()).unwrap();
        self.deployment = sysroot.directory(&sysroot.deployments().unwrap()[place].id);
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_bowline")).parent().unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "--propagation", "private"]);
        command.args(["--", "sh", "-c", BOOT, "sh"]);
        command.args([
            &self.dir.path().join("root"),
            &self.deployment,
            self.sysroot.path(),
            &self.dir.path().join("run"),
            &self.dir.path().join("tmp"),
            program,
        ]);
        command
            .args(args)
            .env("CONTAINERS_POLICY_JSON", "/tmp/policy.json");
        command.env("PATH", "/tmp/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if self.read_only {
            command.env("READ_ONLY", "1");
        }
        command.output().unwrap()
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        good(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn bowline(&self, args: &[&str]) -> String {
        self.ok(&[&["/mnt/bowline"], args].concat())
    }

    pub fn status(&self) -> Value {
        let output = self.run(&["/mnt/bowline", "status", "--json"]);
        // 10: an update was staged and not applied.
        assert!(matches!(output.status.code(), Some(0 | 10)), "{output:?}");
        let mut status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["status"].take()
    }

    /// Versions of staged, booted and rollback.
    pub fn versions(&self) -> [Option<String>; 3] {
        let status = self.status();
        ["staged", "booted", "rollback"].map(|slot| {
            let version = status[slot]["image"]["version"].as_str();
            version.map(str::to_owned)
        })
    }

    /// What `ostree-finalize-staged.service` does at shutdown, then a boot.
    pub fn restart(&mut self) {
        self.ok(&["ostree", "admin", "finalize-staged"]);
        self.reboot();
    }

    /// Requests to reboot, so far. Newer libostrees start their service by `systemctl`, too.
    pub fn reboots(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("tmp/systemctl.log"));
        let log = log.unwrap_or_default();
        log.lines().filter(|line| *line == "reboot").count()
    }

    pub fn fsck(&self) {
        let repo = format!(
            "--repo={}",
            self.sysroot.path().join("ostree/repo").display()
        );
        good(
            &Command::new("ostree")
                .args(["fsck", "--quiet", &repo])
                .output()
                .unwrap(),
        );
    }
}

pub fn good(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

pub fn os(version: &str) -> Image {
    labelled(version, version)
}

/// An image of one version with the content of another.
pub fn labelled(version: &str, content: &str) -> Image {
    image(version, content, "")
}

/// An image with further fixture lines.
pub fn os_with(version: &str, more: &str) -> Image {
    image(version, version, more)
}

fn image(version: &str, content: &str, more: &str) -> Image {
    let lines = format!("{LINKS}\nfile /usr/share/version 0 0 644 {content}\n{more}");
    samples::os_image(version, &lines).unwrap()
}

pub fn versions(expected: [&str; 3]) -> [Option<String>; 3] {
    expected.map(|version| (!version.is_empty()).then(|| version.to_owned()))
}

#[test]
fn an_upgrade_is_staged_and_boots_after_the_restart() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    assert_eq!(machine.versions(), versions(["", "1", ""]));
    assert_eq!(machine.status()["type"], "bootcHost");

    machine.publish(&os("2"));
    let said = machine.bowline(&["upgrade"]);
    assert!(said.contains("; it boots at the next restart\n"), "{said}");
    assert_eq!(machine.versions(), versions(["2", "1", ""]));
    let said = machine.bowline(&["upgrade"]);
    assert!(said.contains("is staged already"), "{said}");
    // A newer one replaces it.
    machine.publish(&os("3"));
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.versions(), versions(["3", "1", ""]));
    machine.fsck();

    fs::write(machine.deployment.join("etc/motd"), "late edit\n").unwrap();
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "3", "1"]));
    let motd = fs::read_to_string(machine.deployment.join("etc/motd")).unwrap();
    assert_eq!(motd, "late edit\n");
    let said = machine.bowline(&["upgrade"]);
    assert!(said.contains("runs already"), "{said}");
    machine.fsck();
}

#[test]
fn a_rollback_discards_what_is_staged_and_only_then_goes_back() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    machine.publish(&os("2"));
    machine.bowline(&["upgrade"]);
    machine.restart();
    machine.publish(&os("3"));
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.versions(), versions(["3", "2", "1"]));

    let said = machine.bowline(&["rollback"]);
    assert!(said.starts_with("Discarded the staged update "), "{said}");
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    assert_eq!(machine.status()["rollbackQueued"], false);

    machine.bowline(&["rollback"]);
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    assert_eq!(machine.status()["rollbackQueued"], true);
    machine.bowline(&["rollback"]);
    assert_eq!(machine.status()["rollbackQueued"], false);
    machine.bowline(&["rollback"]);
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "1", "2"]));
    machine.fsck();
}

#[test]
fn a_read_only_sysroot_is_written_in_a_namespace_of_our_own() {
    let Some(_turn) = alone().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    machine.publish(&os("2"));
    machine.read_only = true;
    assert!(!machine.run(&["touch", "/sysroot/x"]).status.success());
    assert_eq!(machine.versions(), versions(["", "1", ""]));
    machine.bowline(&["upgrade", "--check"]);
    let cached = &machine.status()["booted"]["cachedUpdate"]["version"];
    assert_eq!(cached, "2", "the check was not remembered");
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.status()["booted"]["cachedUpdate"], Value::Null);
    assert_eq!(machine.versions(), versions(["2", "1", ""]));
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    machine.fsck();
}

#[test]
fn an_image_goes_once_its_last_deployment_is_doomed() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    let (first, second) = ("oci:/tmp/layout:os", "oci:/tmp/layout:second");
    machine.bowline(&["image", "pull", first]);
    machine.publish_as(&os("2"), "second");
    machine.bowline(&["rebase", second]);
    let images = |machine: &Machine| {
        let list = machine.bowline(&["image", "list"]);
        [first, second].map(|name| list.contains(&format!("{name} ")))
    };
    assert_eq!(images(&machine), [true, true]);
    // A rebase that waits for its boot is what the host follows.
    machine.publish(&os("1.1"));
    let said = machine.bowline(&["upgrade"]);
    assert!(
        said.contains(second) && said.contains("is staged already"),
        "{said}"
    );
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    assert_eq!(images(&machine), [true, true]);

    machine.publish_as(&os("3"), "second");
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.versions(), versions(["3", "2", "1"]));
    assert_eq!(images(&machine), [false, true]);
    // What is doomed still boots if the update is discarded.
    machine.bowline(&["rollback"]);
    machine.bowline(&["rollback"]);
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "1", "2"]));
    machine.fsck();
    machine.bowline(&["upgrade"]);
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "1.1", "1"]));
    assert_eq!(images(&machine), [true, false]);
    machine.fsck();
}

#[test]
fn apply_reboots_only_into_something_new() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let machine = Machine::new(&os("1"));
    machine.bowline(&["upgrade", "--apply"]);
    assert_eq!(machine.reboots(), 0, "rebooted for nothing");
    machine.publish(&os("2"));
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.reboots(), 0, "rebooted without being asked to");
    // Staged by an earlier run: it still waits for the reboot that is asked for now.
    let said = machine.bowline(&["upgrade", "--apply"]);
    assert!(said.ends_with("Rebooting\n"), "{said}");
    assert_eq!(machine.reboots(), 1);
    machine.bowline(&["rollback", "--apply"]);
    assert_eq!(machine.reboots(), 2);
}

#[test]
fn the_physical_root_is_the_running_system() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let machine = Machine::new(&os("1"));
    machine.publish(&os("2"));
    machine.bowline(&["--sysroot", "/sysroot", "upgrade"]);
    assert_eq!(machine.versions(), versions(["2", "1", ""]));
    let outside = Sysroot::open(machine.sysroot.path()).unwrap();
    let slots: Vec<_> = outside
        .deployments()
        .unwrap()
        .iter()
        .map(|d| d.slot)
        .collect();
    assert_eq!(slots, [Slot::Other], "something was finished at once");
}

#[test]
fn kernel_arguments_change_on_top_of_what_is_staged() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = Machine::new(&os("1"));
    let listed = |machine: &Machine| -> Value {
        let list = machine.bowline(&["kargs", "list", "--format", "json"]);
        serde_json::from_str(&list).unwrap()
    };
    machine.publish(&os("2"));
    machine.bowline(&["upgrade"]);
    let said = machine.bowline(&["kargs", "append", "root=UUID=1", "quiet"]);
    assert!(said.contains("+ root=UUID=1\n+ quiet\nStaged "), "{said}");
    assert_eq!(machine.versions(), versions(["2", "1", ""]));
    assert_eq!(listed(&machine)["staged"], true);
    machine.bowline(&["kargs", "replace", "quiet=3"]);
    // An update that comes before the reboot takes them along.
    machine.publish(&os("3"));
    machine.bowline(&["upgrade"]);
    assert_eq!(machine.versions(), versions(["3", "1", ""]));
    assert_eq!(listed(&machine)["options"], "root=UUID=1 quiet=3");
    let unchanged = [
        "kargs",
        "append",
        "--if-missing",
        "--unchanged-exit-77",
        "quiet=3",
    ];
    let output = machine.run(&[&["/mnt/bowline"], &unchanged[..]].concat());
    assert_eq!(output.status.code(), Some(77));
    fs::write(machine.deployment.join("etc/motd"), "late edit\n").unwrap();

    machine.restart();
    assert_eq!(machine.versions(), versions(["", "3", "1"]));
    let list = listed(&machine);
    assert_eq!(
        (&list["booted"], &list["options"]),
        (&true.into(), &"root=UUID=1 quiet=3".into())
    );
    let motd = fs::read_to_string(machine.deployment.join("etc/motd")).unwrap();
    assert_eq!(motd, "late edit\n");
    // The same commit again: what runs stays the way back.
    machine.bowline(&["kargs", "delete", "quiet"]);
    machine.restart();
    assert_eq!(machine.versions(), versions(["", "3", "3"]));
    assert_eq!(listed(&machine)["options"], "root=UUID=1");
    machine.bowline(&["rollback"]);
    // A rollback that waits is changed, not undone.
    machine.bowline(&["kargs", "append", "last"]);
    machine.restart();
    assert_eq!(listed(&machine)["options"], "root=UUID=1 quiet=3 last");
    machine.fsck();
}
