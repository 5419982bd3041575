//! The check of users and groups: a host keeps its own /etc/passwd once anything in it was changed, and
//! then gets no new user of the image. A file system comes in, sentences go out.

use std::collections::BTreeSet;

use anyhow::Result;

use super::rootfs::Rootfs;
use crate::sys::tree::{EntryKind, FileTree as _};

/// Numbers below are given away once for all hosts of a distribution (sysusers.d(5), Debian Policy 9.2.2).
const FIXED: u32 = 100;

/// The user and group of nobody, which everybody has.
const NOBODY: u32 = 65534;

pub(super) fn described(rootfs: &Rootfs) -> Result<Vec<String>> {
    let made = Made::read(rootfs)?;
    let mut findings = Vec::new();
    for (file, letter, known) in [
        ("etc/passwd", 'u', &made.users),
        ("etc/group", 'g', &made.groups),
    ] {
        let text = rootfs.text(file)?.unwrap_or_default();
        let accounts = text.lines().filter_map(account);
        let missing =
            accounts.filter(|(name, id)| *id >= FIXED && *id != NOBODY && !known.contains(*name));
        let told = missing.map(|(name, id)| {
            format!(
                "{name} of /{file} does not come to hosts that have changed their /{file}: write \
                 `{letter} {name} {id}` to a file in /usr/lib/sysusers.d"
            )
        });
        findings.extend(told);
    }
    Ok(findings)
}

/// Name and number of a line of passwd(5) or group(5).
fn account(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let (name, id) = (fields.next()?, fields.nth(1)?);
    Some((name, id.parse().ok()?))
}

/// What sysusers.d(5) makes.
#[derive(Debug, Default)]
struct Made {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Made {
    fn read(rootfs: &Rootfs) -> Result<Self> {
        let mut made = Self::default();
        for dir in ["usr/lib/sysusers.d", "etc/sysusers.d"] {
            for (name, kind) in rootfs.tree.entries(dir)? {
                if kind == EntryKind::File && name.ends_with(".conf") {
                    made.add(&rootfs.text(&format!("{dir}/{name}"))?.unwrap_or_default());
                }
            }
        }
        Ok(made)
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace().map(|w| w.trim_matches(['"', '\'']));
            let (Some(kind), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            match kind.chars().next() {
                // A user has a group of its own.
                Some('u') => {
                    self.users.insert(name.into());
                    self.groups.insert(name.into());
                }
                Some('g') => drop(self.groups.insert(name.into())),
                Some('m') => {
                    self.users.insert(name.into());
                    self.groups.extend(words.next().map(Into::into));
                }
                _ => {}
            }
        }
    }
}
