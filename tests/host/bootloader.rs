//! What a bootloader sees of upgrades and rollbacks on a booted host: the counter in GRUB's
//! environment block, and the mirror that systemd-boot reads. Power cuts are left-out commands.

use std::fs;
use std::path::{Path, PathBuf};

use bowline::boot::{BootSetup, Bootloader, GRUB_CFG, Grubenv};
use bowline::testing::Image;

use crate::booted::{Machine, can_run, labelled, os, versions};
use crate::scene::turn;

/// A host with the static GRUB configuration.
fn grub_host() -> Machine {
    let machine = Machine::new(&os("1"));
    let dir = machine.sysroot.path().join("boot/grub");
    fs::create_dir(&dir).unwrap();
    // As `install` does: libostree must not run GRUB's own tools.
    let config = machine.sysroot.path().join("ostree/repo/config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "\n[sysroot]\nbootloader=none\n").unwrap();
    fs::write(dir.join("grub.cfg"), GRUB_CFG).unwrap();
    machine
}

fn env(machine: &Machine, name: &str) -> Option<String> {
    let path = machine.sysroot.path().join("boot/grub/grubenv");
    let env = Grubenv::read(&path).unwrap()?;
    env.get(name).map(str::to_owned)
}

fn counter(machine: &Machine) -> Option<String> {
    env(machine, "boot_counter")
}

/// A host whose ESP is a directory.
fn systemd_boot_host() -> (Machine, PathBuf) {
    let machine = Machine::new(&os("1"));
    let esp = machine.dir.path().join("tmp/esp");
    fs::create_dir(&esp).unwrap();
    let setup = BootSetup {
        bootloader: Bootloader::SystemdBoot,
        esp: Some("/tmp/esp".into()),
    };
    setup.write(machine.sysroot.path()).unwrap();
    machine.bowline(&["boot", "mirror"]);
    (machine, esp)
}

/// Names of the mirrored entries, each with the version of the deployment that it boots.
fn mirrored(machine: &Machine, esp: &Path) -> Vec<(String, String)> {
    let entry = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).unwrap();
        let link = text.split("ostree=/").nth(1).unwrap();
        let link = link.split_ascii_whitespace().next().unwrap();
        let target = machine.sysroot.path().join(link);
        let kernel = text
            .split("linux /")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        assert!(esp.join(kernel).exists(), "{kernel}");
        let name = entry.file_name().into_string().unwrap();
        let version = fs::read_to_string(target.join("usr/share/version"));
        (
            name,
            version.map_or("nothing".into(), |v| v.trim().to_owned()),
        )
    };
    let list = fs::read_dir(esp.join("loader/entries")).unwrap();
    let mut found: Vec<_> = list.map(|e| entry(e.unwrap())).collect();
    found.sort();
    found
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, version): &(&str, &str)| (format!("bowline-{name}.conf"), (*version).into());
    expected.iter().map(pair).collect()
}

/// Offers an image and stages it.
fn upgrade(machine: &Machine, image: &Image) {
    machine.publish(image);
    machine.bowline(&["upgrade"]);
}

/// What happens at a shutdown, up to the mirror.
fn finalize(machine: &Machine) {
    machine.bowline(&["boot", "finalize"]);
    finalize_staged(machine);
}

fn finalize_staged(machine: &Machine) {
    machine.ok(&["ostree", "admin", "finalize-staged"]);
}

#[test]
fn grub_counts_an_upgrade_from_the_shutdown_on() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = grub_host();
    upgrade(&machine, &os("2"));
    assert_eq!(counter(&machine), None, "staged only");
    let said = machine.bowline(&["boot", "finalize"]);
    assert!(said.ends_with(" boots next and gets 3 tries\n"), "{said}");
    assert_eq!(counter(&machine).as_deref(), Some("3"));
    finalize_staged(&machine);
    let said = machine.bowline(&["boot", "mirror"]);
    assert!(said.ends_with(" next, on trial\n"), "{said}");
    assert_eq!(counter(&machine).as_deref(), Some("3"));
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    // Whoever goes back to what ran before is not counted.
    machine.bowline(&["rollback"]);
    assert_eq!(counter(&machine), None);
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "1", "2"]));
    assert_eq!(
        machine.bowline(&["boot", "finalize"]),
        "Nothing is staged\n"
    );
}

#[test]
fn what_was_never_finished_leaves_no_counter() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = grub_host();
    upgrade(&machine, &os("2"));
    machine.bowline(&["boot", "finalize"]);
    // Power is lost: what was staged is forgotten.
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "1", ""]));
    let said = machine.bowline(&["boot", "mirror"]);
    assert!(said.ends_with(".0 next\n"), "{said}");
    assert_eq!(counter(&machine), None);
}

#[test]
fn what_cannot_be_counted_is_held_back() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = grub_host();
    // Nobody can write a file there.
    let grubenv = machine.sysroot.path().join("boot/grub/grubenv");
    fs::remove_file(&grubenv).unwrap_or_default();
    fs::create_dir(&grubenv).unwrap();
    upgrade(&machine, &os("2"));
    let output = machine.run(&["/mnt/bowline", "boot", "finalize"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the GRUB environment block"), "{said}");
    finalize_staged(&machine);
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "1", ""]));
}

#[test]
fn a_rollback_from_an_exhausted_counter_boots_what_runs() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let mut machine = grub_host();
    upgrade(&machine, &os("2"));
    finalize(&machine);
    // GRUB has counted down and boots the second deployment, which is the one that runs still.
    let path = machine.sysroot.path().join("boot/grub/grubenv");
    let mut block = Grubenv::read(&path).unwrap().unwrap();
    block.set("boot_counter", "0").unwrap();
    block.write(&path).unwrap();
    let run = machine.dir.path().join("run");
    fs::write(run.join("ostree-booted"), "").unwrap();
    let said = machine.bowline(&["rollback"]);
    assert!(said.starts_with("Boots next "), "{said}");
    assert_eq!(counter(&machine), None);
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "1", "2"]));
}

#[test]
fn systemd_boot_gets_a_mirror_of_each_change() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let (mut machine, esp) = systemd_boot_host();
    assert_eq!(mirrored(&machine, &esp), pairs(&[("1-1", "1")]));
    upgrade(&machine, &os("2"));
    assert_eq!(mirrored(&machine, &esp), pairs(&[("1-1", "1")]));
    machine.bowline(&["boot", "finalize"]);
    let both = pairs(&[("1-1", "1"), ("1-2", "1")]);
    assert_eq!(mirrored(&machine, &esp), both);
    finalize_staged(&machine);
    // Power may be lost here: what boots first on the ESP is there still.
    let one = pairs(&[("1-1", "nothing"), ("1-2", "1")]);
    assert_eq!(mirrored(&machine, &esp), one);
    machine.bowline(&["boot", "mirror"]);
    let new = pairs(&[("2-1", "1"), ("2-2+3", "2")]);
    assert_eq!(mirrored(&machine, &esp), new);
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "2", "1"]));
    machine.bowline(&["rollback"]);
    assert_eq!(
        mirrored(&machine, &esp),
        pairs(&[("3-1", "2"), ("3-2", "1")])
    );
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "1", "2"]));
}

/// An image that looks to a bootloader like the one before.
fn alike(content: &str) -> Image {
    labelled("same", content)
}

#[test]
fn an_update_that_changes_no_entry_is_counted_from_the_first_moment() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let (mut machine, esp) = systemd_boot_host();
    let restart = |machine: &mut Machine| {
        machine.bowline(&["boot", "finalize"]);
        let before = mirrored(machine, &esp);
        finalize_staged(machine);
        let between = mirrored(machine, &esp);
        machine.bowline(&["boot", "mirror"]);
        machine.reboot();
        (before, between)
    };
    // As every machine has one; newer libostrees take none at all and an empty one for different.
    machine.bowline(&["kargs", "append", "rw"]);
    restart(&mut machine);
    machine.bowline(&["boot", "ok"]);
    for content in ["2", "3"] {
        upgrade(&machine, &alike(content));
        restart(&mut machine);
        machine.bowline(&["boot", "ok"]);
    }
    // Where the title does not change, libostree turns the links that the entries name.
    upgrade(&machine, &alike("4"));
    let (before, between) = restart(&mut machine);
    let names = |pairs: &[(String, String)]| -> Vec<String> {
        pairs
            .iter()
            .map(|(name, _)| name.rsplit('-').next().unwrap().to_owned())
            .collect()
    };
    let boots = |pairs: &[(String, String)]| -> Vec<String> {
        pairs.iter().map(|(_, version)| version.clone()).collect()
    };
    assert_eq!(names(&before), ["1.conf", "2.conf", "3+3.conf"]);
    assert_eq!(boots(&before), ["3", "2", "3"]);
    assert_eq!(boots(&between), ["nothing", "3", "4"]);
    let after = mirrored(&machine, &esp);
    assert_eq!(
        (boots(&after), names(&after)),
        (
            vec!["3".into(), "4".into()],
            vec!["1.conf".into(), "2+3.conf".into()],
        )
    );
}

#[test]
fn a_stale_mirror_is_put_right_before_kernels_go() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let (mut machine, esp) = systemd_boot_host();
    upgrade(&machine, &os("2"));
    finalize(&machine);
    // Power is lost; the ESP boots the old deployment, which then upgrades further.
    let run = machine.dir.path().join("run");
    fs::write(run.join("ostree-booted"), "").unwrap();
    upgrade(&machine, &os("3"));
    assert_eq!(
        mirrored(&machine, &esp),
        pairs(&[("2-1", "1"), ("2-2+3", "2")])
    );
    finalize(&machine);
    machine.bowline(&["boot", "mirror"]);
    assert_eq!(
        mirrored(&machine, &esp),
        pairs(&[("3-1", "1"), ("3-2+3", "3")])
    );
    machine.reboot();
    assert_eq!(machine.versions(), versions(["", "3", "1"]));
}

#[test]
fn an_esp_that_is_gone_refuses_before_anything_changes() {
    let Some(_turn) = turn().filter(|_| can_run()) else {
        return;
    };
    let (machine, esp) = systemd_boot_host();
    fs::remove_dir_all(&esp).unwrap();
    machine.publish(&os("2"));
    for args in [&["upgrade"][..], &["rollback"], &["boot", "mirror"]] {
        let output = machine.run(&[&["/mnt/bowline"], args].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{args:?}: {said}");
    }
    assert_eq!(machine.versions(), versions(["", "1", ""]));
}
