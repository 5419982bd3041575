//! What makes an image boot, update and stay what it is, looked at before anybody installs it. The
//! root of a file system comes in, findings go out: each check tells what is wrong, where, and what
//! to do. Never changes anything, and never leaves the file system below the root.

mod accounts;
mod boot;
mod disorder;
mod host;
mod initramfs;
mod rootfs;
mod settings;
mod tmpfiles;
mod var;

use std::path::Path;

use anyhow::Result;
use fn_error_context::context;
use serde::Serialize;

use rootfs::{Rootfs, few};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The image does not boot, or cannot be updated.
    Fatal,
    /// The image works, but not as its maker may think.
    Warning,
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name, stable.
    pub name: &'static str,
    /// How bad its findings are.
    pub level: Level,
    /// What it asks for, in a sentence.
    pub asks: &'static str,
    run: fn(&Rootfs) -> Result<Vec<String>>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing was found.
    Passed,
    /// Something was found.
    Failed,
    /// It was not asked.
    Skipped,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The name of the check.
    pub name: &'static str,
    /// How bad its findings are.
    pub level: Level,
    /// How it ended.
    pub result: Verdict,
    /// What is wrong, where, and what to do; one sentence each.
    pub findings: Vec<String>,
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks, in the order of [`CHECKS`].
    pub checks: Vec<Checked>,
}

impl Report {
    /// How many checks of a level found something.
    pub fn failed(&self, level: Level) -> usize {
        let failed = |c: &&Checked| c.level == level && c.result == Verdict::Failed;
        self.checks.iter().filter(failed).count()
    }
}

const fn fatal(
    name: &'static str,
    asks: &'static str,
    run: fn(&Rootfs) -> Result<Vec<String>>,
) -> Check {
    let level = Level::Fatal;
    Check {
        name,
        level,
        asks,
        run,
    }
}

const fn warning(
    name: &'static str,
    asks: &'static str,
    run: fn(&Rootfs) -> Result<Vec<String>>,
) -> Check {
    Check {
        level: Level::Warning,
        ..fatal(name, asks, run)
    }
}

/// All checks, the fatal ones first.
pub static CHECKS: [Check; 23] = [
    fatal("kernel", "There is exactly one kernel.", boot::kernel),
    fatal(
        "initramfs",
        "The kernel has an initramfs beside it.",
        boot::initramfs,
    ),
    fatal(
        "prepare-root",
        "The initramfs can enter a deployment.",
        boot::prepare_root,
    ),
    fatal(
        "base-directories",
        "The directories that a boot mounts on are there.",
        boot::base_directories,
    ),
    fatal(
        "etc-usretc",
        "There is /etc or /usr/etc, not both.",
        disorder::etc,
    ),
    fatal("var-run", "/var/run is no directory.", disorder::var_run),
    fatal(
        "utf8",
        "Names and targets of links are UTF-8.",
        disorder::utf8,
    ),
    fatal(
        "machine-id",
        "/etc/machine-id holds no identity.",
        host::machine_id,
    ),
    fatal(
        "kargs",
        "The files with kernel arguments can be used.",
        settings::kargs,
    ),
    fatal(
        "install-config",
        "The files about installation can be used.",
        settings::install,
    ),
    fatal(
        "settings",
        "The settings of Bowline can be used.",
        settings::settings,
    ),
    warning(
        "units",
        "Bowline's units and libostree's are there, and start.",
        host::units,
    ),
    warning("policy", "There is a signature policy.", host::policy),
    warning(
        "sysroot-readonly",
        "The file system with the deployments is mounted read-only.",
        boot::readonly,
    ),
    warning(
        "composefs",
        "The deployment is mounted by composefs where libostree can do that.",
        boot::composefs,
    ),
    warning("os-release", "The image says what it is.", host::os_release),
    warning(
        "grub",
        "GRUB can read the image's name and kernel arguments.",
        settings::grub,
    ),
    warning(
        "var-tmpfiles",
        "What is in /var is made by tmpfiles.d.",
        var::described,
    ),
    warning("var-log", "There are no logs in /var/log.", var::logs),
    warning(
        "sysusers",
        "Users and groups are made by sysusers.d.",
        accounts::described,
    ),
    warning(
        "nonempty-boot",
        "There is nothing in /boot.",
        disorder::boot,
    ),
    warning(
        "nonempty-run-tmp",
        "There are no files in /run and /tmp.",
        disorder::run_tmp,
    ),
    warning(
        "builder-files",
        "Nothing is left of the program that built the image.",
        disorder::builder,
    ),
];

/// Names that bootc has for our checks.
const BOOTC_NAMES: [(&str, &str); 5] = [
    ("api-base-directories", "base-directories"),
    ("baseimage-composefs", "composefs"),
    ("baseimage-root", "base-directories"),
    ("bootc-kargs", "kargs"),
    ("buildah-injected", "builder-files"),
];

/// The check of a name, which may be bootc's.
pub fn find(name: &str) -> Option<&'static Check> {
    let theirs = BOOTC_NAMES.iter().find(|(theirs, _)| *theirs == name);
    let name = theirs.map_or(name, |(_, ours)| ours);
    CHECKS.iter().find(|check| check.name == name)
}

/// Runs all checks but those with the names in `skip` on the file system below `root`. Of many findings of one
/// check some are told and the rest is counted, unless `all` are wanted.
///
/// Fails where something cannot be read; what is wrong with the image is in the report.
#[context("Checking {}", root.display())]
pub fn run(root: &Path, skip: &[String], all: bool) -> Result<Report> {
    let rootfs = Rootfs::open(root)?;
    let checked = CHECKS.iter().map(|check| {
        let is_check = |name: &String| find(name).is_some_and(|found| found.name == check.name);
        let skipped = skip.iter().any(is_check);
        let findings = match (skipped, all) {
            (true, _) => Vec::new(),
            (false, true) => (check.run)(&rootfs)?,
            (false, false) => few((check.run)(&rootfs)?),
        };
        let result = match (skipped, findings.is_empty()) {
            (true, _) => Verdict::Skipped,
            (false, true) => Verdict::Passed,
            (false, false) => Verdict::Failed,
        };
        Ok(Checked {
            name: check.name,
            level: check.level,
            result,
            findings,
        })
    });
    let checks = checked.collect::<Result<_>>()?;
    Ok(Report { checks })
}

#[cfg(test)]
mod tests;
