//! Trials of updates on a booted host, through each kind of bootloader: `boot check` and `boot ok` as
//! the units run them, with the bootloader's part played here, and what `status`, `upgrade` and
//! `rebase` say afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bowline::boot::{BootSetup, Bootloader, GRUB_CFG, Grubenv};

use crate::booted::{Machine, can_run, os, os_with, versions};
use crate::scene::{Scene, stderr, turn};

/// Nothing that the test's own machine could have or lack.
const SETTINGS: &str =
    "health: {target: off, units: [], network: off, registry: off, space: off}\n";
const CHECK: &str = "[ ! -e /etc/broken ] || { echo starting; echo no database >&2; exit 3; }";
const HOOK: &str = "echo $BOWLINE_EVENT $BOWLINE_CHECK $BOWLINE_VERSION >>/tmp/hooks";

/// Version 2, whose check is red.
fn broken() -> bowline::testing::Image {
    os_with("2", "file /usr/etc/broken 0 0 644 x")
}

struct Host {
    machine: Machine,
    loader: Bootloader,
}

impl Host {
    /// Runs version 1 with a check, hooks and quiet settings, all of which updates take over.
    fn new(loader: Bootloader) -> Self {
        let machine = Machine::new(&os("1"));
        let root = machine.sysroot.path().to_owned();
        let config = root.join("ostree/repo/config");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + "\n[sysroot]\nbootloader=none\n").unwrap();
        fs::create_dir(root.join("boot/grub")).unwrap();
        fs::create_dir(machine.dir.path().join("tmp/esp")).unwrap();
        let esp = (loader == Bootloader::SystemdBoot).then(|| "/tmp/esp".to_owned());
        let setup = BootSetup {
            bootloader: loader,
            esp,
        };
        setup.write(&root).unwrap();
        if loader == Bootloader::Grub {
            fs::write(root.join("boot/grub/grub.cfg"), GRUB_CFG).unwrap();
        }
        let host = Self { machine, loader };
        let etc = host.machine.deployment.join("etc/bowline");
        for (path, body) in [
            ("check.d/required.d/10-db", CHECK),
            ("check.d/wanted.d/90-extra", "exit 1"),
            ("on-good.d/hook", HOOK),
            ("on-bad.d/hook", HOOK),
        ] {
            let path = etc.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(etc.join("test.yaml"), SETTINGS).unwrap();
        host.machine.bowline(&["boot", "mirror"]);
        host
    }

    /// Stages the newest image and shuts down.
    fn update(&self) {
        let said = self.machine.bowline(&["upgrade"]);
        assert!(said.contains("Staged "), "{said}");
        self.machine.bowline(&["boot", "finalize"]);
        self.machine.ok(&["ostree", "admin", "finalize-staged"]);
        self.machine.bowline(&["boot", "mirror"]);
    }

    fn env(&self) -> (PathBuf, Grubenv) {
        let path = self.machine.sysroot.path().join("boot/grub/grubenv");
        let env = Grubenv::read_or_new(&path).unwrap();
        (path, env)
    }

    /// The bootloader's part: counts, chooses, boots. Gives the place in the boot order.
    fn boot(&mut self) -> usize {
        let place = match self.loader {
            Bootloader::Grub => self.grub(),
            Bootloader::SystemdBoot => self.systemd_boot(),
            Bootloader::None => 0,
        };
        self.machine.boot(place);
        place
    }

    fn grub(&self) -> usize {
        let (path, mut env) = self.env();
        let counter = env.get("boot_counter").map(str::to_owned);
        match counter.as_deref().map(|c| c.parse::<u32>().unwrap()) {
            None => 0,
            Some(0) => 1,
            Some(left) => {
                env.set("boot_counter", &(left - 1).to_string()).unwrap();
                env.write(&path).unwrap();
                0
            }
        }
    }

    fn entries(&self) -> Vec<String> {
        let dir = self.machine.dir.path().join("tmp/esp/loader/entries");
        let names = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.reverse();
        names
    }

    fn systemd_boot(&self) -> usize {
        let dir = self.machine.dir.path().join("tmp/esp/loader/entries");
        let names = self.entries();
        let place = names.iter().position(|name| !name.contains("+0"));
        let place = place.unwrap();
        let name = names[place].strip_suffix(".conf").unwrap();
        if let Some((stem, tries)) = name.split_once('+') {
            let (left, done) = tries.split_once('-').unwrap_or((tries, "0"));
            let (left, done): (u32, u32) = (left.parse().unwrap(), done.parse().unwrap());
            let counted = format!("{stem}+{}-{}.conf", left - 1, done + 1);
            fs::rename(dir.join(&names[place]), dir.join(counted)).unwrap();
        }
        place
    }

    /// `boot check`: its exit code and what it said.
    fn check(&self) -> (Option<i32>, String) {
        let output = self.machine.run(&["/mnt/bowline", "boot", "check"]);
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), format!("{said}{}", stderr(&output)))
    }

    /// Requests to reboot, so far.
    fn reboots(&self) -> usize {
        let log = fs::read_to_string(self.machine.dir.path().join("tmp/systemctl.log"));
        let log = log.unwrap_or_default();
        log.lines().filter(|line| *line == "reboot").count()
    }

    fn hooks(&self) -> String {
        fs::read_to_string(self.machine.dir.path().join("tmp/hooks")).unwrap_or_default()
    }

    fn human(&self) -> String {
        self.machine.bowline(&["status"])
    }

    fn counted(&self) -> bool {
        match self.loader {
            Bootloader::Grub => self.env().1.get("boot_counter").is_some(),
            Bootloader::SystemdBoot => self.entries().iter().any(|name| name.contains('+')),
            Bootloader::None => false,
        }
    }
}

const LOADERS: [Bootloader; 3] = [Bootloader::Grub, Bootloader::SystemdBoot, Bootloader::None];

#[test]
fn a_red_update_is_tried_three_times_and_never_again() {
    for loader in LOADERS {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::new(loader);
        host.machine.publish(&broken());
        host.update();
        for number in 1..=3 {
            assert_eq!(host.boot(), 0, "{loader:?}");
            let (code, said) = host.check();
            assert_eq!(code, Some(9), "{said}");
            assert!(
                said.contains(&format!("This boot is try {number} of 3\n")),
                "{said}"
            );
            let red = "This boot is red: check 10-db failed: it ended with code 3: starting / no \
                       database; ";
            assert!(said.contains(red), "{said}");
            assert_eq!(host.reboots(), number);
        }
        // With nothing that counts, the order has changed already.
        let place = host.boot();
        assert_eq!(place, usize::from(loader != Bootloader::None), "{loader:?}");
        let (code, said) = host.check();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(", and the host went back to the deployment before it: check 10-db"));
        host.machine.bowline(&["boot", "ok"]);
        assert_eq!(host.reboots(), 3);
        assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
        assert_eq!(host.machine.status()["rollbackQueued"], false);
        assert!(!host.counted());
        let hooks = "retry 10-db 2\nretry 10-db 2\ngiven-up 10-db 2\nfell-back 10-db 2\ngood 1\n";
        assert_eq!(host.hooks().replace("  ", " "), hooks);

        let health = host.machine.status()["health"].take();
        assert_eq!(health["lastEvent"]["kind"], "fell-back");
        assert_eq!(health["lastEvent"]["check"], "10-db");
        assert_eq!(health["badImages"].as_array().unwrap().len(), 1);
        let human = host.human();
        assert!(human.contains(" failed its trial at 20"), "{human}");
        assert!(
            human.contains("is not installed again until its tag moves"),
            "{human}"
        );
        refuses_until_the_tag_moves(&host);
        // It boots for good.
        assert_eq!(host.boot(), 0);
        assert_eq!(host.check().0, Some(0));
        host.machine.fsck();
    }
}

fn refuses_until_the_tag_moves(host: &Host) {
    let machine = &host.machine;
    for args in [
        &["upgrade"][..],
        &["upgrade", "--check"],
        &["upgrade", "--unattended"],
    ] {
        let said = machine.bowline(args);
        assert!(said.starts_with("No change: "), "{said}");
        assert!(said.contains("version 2 (2026"), "{said}");
        assert!(
            said.contains("is not installed again until the tag moves"),
            "{said}"
        );
    }
    let output = machine.run(&["/mnt/bowline", "upgrade", "--unchanged-exit-77"]);
    assert_eq!(output.status.code(), Some(77));
    let named = ["/mnt/bowline", "rebase", "oci:/tmp/layout:os"];
    let output = machine.run(&named);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("with --force"),
        "{}",
        stderr(&output)
    );
    let said = machine.ok(&[&named[..], &["--force"]].concat());
    assert!(said.contains("Staged "), "{said}");
    machine.bowline(&["rollback"]);
    let said = machine.bowline(&["upgrade", "--force"]);
    assert!(said.contains("Staged "), "{said}");
    machine.bowline(&["rollback"]);
    machine.publish(&os("3"));
    let said = machine.bowline(&["upgrade"]);
    assert!(said.contains("Version     3 "), "{said}");
    machine.bowline(&["rollback"]);
}

#[test]
fn a_good_update_is_counted_no_more() {
    for loader in LOADERS {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::new(loader);
        host.machine.publish(&os("2"));
        host.update();
        // The first try hangs.
        assert_eq!(host.boot(), 0);
        host.boot();
        let (code, said) = host.check();
        assert_eq!(code, Some(0), "{said}");
        let number = if loader == Bootloader::None { 1 } else { 2 };
        assert!(
            said.contains(&format!("This boot is try {number} of 3\n")),
            "{said}"
        );
        assert!(said.contains("green  10-db (required)\n"), "{said}");
        assert!(
            said.contains("red    90-extra (wanted): it ended with code 1\n"),
            "{said}"
        );
        let human = host.human();
        assert!(
            human.contains(&format!(" is on trial: try {number} of 3\n")),
            "{human}"
        );
        let said = host.machine.bowline(&["boot", "ok"]);
        assert!(said.contains(" proved itself at 20"), "{said}");
        assert!(!host.counted());
        assert_eq!(host.machine.status()["health"]["lastEvent"]["kind"], "good");
        assert_eq!(host.machine.bowline(&["boot", "ok"]), "This boot is good\n");
        assert_eq!(host.hooks().replace("  ", " "), "good 2\ngood 2\n");
        for _ in 0..5 {
            assert_eq!(host.boot(), 0, "{loader:?}");
        }
        assert_eq!((host.check().0, host.reboots()), (Some(0), 0));
    }
}

#[test]
fn an_update_that_never_reports_back_is_given_up() {
    for loader in [Bootloader::Grub, Bootloader::SystemdBoot] {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::new(loader);
        // The older one is red, too.
        let local = host.machine.deployment.join("etc/broken");
        host.machine.publish(&os("2"));
        host.update();
        for _ in 0..3 {
            assert_eq!(host.boot(), 0);
        }
        assert_eq!(host.boot(), 1);
        fs::write(local, "x").unwrap();
        let (code, said) = host.check();
        assert_eq!(code, Some(9), "{said}");
        let reason = "never reported back: it hung, panicked or lost power";
        assert!(said.contains(reason), "{said}");
        assert!(
            said.contains("no update is on trial") || said.contains("failed as well"),
            "{said}"
        );
        assert_eq!(host.reboots(), 0, "the older one stays up");
        let health = host.machine.status()["health"].take();
        assert_eq!(health["badImages"][0]["reason"], reason);
        assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
        assert_eq!(host.boot(), 0);
    }
}

#[test]
fn a_rollback_by_hand_ends_the_trial() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::new(Bootloader::Grub);
    host.machine.publish(&os("2"));
    host.update();
    host.boot();
    assert_eq!(host.check().0, Some(0));
    host.machine.bowline(&["rollback"]);
    let health = host.machine.status()["health"].take();
    assert_eq!(health["onTrial"], serde_json::Value::Null);
    assert_eq!(health["lastEvent"]["kind"], "withdrawn");
    assert_eq!(health["badImages"].as_array().unwrap().len(), 0);
    assert!(!host.counted());
    host.boot();
    assert_eq!((host.check().0, host.reboots()), (Some(0), 0));
    assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
}

#[test]
fn what_comes_back_without_ever_having_been_good_is_on_trial_again() {
    for loader in LOADERS {
        let Some(_turn) = turn().filter(|_| can_run()) else {
            return;
        };
        let mut host = Host::new(loader);
        host.machine.publish(&broken());
        host.update();
        host.boot();
        assert_eq!(host.check().0, Some(9));
        host.machine.bowline(&["rollback"]);
        assert!(!host.counted());
        let said = host.machine.bowline(&["rollback"]);
        assert!(
            said.ends_with("It never was good, and gets 3 tries\n"),
            "{said}"
        );
        assert_eq!(host.counted(), loader != Bootloader::None);
        let human = host.human();
        assert!(human.contains(" is on trial: it has 3 tries\n"), "{human}");
        for number in 1..=3 {
            assert_eq!(host.boot(), 0, "{loader:?}");
            let (code, said) = host.check();
            assert_eq!(code, Some(9), "{said}");
            let try_ = format!("This boot is try {number} of 3\n");
            assert!(said.contains(&try_), "{loader:?} {said}");
        }
        host.boot();
        assert_eq!((host.check().0, host.reboots()), (Some(0), 4));
        host.machine.bowline(&["boot", "ok"]);
        assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
        // So is one that failed; a good one is not.
        let said = host.machine.bowline(&["rollback"]);
        assert!(said.ends_with("gets 3 tries\n"), "{said}");
        let said = host.machine.bowline(&["rollback"]);
        assert!(!said.contains("tries"), "{said}");
        assert!(!host.counted());
    }
}

#[test]
fn while_what_runs_is_on_trial_its_way_back_is_kept() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::new(Bootloader::Grub);
    fs::write(
        host.machine.deployment.join("etc/bowline/update.yaml"),
        "update: {metered: allow, battery: allow}\n",
    )
    .unwrap();
    host.machine.publish(&os("2"));
    host.update();
    host.boot();
    assert_eq!(host.check().0, Some(0));
    let said = host.machine.bowline(&["upgrade"]);
    assert!(said.starts_with("No change"), "{said}");
    host.machine.publish(&os("3"));
    let program = "/mnt/bowline";
    let refused = |host: &Host, args: &[&str], code: i32| {
        let output = host.machine.run(&[&[program][..], args].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            stderr(&output)
        );
        (
            String::from_utf8(output.stdout.clone()).unwrap(),
            stderr(&output),
        )
    };
    for args in [
        &["upgrade"][..],
        &["rebase", "oci:/tmp/layout:os"],
        &["kargs", "append", "a=1"],
    ] {
        let (_, said) = refused(&host, args, 4);
        assert!(said.contains("which runs, is still on trial"), "{said}");
        assert!(said.contains("--force"), "{said}");
    }
    let (said, _) = refused(&host, &["upgrade", "--unattended"], 75);
    let reason = "Not updated: what runs is still on trial, and its boot not yet marked good\n";
    assert!(said.ends_with(reason), "{said}");
    // After a rollback it runs still, and the way back boots next.
    host.machine.bowline(&["rollback"]);
    refused(&host, &["upgrade"], 4);
    host.machine.bowline(&["rollback"]);
    host.machine.bowline(&["upgrade", "--check"]);
    host.machine.bowline(&["upgrade", "--download-only"]);
    assert_eq!(host.machine.versions(), versions(["", "2", "1"]));
    for args in [
        &["upgrade", "--force"][..],
        &["kargs", "append", "a=1", "--force"],
    ] {
        host.machine.bowline(args);
        assert_ne!(
            host.machine.versions(),
            versions(["", "2", "1"]),
            "{args:?}"
        );
        host.machine.bowline(&["rollback"]);
    }
    host.machine.bowline(&["boot", "ok"]);
    let said = host.machine.bowline(&["upgrade"]);
    assert!(said.contains("Staged "), "{said}");
}

#[test]
fn an_upgrade_waits_for_the_verdict_on_this_boot() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::new(Bootloader::Grub);
    host.machine.publish(&os("2"));
    host.update();
    host.boot();
    assert_eq!(host.check().0, Some(0));
    host.machine.publish(&os("3"));
    // systemd's part: the job waits at first, and then it runs. The lock is free.
    let systemctl = "#!/bin/sh\n[ \"$*\" = 'show --property=Job --value bowline-boot-ok.service' ] || exit 1\n\
                     echo 7\n[ -e /tmp/asked ] && /mnt/bowline boot ok >&2\ntouch /tmp/asked\n";
    fs::write(host.machine.dir.path().join("tmp/bin/systemctl"), systemctl).unwrap();
    let said = host.machine.bowline(&["upgrade"]);
    let waits = said.matches("Waiting for the checks of this boot").count();
    assert_eq!(waits, 1, "{said}");
    assert!(said.contains("Staged "), "{said}");
    assert_eq!(
        host.machine.status()["health"]["onTrial"],
        serde_json::Value::Null
    );
}

#[test]
fn a_grub_that_cannot_write_its_counter_keeps_nobody_waiting() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut host = Host::new(Bootloader::Grub);
    host.machine.publish(&os("2"));
    host.update();
    for number in 1..3 {
        // As our grub.cfg does: what it cannot write down it does not boot.
        host.machine.boot(1);
        let (code, said) = host.check();
        assert_eq!(code, Some(0), "{said}");
        let spent = format!("booted this deployment instead: try {number} of 3 is spent\n");
        assert!(said.contains(&spent), "{said}");
        let health = host.machine.status()["health"].take();
        assert_eq!(health["onTrial"]["uncounted"], true);
        let human = host.human();
        let told = format!("try {number} of 3; the bootloader cannot write down that it counts");
        assert!(human.contains(&told), "{human}");
    }
    host.machine.boot(1);
    let (code, said) = host.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(": the bootloader could not write down that it counts"),
        "{said}"
    );
    assert_eq!((host.counted(), host.reboots()), (false, 0));
    assert_eq!(host.boot(), 0);
    assert_eq!(host.machine.versions(), versions(["", "1", "2"]));
    let said = host.machine.bowline(&["upgrade"]);
    assert!(
        said.contains("is not installed again until the tag moves"),
        "{said}"
    );
}

#[test]
fn both_systems_know_of_a_trial_that_crosses_from_one_to_the_other() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let host = Host::new(Bootloader::Grub);
    let image = "oci:/tmp/layout:os";
    host.machine.publish(&os("2"));
    host.machine
        .bowline(&["--stateroot", "second", "rebase", image]);
    host.machine.bowline(&["boot", "finalize"]);
    for stateroot in ["default", "second"] {
        let var = host
            .machine
            .sysroot
            .path()
            .join("ostree/deploy")
            .join(stateroot);
        let text = fs::read_to_string(var.join("var/lib/bowline/boot-state.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let on_trial = record["trial"]["deployment"].as_str().unwrap();
        assert!(on_trial.starts_with("second/"), "{stateroot}: {text}");
    }
}

#[test]
fn a_red_host_without_a_trial_stays_up() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let host = Host::new(Bootloader::Grub);
    fs::write(host.machine.deployment.join("etc/broken"), "x").unwrap();
    let (code, said) = host.check();
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("no update is on trial"), "{said}");
    assert_eq!(host.reboots(), 0);
    assert!(host.machine.status().get("health").is_none());
}

#[test]
fn there_is_a_boot_to_judge_on_the_booted_host_only() {
    let Some(_turn) = turn() else {
        return;
    };
    let scene = Scene::new();
    scene.publish(&os("1"), "os");
    scene.ok(&["rebase", &scene.image_name("os")]);
    for command in ["check", "ok"] {
        let said = scene.fails(7, &["boot", command]);
        assert!(said.contains("did not boot from"), "{said}");
    }
}
