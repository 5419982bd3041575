//! Carries a deployment plan out. Reads the facts that the planner needs, then calls libostree in
//! an order in which every interruption leaves the old boot entries or the new ones.

use std::path::Path;

use anyhow::Result;

use super::{
    DeployPlan, EspRoom, Kargs, KargsDecision, Method, Outlook, Room, Snapshot, bootloader,
    kargs_base, outlook,
};
use crate::boot::kargs_d::ImageKargs;
use crate::boot::{self, BootSetup, Bootloader, Counting, mirror};
use crate::sysroot::{Deployment, DeploymentId, LockedSysroot, NewDeployment, Slot, Sysroot};

/// The host as the planner needs it.
pub fn snapshot(sysroot: &Sysroot) -> Result<Snapshot> {
    let deployments = sysroot.deployments()?;
    let (mut kernels, mut image_kargs) = (Vec::new(), Vec::new());
    for deployment in &deployments {
        image_kargs.push(asked(sysroot, deployment));
        if deployment.slot == Slot::Staged {
            // Its kernel comes to `boot` at shutdown.
            continue;
        }
        // A commit that another tool removed takes part in nothing; its deployment still boots.
        match sysroot.tree_facts(&deployment.id.commit) {
            Ok(facts) => kernels.extend(facts.kernel),
            Err(error) => tracing::debug!("{error:#}"),
        }
    }
    let setup = BootSetup::read(sysroot.path())?;
    let room = Room {
        free: sysroot.free_space()?,
        kernels,
        esp: esp_room(sysroot, &setup)?,
    };
    Ok(Snapshot {
        deployments,
        image_kargs,
        room,
        bootloader: setup.bootloader,
    })
}

/// An image of yesterday that asks for nonsense must not stand in the way of the next.
fn asked(sysroot: &Sysroot, deployment: &Deployment) -> ImageKargs {
    sysroot.image_kargs(&deployment.id).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        ImageKargs::default()
    })
}

/// The kernel arguments of what boots next, and who wants them. `named` is the stateroot that the
/// user named; `arch` gives the architecture (a GOARCH word) of a deployment.
pub fn next_kargs(
    sysroot: &Sysroot,
    named: Option<&str>,
    arch: impl Fn(&Deployment) -> Result<String>,
) -> Result<(Deployment, Kargs)> {
    let all = sysroot.deployments()?;
    let base = kargs_base(&all, named)?;
    let asked = asked(sysroot, base).for_arch(&arch(base)?);
    Ok((base.clone(), Kargs::of(base, asked, &all)))
}

fn esp_room(sysroot: &Sysroot, setup: &BootSetup) -> Result<Option<EspRoom>> {
    if setup.bootloader != Bootloader::SystemdBoot {
        return Ok(None);
    }
    let esp = boot::esp::open(setup)?;
    Ok(Some(EspRoom {
        present: mirror::look(esp.path())?,
        entries: mirror::wanted(sysroot.path(), Counting::AsIs)?.entries,
    }))
}

/// Makes the planned deployment boot next: at once, or (staged) from the next shutdown on.
///
/// libostree removes kernels when it stages, so the mirror on the ESP is put right before. What is
/// finished at once is taken for good: it boots on no host that could judge it.
pub fn carry_out(sysroot: &LockedSysroot, plan: &DeployPlan) -> Result<DeploymentId> {
    match plan.method {
        Method::Stage => {
            sysroot.ensure_stateroot(&plan.stateroot)?;
            bootloader::catch_up(sysroot)?;
            sysroot.stage(&new(plan))
        }
        Method::Finish => finish(sysroot, plan, &|_| Ok(())),
    }
}

/// Makes the planned deployment at once. `complete` may add to its directory before anything can
/// boot it.
pub fn finish(
    sysroot: &LockedSysroot,
    plan: &DeployPlan,
    complete: &dyn Fn(&Path) -> Result<()>,
) -> Result<DeploymentId> {
    sysroot.ensure_stateroot(&plan.stateroot)?;
    let id = sysroot.deploy(&new(plan), plan.retain, complete)?;
    let setup = BootSetup::read(sysroot.path())?;
    boot::settle(sysroot.path(), &setup, Counting::Off)?;
    Ok(id)
}

fn new(plan: &DeployPlan) -> NewDeployment<'_> {
    NewDeployment {
        stateroot: &plan.stateroot,
        commit: &plan.commit,
        origin: &plan.origin,
        merge_from: plan.merge_from.as_ref(),
        kargs: &plan.kargs,
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
        KargsDecision::Deploy(plan) => {
            // This deployment, too, takes over what was changed in /etc.
            let outlook = outlook::outlook(sysroot, plan)?;
            outlook.iter().try_for_each(Outlook::refuse_conflicts)?;
            carry_out(sysroot, plan)
        }
    }
}
