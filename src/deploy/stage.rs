//! Carries a deployment plan out. Reads the facts that the planner needs, then calls libostree in
//! an order in which every interruption leaves the old boot entries or the new ones.

use anyhow::Result;

use super::{DeployPlan, KargsDecision, Method, Room, Snapshot};
use crate::boot::BootSetup;
use crate::boot::kargs_d::ImageKargs;
use crate::sysroot::{DeploymentId, LockedSysroot, NewDeployment, Sysroot};

/// The host as the planner needs it.
pub fn snapshot(sysroot: &Sysroot) -> Result<Snapshot> {
    let deployments = sysroot.deployments()?;
    let (mut kernels, mut image_kargs) = (Vec::new(), Vec::new());
    for deployment in &deployments {
        // An image of yesterday that asks for nonsense must not stand in the way of the next.
        let asked = sysroot.image_kargs(&deployment.id).unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            ImageKargs::default()
        });
        image_kargs.push(asked);
        // A commit that another tool removed takes part in nothing; its deployment still boots.
        match sysroot.tree_facts(&deployment.id.commit) {
            Ok(facts) => kernels.extend(facts.kernel),
            Err(error) => tracing::debug!("{error:#}"),
        }
    }
    let free = sysroot.free_space()?;
    let room = Room { free, kernels };
    let bootloader = BootSetup::read(sysroot.path())?.bootloader;
    Ok(Snapshot {
        deployments,
        image_kargs,
        room,
        bootloader,
    })
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

/// Makes changed kernel arguments count: gives the deployment that boots with them next.
pub fn set_kargs(sysroot: &LockedSysroot, decision: &KargsDecision) -> Result<DeploymentId> {
    match decision {
        KargsDecision::Nothing(id) => Ok(id.clone()),
        KargsDecision::Record(id, origin) => {
            sysroot.set_origin(id, origin)?;
            Ok(id.clone())
        }
        KargsDecision::Deploy(plan) => carry_out(sysroot, plan),
    }
}
