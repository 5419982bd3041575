//! Checks of what makes a host of an image one that Bowline can look after. A file system comes in,
//! sentences go out.

use anyhow::Result;
use rustix::fs::FileType;

use super::rootfs::Rootfs;

/// Places of units, the strongest first.
const PLACES: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Units of libostree without which no update is finished, and /usr not read-only.
pub(super) const OSTREE: [&str; 2] = ["ostree-finalize-staged.service", "ostree-remount.service"];

/// Units of Bowline, with those that must want or require them.
pub(super) const BOWLINE: [(&str, &str); 4] = [
    ("bowline-finalize.service", "ostree-finalize-staged.service"),
    ("bowline-mirror.service", "ostree-finalize-staged.service"),
    ("bowline-boot-check.service", "boot-complete.target"),
    ("bowline-boot-ok.service", "basic.target"),
];

pub(super) fn machine_id(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in ["etc/machine-id", "usr/etc/machine-id"] {
        let text = rootfs.text(path)?.unwrap_or_default();
        if !["", "uninitialized"].contains(&text.trim()) {
            findings.push(format!(
                "/{path} holds an identity, and all hosts of this image would share it: empty the \
                 file"
            ));
        }
    }
    Ok(findings)
}

pub(super) fn units(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for unit in OSTREE {
        if !exists(rootfs, unit)? {
            findings.push(format!("{unit} is missing: install libostree's boot units"));
        }
    }
    for (unit, wants) in BOWLINE {
        if !exists(rootfs, unit)? {
            findings.push(format!("{unit} is missing: install Bowline's units"));
        } else if !is_wanted(rootfs, unit, wants)? {
            findings.push(format!(
                "{unit} is not started by {wants}: run `systemctl preset {unit}`"
            ));
        }
    }
    Ok(findings)
}

fn exists(rootfs: &Rootfs, unit: &str) -> Result<bool> {
    for place in PLACES {
        if rootfs.node(format!("{place}/{unit}"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_wanted(rootfs: &Rootfs, unit: &str, by: &str) -> Result<bool> {
    for place in PLACES {
        for kind in ["wants", "requires"] {
            if rootfs
                .node(format!("{place}/{by}.{kind}/{unit}"))?
                .is_some()
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

pub(super) fn policy(rootfs: &Rootfs) -> Result<Vec<String>> {
    let file = "etc/containers/policy.json";
    let found = rootfs.node(file)?;
    let is_file = found.is_some_and(|n| n.kind != FileType::Directory);
    let told = format!(
        "there is no /{file}, and without a policy no image is accepted: \
         see containers-policy.json(5)"
    );
    Ok(if is_file { Vec::new() } else { vec![told] })
}

pub(super) fn os_release_text(rootfs: &Rootfs) -> Result<Option<String>> {
    match rootfs.text("usr/lib/os-release")? {
        Some(text) => Ok(Some(text)),
        None => rootfs.text("etc/os-release"),
    }
}

pub(super) fn os_release(rootfs: &Rootfs) -> Result<Vec<String>> {
    let Some(text) = os_release_text(rootfs)? else {
        return Ok(vec![
            "there is no /usr/lib/os-release: see os-release(5)".into(),
        ]);
    };
    let missing = ["ID", "VERSION_ID", "PRETTY_NAME"]
        .into_iter()
        .filter(|key| {
            let mut lines = text.lines();
            !lines.any(|line| {
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with('='))
            })
        });
    let told = missing.map(|key| {
        format!("/usr/lib/os-release has no {key}, by which boot menus and people know the system")
    });
    Ok(told.collect())
}
