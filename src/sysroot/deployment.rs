//! Deployments as plain data: what is on disk, in boot order, and what each one is to the user.
//! Facts come in, slots go out. Never reads or writes anything.

use std::fmt;

use super::Origin;

/// What a deployment is to whoever updates or rolls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Runs now.
    Booted,
    /// Waits to be finished at shutdown; boots next.
    Staged,
    /// What `rollback` makes the next boot, or has made it.
    Rollback,
    /// Any other.
    Other,
}

/// Names one deployment; printed as its path below `ostree/deploy`, without the inner `deploy`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentId {
    /// Stateroot that it belongs to.
    pub stateroot: String,
    /// Checksum of its commit, 64 hex digits.
    pub commit: String,
    /// Tells deployments of the same commit apart.
    pub serial: u32,
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.stateroot, self.commit, self.serial)
    }
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name.
    pub id: DeploymentId,
    /// What it is to the user.
    pub slot: Slot,
    /// Whether it is kept until it is unpinned.
    pub pinned: bool,
    /// Where it came from.
    pub origin: Origin,
    /// Kernel arguments of its boot loader entry, without `ostree=`.
    pub kargs: Vec<String>,
}

/// Says what each deployment is, in boot order (which is libostree's order, staged first).
///
/// With a booted one, the rollback is the first that is neither booted nor staged, as in bootc,
/// so it stays the rollback while it is queued to boot next. In a sysroot that is not booted the
/// first deployment boots next, and the rollback is the second one of the same stateroot.
pub fn assign_slots(deployments: &mut [Deployment]) {
    let home = deployments.iter().find(|d| d.slot == Slot::Booted);
    let home = home.or_else(|| deployments.iter().find(|d| d.slot != Slot::Staged));
    let Some(home) = home.map(|d| d.id.clone()) else {
        return;
    };
    let rollback = deployments
        .iter_mut()
        .find(|d| d.slot == Slot::Other && d.id.stateroot == home.stateroot && d.id != home);
    if let Some(rollback) = rollback {
        rollback.slot = Slot::Rollback;
    }
}

/// The deployment that runs.
pub fn booted(all: &[Deployment]) -> Option<&Deployment> {
    all.iter().find(|d| d.slot == Slot::Booted)
}

/// The deployment that a new one of this stateroot grows from: what runs, else what boots next.
/// This is libostree's choice too (`ostree_sysroot_get_merge_deployment`).
pub fn merge_from<'a>(all: &'a [Deployment], stateroot: &str) -> Option<&'a Deployment> {
    let in_stateroot = |d: &&Deployment| d.id.stateroot == stateroot;
    let finished = |d: &&Deployment| d.slot != Slot::Staged && in_stateroot(d);
    let running = booted(all).filter(in_stateroot);
    running.or_else(|| all.iter().find(finished))
}

/// The deployment whose origin says what the host follows: a staged one, as an upgrade must not
/// undo a rebase that waits for its boot, else what a new deployment would grow from.
pub fn leading<'a>(all: &'a [Deployment], named: Option<&str>) -> Option<&'a Deployment> {
    let home = booted(all).or(all.first())?;
    let stateroot = named.unwrap_or(&home.id.stateroot);
    let staged = |d: &&Deployment| d.slot == Slot::Staged && d.id.stateroot == stateroot;
    let staged = all.iter().find(staged);
    staged.or_else(|| merge_from(all, stateroot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::samples;

    fn slots(spec: &[(&str, Slot)]) -> Vec<Slot> {
        let deployment = |(at, (stateroot, slot)): (usize, &(&str, Slot))| {
            samples::deployment(&format!("{stateroot}/{at}"), *slot)
        };
        let mut all: Vec<_> = spec.iter().enumerate().map(deployment).collect();
        assign_slots(&mut all);
        all.iter().map(|d| d.slot).collect()
    }

    #[test]
    fn slots_follow_the_boot_order() {
        use Slot::{Booted, Other, Rollback, Staged};
        assert_eq!(slots(&[]), []);
        assert_eq!(slots(&[("a", Other)]), [Other]);
        assert_eq!(
            slots(&[("a", Other), ("b", Other), ("a", Other), ("a", Other)]),
            [Other, Other, Rollback, Other]
        );
        assert_eq!(
            slots(&[("a", Staged), ("a", Booted), ("a", Other)]),
            [Staged, Booted, Rollback]
        );
        assert_eq!(slots(&[("a", Other), ("a", Booted)]), [Rollback, Booted]);
        assert_eq!(slots(&[("b", Other), ("a", Booted)]), [Other, Booted]);
    }
}
