//! What a change of kernel arguments will do to the host: a deployment of the same commit, or
//! only a record, or nothing. A snapshot and a wish come in, a value goes out. Pure.

use super::plan::{Successor, check_space, refuse_obstacle};
use super::plan_esp;
use super::{DeployError, DeployPlan, Snapshot};
use crate::boot::Bootloader;
use crate::boot::kargs_edit::Edit;
use crate::sysroot::{Deployment, DeploymentId, Origin, Slot, TreeFacts, merge_from};

/// Changes to the arguments of what boots next.
#[derive(Debug, Clone)]
pub struct KargsWish {
    /// The changes, in order.
    pub edits: Vec<Edit>,
    /// The architecture, a GOARCH word.
    pub arch: String,
}

/// What is to be done about a change of kernel arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KargsDecision {
    /// This deployment has them already.
    Nothing(DeploymentId),
    /// It has them already, but whose they are changes: this becomes its origin.
    Record(DeploymentId, Origin),
    /// A new deployment of the same commit.
    Deploy(Box<DeployPlan>),
}

/// The deployment whose arguments are meant: the one that boots next, so that neither a staged
/// update nor a rollback that waits is undone. `named` is the stateroot that the user named.
pub fn kargs_base<'a>(
    all: &'a [Deployment],
    named: Option<&str>,
) -> Result<&'a Deployment, DeployError> {
    let fits = |d: &&Deployment| named.is_none_or(|name| d.id.stateroot == name);
    let found = all.iter().find(fits);
    found.ok_or_else(|| DeployError::NothingDeployed(named.map(str::to_owned)))
}

/// Plans how the arguments of `base`, a deployment of `host` whose commit has this `tree`, change.
pub fn plan_kargs(
    host: &Snapshot,
    base: &Deployment,
    wish: &KargsWish,
    tree: &TreeFacts,
) -> Result<KargsDecision, DeployError> {
    let before = host.kargs_of(base, &wish.arch);
    let after = before.edited(&wish.edits)?;
    // What kind of GRUB an unknown bootloader is nobody knows, but each of them reads script.
    if host.bootloader != Bootloader::SystemdBoot {
        refuse_obstacle(&after, &before)?;
    }
    if after == before {
        return Ok(KargsDecision::Nothing(base.id.clone()));
    }
    let mut origin = base.origin.clone();
    if after.args == before.args {
        after.record_in(&mut origin);
        return Ok(KargsDecision::Record(base.id.clone(), origin));
    }
    let kernel = tree.kernel.as_ref().ok_or(DeployError::NoKernel)?;
    check_space(&host.room, kernel, tree.etc_bytes)?;
    let image = origin.image().ok().flatten();
    let plan = Successor {
        commit: &base.id.commit,
        origin: origin.inherited(),
        image: image.as_ref(),
        kargs: &after,
        kargs_before: &before,
        stateroot: base.id.stateroot.clone(),
        merge: etc_from(&host.deployments, base),
        retain: false,
    };
    let plan = plan.among(host);
    plan_esp::check(host, kernel, |id| plan.keep.contains(id))?;
    Ok(KargsDecision::Deploy(Box::new(plan)))
}

/// A staged deployment has no `/etc` of its own yet: its successor takes over what it would have.
fn etc_from<'a>(all: &'a [Deployment], base: &'a Deployment) -> Option<&'a Deployment> {
    match base.slot {
        Slot::Staged => merge_from(all, &base.id.stateroot),
        _ => Some(base),
    }
}

#[cfg(test)]
mod tests;
