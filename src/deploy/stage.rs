//! Carries a deployment plan out. Reads the facts that the planner needs, then calls libostree in
//! an order in which every interruption leaves the old boot entries or the new ones.

use anyhow::Result;

use super::{DeployPlan, Method, Room, Snapshot};
use crate::sysroot::{DeploymentId, LockedSysroot, NewDeployment, Sysroot};

/// The host as the planner needs it.
pub fn snapshot(sysroot: &Sysroot) -> Result<Snapshot> {
    let deployments = sysroot.deployments()?;
    let mut kernels = Vec::new();
    for deployment in &deployments {
        // A commit that another tool removed takes part in nothing; its deployment still boots.
        match sysroot.tree_facts(&deployment.id.commit) {
            Ok(facts) => kernels.extend(facts.kernel),
            Err(error) => tracing::debug!("{error:#}"),
        }
    }
    let free = sysroot.free_space()?;
    let room = Room { free, kernels };
    Ok(Snapshot { deployments, room })
}

/// Makes the planned deployment boot next: at once, or (staged) from the next shutdown on.
pub fn carry_out(sysroot: &LockedSysroot, plan: &DeployPlan) -> Result<DeploymentId> {
    sysroot.ensure_stateroot(&plan.stateroot)?;
    let new = NewDeployment {
        stateroot: &plan.stateroot,
        commit: &plan.commit,
        origin: &plan.origin,
        merge_from: plan.merge_from.as_ref(),
        kargs: &plan.kargs,
    };
    match plan.method {
        Method::Stage => sysroot.stage(&new),
        Method::Finish => sysroot.deploy(&new, plan.retain),
    }
}
