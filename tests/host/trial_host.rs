//! A booted host whose updates go on trial, through each kind of bootloader: the bootloader's part and
//! systemd's are played here, `boot check`, `finalize` and `mirror` run as the units run them. Judges
//! nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bowline::boot::{BootSetup, Bootloader, GRUB_CFG, Grubenv};
use bowline::testing::Image;

use crate::booted::{Machine, os, os_with};
use crate::scene::stderr;

/// Nothing that the test's own machine could have or lack.
const SETTINGS: &str =
    "health: {target: off, units: [], network: off, registry: off, space: off}\n";
const CHECK: &str = "[ ! -e /etc/broken ] || { echo starting; echo no database >&2; exit 3; }";
const HOOK: &str = "echo $BOWLINE_EVENT $BOWLINE_CHECK $BOWLINE_VERSION >>/tmp/hooks";

pub(crate) const LOADERS: [Bootloader; 3] =
    [Bootloader::Grub, Bootloader::SystemdBoot, Bootloader::None];

/// Version 2, whose check is red.
pub(crate) fn broken() -> Image {
    os_with("2", "file /usr/etc/broken 0 0 644 x")
}

pub(crate) struct Host {
    pub(crate) machine: Machine,
    loader: Bootloader,
}

impl Host {
    /// Runs version 1 with a check, hooks and quiet settings, all of which updates take over.
    pub(crate) fn new(loader: Bootloader) -> Self {
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

    /// Runs version 2 for the first time, whose checks are green and which is on trial still.
    pub(crate) fn on_trial(loader: Bootloader) -> Self {
        let mut host = Self::updated_to(loader, &os("2"));
        host.boot();
        assert_eq!(host.check().0, Some(0));
        host
    }

    /// Shut down with an update that was never booted.
    pub(crate) fn updated_to(loader: Bootloader, image: &Image) -> Self {
        let host = Self::new(loader);
        host.machine.publish(image);
        host.update();
        host
    }

    /// Stages the newest image and shuts down.
    pub(crate) fn update(&self) {
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
    pub(crate) fn boot(&mut self) -> usize {
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
    pub(crate) fn check(&self) -> (Option<i32>, String) {
        let output = self.machine.run(&["/mnt/bowline", "boot", "check"]);
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), format!("{said}{}", stderr(&output)))
    }

    /// Requests to reboot, so far.
    pub(crate) fn reboots(&self) -> usize {
        self.machine.reboots()
    }

    pub(crate) fn hooks(&self) -> String {
        fs::read_to_string(self.machine.dir.path().join("tmp/hooks")).unwrap_or_default()
    }

    pub(crate) fn human(&self) -> String {
        self.machine.bowline(&["status"])
    }

    pub(crate) fn counted(&self) -> bool {
        match self.loader {
            Bootloader::Grub => self.env().1.get("boot_counter").is_some(),
            Bootloader::SystemdBoot => self.entries().iter().any(|name| name.contains('+')),
            Bootloader::None => false,
        }
    }
}
