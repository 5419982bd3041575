//! What a planned deployment means for the host's own files, known before anything is written. A
//! plan comes in; what the `/etc` merge will do, and what of the image's `/var` will be missing,
//! go out. Reads the host and the repository, changes nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fn_error_context::context;

use super::{DeployError, DeployPlan};
use crate::etc_merge::{self, Conflict, ConflictKind, Preview};
use crate::sysroot::{DeploymentId, Slot, Sysroot, merge_from, specials};

/// What becomes of the host's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// What the merge of `/etc` will do.
    pub etc: Preview,
    /// Files below `/var` that the image brings and this host does not get.
    pub var_left_behind: Vec<PathBuf>,
    /// Prefix of `etc` and `usr/etc`, as a person at this machine writes it.
    pub root: PathBuf,
}

/// Looks at what a plan means; nothing where the deployment grows from no other.
pub fn outlook(sysroot: &Sysroot, plan: &DeployPlan) -> Result<Option<Outlook>> {
    let Some(from) = &plan.merge_from else {
        return Ok(None);
    };
    Ok(Some(Outlook {
        etc: foretell(sysroot, from, &plan.commit)?,
        var_left_behind: sysroot.var_left_behind(&plan.commit, &plan.stateroot)?,
        root: root(sysroot, from),
    }))
}

/// What the merge into the deployment that is staged would do now; nothing where none is, or
/// where it merges nothing. An edit after staging counts.
pub fn of_staged(sysroot: &Sysroot) -> Result<Option<Outlook>> {
    let all = sysroot.deployments()?;
    let Some(staged) = all.iter().find(|d| d.slot == Slot::Staged) else {
        return Ok(None);
    };
    let Some(from) = merge_from(&all, &staged.id.stateroot) else {
        return Ok(None);
    };
    Ok(Some(Outlook {
        etc: foretell(sysroot, &from.id, &staged.id.commit)?,
        var_left_behind: Vec::new(),
        root: root(sysroot, &from.id),
    }))
}

fn root(sysroot: &Sysroot, id: &DeploymentId) -> PathBuf {
    match sysroot.is_booted() {
        true => "/".into(),
        false => sysroot.directory(id),
    }
}

#[context("Foretelling the merge of /etc from {from}")]
fn foretell(sysroot: &Sysroot, from: &DeploymentId, commit: &str) -> Result<Preview> {
    let old = sysroot.defaults_of_deployment(from)?;
    let current = sysroot.etc_of_deployment(from)?;
    let new = sysroot.defaults_of_commit(commit)?;
    Ok(etc_merge::preview(&old, &current, &new, specials()))
}

impl Outlook {
    /// Refuses what libostree could not merge at shutdown.
    pub fn refuse_conflicts(&self) -> Result<(), DeployError> {
        match self.etc.conflicts.is_empty() {
            true => Ok(()),
            false => Err(DeployError::EtcConflict {
                conflicts: self.etc.conflicts.clone(),
                root: self.root.clone(),
            }),
        }
    }
}

/// The command that takes a conflict out of the way, for a POSIX shell. `root` is where `etc` is.
pub fn way_out(conflict: &Conflict, root: &Path) -> String {
    let local = quoted(&root.join("etc").join(&conflict.undo));
    let default = quoted(&root.join("usr/etc").join(&conflict.undo));
    match (conflict.kind, conflict.has_default) {
        (ConflictKind::SpecialInside, _) => format!("rm {local}"),
        (_, true) => format!("rm -rf {local}; cp -a {default} {local}"),
        (_, false) => {
            let aside = Path::new("var/tmp").join(conflict.undo.file_name().unwrap_or_default());
            format!("mv {local} {}", quoted(&Path::new("/").join(aside)))
        }
    }
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_a_command() {
        let command = |undo: &str, kind, has_default, root: &str| {
            let conflict = Conflict {
                path: undo.into(),
                at: undo.into(),
                kind,
                undo: undo.into(),
                has_default,
            };
            way_out(&conflict, Path::new(root))
        };
        for (undo, kind, has_default, root, expected) in [
            (
                "a/b",
                ConflictKind::NewDirectory,
                true,
                "/",
                "rm -rf /etc/a/b; cp -a /usr/etc/a/b /etc/a/b",
            ),
            (
                "a b's",
                ConflictKind::NoDirectory,
                false,
                "/x",
                r"mv '/x/etc/a b'\''s' '/var/tmp/a b'\''s'",
            ),
            (
                "a/p",
                ConflictKind::SpecialInside,
                false,
                "/",
                "rm /etc/a/p",
            ),
        ] {
            assert_eq!(command(undo, kind, has_default, root), expected);
        }
    }
}
