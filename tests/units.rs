//! The units of `systemd/`, read as text: every command line is one that the program takes, what
//! is ordered is ordered as the comments say, and systemd itself finds nothing wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bowline::cli::args::Cli;
use bowline::health::news;
use clap::Parser as _;

/// A unit: the values of each key, by `Section.Key`, in order.
type Unit = BTreeMap<String, Vec<String>>;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

/// The units by name. Fails on a line that is neither a section, a comment nor `Key=value`.
fn units() -> BTreeMap<String, Unit> {
    let files = directory().read_dir().unwrap().map(|e| e.unwrap().path());
    let named = files.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, path)
    });
    let units = named.filter(|(name, _)| !name.ends_with(".preset") && !name.ends_with(".catalog"));
    units
        .map(|(name, path)| (name, parse(&fs::read_to_string(path).unwrap())))
        .collect()
}

fn parse(text: &str) -> Unit {
    let (mut unit, mut section) = (Unit::new(), "");
    for line in text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let values = unit.entry(format!("{section}.{key}")).or_default();
        values.push(value.into());
    }
    unit
}

/// The words of all lines of a key.
fn words(unit: &Unit, key: &str) -> Vec<String> {
    let lines = unit.get(key).into_iter().flatten();
    let words = lines.flat_map(|line| line.split_whitespace());
    words.map(str::to_owned).collect()
}

fn assert_has(units: &BTreeMap<String, Unit>, name: &str, key: &str, word: &str) {
    let unit = units.get(name).unwrap_or_else(|| panic!("no unit {name}"));
    let found = words(unit, key);
    assert!(found.iter().any(|w| w == word), "{name}: {key}={found:?}");
}

#[test]
fn a_service_runs_one_command_that_the_program_takes() {
    let mut services = 0;
    for (name, unit) in units().iter().filter(|(n, _)| n.ends_with(".service")) {
        let exec = unit
            .iter()
            .filter(|(key, _)| key.starts_with("Service.Exec"));
        let lines: Vec<&String> = exec.flat_map(|(_, lines)| lines).collect();
        assert_eq!(lines.len(), 1, "{name} runs {lines:?}");
        let line = lines[0];
        assert!(line.starts_with("/usr/bin/bowline "), "{name}: {line}");
        if let Err(error) = Cli::try_parse_from(line.split(' ')) {
            panic!("{name}: {line}: {error}");
        }
        services += 1;
    }
    assert!(services > 0);
}

#[test]
fn nothing_runs_on_a_system_that_is_not_image_based() {
    for (name, unit) in units().iter().filter(|(n, _)| !n.ends_with(".target")) {
        let conditions = words(unit, "Unit.ConditionPathExists");
        assert_eq!(conditions, ["/run/ostree-booted"], "{name}");
    }
}

/// What is stopped first was started last: at shutdown the staged deployment is prepared, then
/// libostree finishes it, then the ESP gets what came of it.
#[test]
fn finalize_runs_before_libostree_finishes_and_mirror_after() {
    let units = units();
    let libostree = "ostree-finalize-staged.service";
    let (finalize, mirror) = ("bowline-finalize.service", "bowline-mirror.service");
    assert_has(&units, finalize, "Unit.After", libostree);
    assert_has(&units, mirror, "Unit.Before", libostree);
    // Something holds /boot for libostree, which may be an automount.
    assert_has(
        &units,
        mirror,
        "Unit.After",
        "ostree-finalize-staged-hold.service",
    );
    for name in [finalize, mirror] {
        assert!(!units[name].contains_key("Service.ExecStart"), "{name}");
        for (key, word) in [
            ("Service.Type", "oneshot"),
            ("Service.RemainAfterExit", "yes"),
            ("Install.WantedBy", libostree),
            ("Unit.PartOf", libostree),
            // As libostree's: stopped as late as it, and never by shutdown.target before it.
            ("Unit.DefaultDependencies", "no"),
            ("Unit.Conflicts", "final.target"),
            ("Unit.Before", "final.target"),
            // What it says is kept, and what it needs is mounted still.
            ("Unit.After", "systemd-journal-flush.service"),
            ("Unit.RequiresMountsFor", "/boot"),
            ("Unit.RequiresMountsFor", "/sysroot"),
            ("Unit.RequiresMountsFor", "/var"),
        ] {
            assert_has(&units, name, key, word);
        }
    }
}

/// Whoever reads the journal finds each message id explained.
#[test]
fn the_catalog_explains_every_message() {
    let catalog = fs::read_to_string(directory().join("bowline.catalog")).unwrap();
    let ids = catalog.lines().filter_map(|line| line.strip_prefix("-- "));
    let mut explained: Vec<&str> = ids.collect();
    let mut sent = [
        news::CHECK_RED,
        news::BOOT_GOOD,
        news::BOOT_RED,
        news::FELL_BACK,
        news::TRIAL_ENDED,
    ];
    explained.sort_unstable();
    sent.sort_unstable();
    assert_eq!(explained, sent);
}

/// The check waits for the default target, which so must not wait for the check.
#[test]
fn a_boot_is_judged_before_it_is_complete_and_nothing_waits_for_it() {
    let units = units();
    let (check, ok) = ("bowline-boot-check.service", "bowline-boot-ok.service");
    let complete = "boot-complete.target";
    assert_has(&units, check, "Unit.Before", complete);
    assert_has(&units, check, "Install.RequiredBy", complete);
    assert_has(&units, check, "Install.WantedBy", "emergency.target");
    assert_has(&units, check, "Service.TimeoutStartSec", "infinity");
    assert!(!units[check].contains_key("Unit.RequiresMountsFor"));
    assert_has(&units, ok, "Unit.After", complete);
    assert_has(&units, ok, "Unit.Requires", complete);
    assert_has(&units, ok, "Install.WantedBy", "basic.target");
    for name in [check, ok] {
        assert_has(&units, name, "Unit.DefaultDependencies", "no");
        assert_has(&units, name, "Unit.Conflicts", "shutdown.target");
        assert_has(&units, name, "Unit.Before", "shutdown.target");
        assert_has(&units, name, "Service.Type", "oneshot");
        assert_has(&units, name, "Service.RemainAfterExit", "yes");
    }
}

#[test]
fn the_upgrade_waits_for_the_network_and_its_skips_are_no_failures() {
    let units = units();
    let service = "bowline-upgrade.service";
    assert_has(&units, service, "Unit.After", "network-online.target");
    assert_has(&units, service, "Unit.Wants", "network-online.target");
    assert_has(&units, service, "Service.Type", "oneshot");
    assert_has(&units, service, "Service.SuccessExitStatus", "75");
    let timer = "bowline-upgrade.timer";
    assert_has(&units, timer, "Timer.Persistent", "yes");
    assert_has(&units, timer, "Timer.RandomizedDelaySec", "6h");
    assert_has(&units, timer, "Install.WantedBy", "timers.target");
}

#[test]
fn a_status_target_can_be_reached_again() {
    let units = units();
    let (path, target) = (
        "bowline-status-updated.path",
        "bowline-status-updated.target",
    );
    assert_has(&units, path, "Path.Unit", target);
    assert_has(&units, target, "Unit.StopWhenUnneeded", "yes");
}

#[test]
fn every_unit_that_can_be_enabled_is_by_the_preset() {
    let preset = fs::read_to_string(directory().join("80-bowline.preset")).unwrap();
    let enabled = preset.lines().filter_map(|l| l.strip_prefix("enable "));
    let mut enabled: Vec<String> = enabled.map(str::to_owned).collect();
    enabled.sort();
    let units = units();
    let can_be = |unit: &Unit| unit.keys().any(|key| key.starts_with("Install."));
    let names = units
        .iter()
        .filter(|(_, unit)| can_be(unit))
        .map(|(n, _)| n);
    assert_eq!(enabled, names.cloned().collect::<Vec<_>>());
}

#[test]
#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
fn systemd_finds_nothing_wrong() {
    let host = ["/usr/lib/systemd/system", "/lib/systemd/system"].map(Path::new);
    let (true, Some(host)) = (
        Command::new("systemd-analyze")
            .arg("--version")
            .output()
            .is_ok(),
        host.into_iter()
            .find(|dir| dir.join("basic.target").exists()),
    ) else {
        println!("skipped: there is no systemd here that could look at the units");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let system = root.path().join("usr/lib/systemd/system");
    for dir in [&system, &root.path().join("usr/bin")] {
        fs::create_dir_all(dir).unwrap();
    }
    for entry in host.read_dir().unwrap().map(|e| e.unwrap()) {
        if entry.file_name().to_string_lossy().ends_with(".target") {
            fs::copy(entry.path(), system.join(entry.file_name())).unwrap();
        }
    }
    fs::copy("/bin/true", root.path().join("usr/bin/bowline")).unwrap();
    let units = units();
    for name in units.keys() {
        fs::copy(directory().join(name), system.join(name)).unwrap();
    }
    // Its own mistakes only, not those of the units that it names.
    let mut analyze = Command::new("systemd-analyze");
    analyze
        .arg("verify")
        .arg(format!("--root={}", root.path().display()));
    analyze
        .args(["--man=no", "--recursive-errors=no"])
        .args(units.keys());
    let output = analyze.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
