//! What a deployment will do to the host, decided before anything is done. A snapshot and a wish
//! come in, a printable plan goes out. Pure: reads nothing, changes nothing.

use std::fmt;

use super::plan_esp::{self, EspRoom};
use super::{DeployError, Kargs};
use crate::boot::Bootloader;
use crate::boot::kargs_d::ImageKargs;
use crate::boot::kargs_edit::Edit;
use crate::boot::title;
use crate::image::{ImageReference, OstreeImageReference};
use crate::sysroot::{
    Deployment, DeploymentId, FreeSpace, Kernel, Origin, Slot, TreeFacts, booted, leading,
    merge_from,
};

/// Stateroot of a host that has none yet; what ostree-ext uses too.
const DEFAULT_STATEROOT: &str = "default";
/// Room for directories, boot entries and journals of the file systems, in bytes.
const SLACK: u64 = 4 << 20;

/// The host as it is.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// All deployments in boot order.
    pub deployments: Vec<Deployment>,
    /// What the image of each deployment asks for in kernel arguments, in the same order.
    pub image_kargs: Vec<ImageKargs>,
    /// Free space.
    pub room: Room,
    /// What loads the kernel.
    pub bootloader: Bootloader,
}

/// Free space, and what is in `boot` already.
#[derive(Debug, Clone)]
pub struct Room {
    /// Free bytes.
    pub free: FreeSpace,
    /// Kernels in `boot`: those of the finished deployments.
    pub kernels: Vec<Kernel>,
    /// The ESP, where kernels are mirrored to it.
    pub esp: Option<EspRoom>,
}

/// What should be deployed.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The image to follow.
    pub image: OstreeImageReference,
    /// Its merge commit.
    pub commit: String,
    /// The stateroot, where the user named one.
    pub stateroot: Option<String>,
    /// Keep every present deployment.
    pub retain: bool,
    /// The user named the image, so it boots next even if it runs now and another one would.
    pub explicit: bool,
    /// Its architecture, a GOARCH word.
    pub arch: String,
    /// Changes to the kernel arguments; what they add belongs to the machine.
    pub kargs: Vec<Edit>,
}

/// What is to be done about a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This deployment is what was wished for.
    Nothing(DeploymentId, Slot),
    /// Carry out the plan.
    Deploy(Box<DeployPlan>),
}

/// How the deployment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// On the booted host: prepared now, finished at shutdown.
    Stage,
    /// In a sysroot that is not booted: finished at once.
    Finish,
}

/// A deployment to be made, with all that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployPlan {
    /// Stateroot of the new deployment.
    pub stateroot: String,
    /// Merge commit to deploy.
    pub commit: String,
    /// Its origin.
    pub origin: Origin,
    /// Whose changes to `/etc` it takes over.
    pub merge_from: Option<DeploymentId>,
    /// Its kernel arguments.
    pub kargs: Vec<String>,
    /// The kernel arguments that it would have if nobody asked for others.
    pub kargs_before: Vec<String>,
    /// How it is written.
    pub method: Method,
    /// Keep everything.
    pub retain: bool,
    /// Deployments that stay, in boot order behind the new one.
    pub keep: Vec<DeploymentId>,
    /// Deployments that go, now or (staged) at shutdown.
    pub drop: Vec<DeploymentId>,
    /// Images that only the deployments in `drop` followed.
    pub drop_images: Vec<ImageReference>,
}

/// What would refuse any deployment, so that nothing is pulled in vain: gives the stateroot and
/// the deployment that a new one grows from.
pub fn preflight<'a>(
    all: &'a [Deployment],
    named: Option<&str>,
) -> Result<(String, Option<&'a Deployment>), DeployError> {
    let stateroot = stateroot(all, named)?;
    let merge = merge_from(all, &stateroot);
    match merge.filter(|d| d.origin.has_local_changes()) {
        Some(changed) => Err(DeployError::LocalChanges(changed.id.to_string())),
        None => Ok((stateroot, merge)),
    }
}

/// The deployment that makes a wish come true already. Costs nothing: no tree is looked at.
pub fn already_there<'a>(
    all: &'a [Deployment],
    wish: &Wish,
) -> Result<Option<&'a Deployment>, DeployError> {
    let (stateroot, _) = preflight(all, wish.stateroot.as_deref())?;
    let fits = |d: &&Deployment| {
        let image = d.origin.image();
        let same_image = image.is_ok_and(|i| i.as_ref() == Some(&wish.image));
        d.id.commit == wish.commit && d.id.stateroot == stateroot && same_image
    };
    let Some(next) = all.first() else {
        return Ok(None);
    };
    // A rollback that waits for its boot must not be undone by an upgrade that brings nothing.
    let running = booted(all).filter(|_| !wish.explicit && next.slot != Slot::Staged);
    Ok(Some(next).filter(fits).or(running.filter(fits)))
}

/// Plans how `wish`, whose commit has this `tree`, becomes what boots next.
pub fn plan(host: &Snapshot, wish: &Wish, tree: &TreeFacts) -> Result<Decision, DeployError> {
    let (stateroot, merge) = preflight(&host.deployments, wish.stateroot.as_deref())?;
    let kernel = tree.kernel.as_ref().ok_or(DeployError::NoKernel)?;
    if let Some(there) = already_there(&host.deployments, wish)? {
        return Ok(Decision::Nothing(there.id.clone(), there.slot));
    }
    check_space(&host.room, kernel, tree.etc_bytes)?;
    let kargs = kargs(host, &stateroot, &wish.arch);
    let next = kargs.upgraded(tree.kargs.for_arch(&wish.arch));
    let next = next.edited(&wish.kargs)?;
    if host.bootloader == Bootloader::Grub {
        refuse_obstacle(&next, &kargs)?;
        refuse_title(&tree.title)?;
    }
    let origin = merge.map(|d| d.origin.following(&wish.image));
    let plan = Successor {
        commit: &wish.commit,
        origin: origin.unwrap_or_else(|| Origin::of_image(&wish.image)),
        image: Some(&wish.image),
        kargs: &next,
        kargs_before: &kargs,
        stateroot,
        merge,
        retain: wish.retain,
    };
    let plan = plan.among(host);
    plan_esp::check(host, kernel, |id| plan.keep.contains(id))?;
    Ok(Decision::Deploy(Box::new(plan)))
}

/// A deployment to be made, before it is known what becomes of the others.
#[derive(Debug)]
pub(super) struct Successor<'a> {
    pub commit: &'a str,
    pub origin: Origin,
    /// The image that it follows.
    pub image: Option<&'a OstreeImageReference>,
    pub kargs: &'a Kargs,
    pub kargs_before: &'a Kargs,
    pub stateroot: String,
    pub merge: Option<&'a Deployment>,
    pub retain: bool,
}

impl Successor<'_> {
    /// The plan that makes it the next to boot on `host`.
    pub(super) fn among(mut self, host: &Snapshot) -> DeployPlan {
        let method = match booted(&host.deployments) {
            Some(_) => Method::Stage,
            None => Method::Finish,
        };
        let retain = self.retain && method == Method::Finish;
        let (keep, drop): (Vec<_>, Vec<_>) = host
            .deployments
            .iter()
            .partition(|d| stays(d, &self.stateroot, self.merge, retain));
        let ids = |list: &[&Deployment]| list.iter().map(|d| d.id.clone()).collect();
        self.kargs.record_in(&mut self.origin);
        DeployPlan {
            kargs: self.kargs.args.to_words(),
            kargs_before: self.kargs_before.args.to_words(),
            merge_from: self.merge.map(|d| d.id.clone()),
            origin: self.origin,
            commit: self.commit.into(),
            drop_images: match self.retain {
                true => Vec::new(),
                false => only_in(&drop, &keep, self.image),
            },
            retain: self.retain,
            keep: ids(&keep),
            drop: ids(&drop),
            stateroot: self.stateroot,
            method,
        }
    }
}

pub(super) fn refuse_obstacle(next: &Kargs, before: &Kargs) -> Result<(), DeployError> {
    match next.obstacle(&before.args) {
        None => Ok(()),
        Some((arg, character)) => Err(DeployError::Obstacle {
            arg: arg.to_string(),
            character,
        }),
    }
}

/// GRUB loses an entry with such a title, and would count the boots of another deployment.
fn refuse_title(title: &str) -> Result<(), DeployError> {
    match title::grub_obstacle(title) {
        None => Ok(()),
        Some(character) => Err(DeployError::Title {
            title: title.into(),
            character,
        }),
    }
}

/// The named stateroot, else that of the booted deployment, else of the next boot.
fn stateroot(all: &[Deployment], named: Option<&str>) -> Result<String, DeployError> {
    if let Some(name) = named {
        return match is_stateroot_name(name) {
            true => Ok(name.into()),
            false => Err(DeployError::StaterootName(name.into())),
        };
    }
    let home = booted(all).or(all.first());
    Ok(home
        .map_or(DEFAULT_STATEROOT, |d| d.id.stateroot.as_str())
        .into())
}

/// Whether a stateroot may have this name: it is a directory, and part of the argument `ostree=` on a
/// kernel command line that GRUB reads as script.
fn is_stateroot_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.+@:~,%".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// libostree's rule for what a new deployment leaves in the boot list
/// (`ostree_sysroot_simple_write_deployment` without flags, or with RETAIN).
fn stays(d: &Deployment, stateroot: &str, merge: Option<&Deployment>, retain: bool) -> bool {
    let is_merge = merge.is_some_and(|merge| merge.id == d.id);
    let kept = retain || d.pinned || d.id.stateroot != stateroot || is_merge;
    d.slot != Slot::Staged && (kept || d.slot == Slot::Booted)
}

/// The image that an upgrade follows, and the deployment that says so.
pub fn followed<'a>(
    all: &'a [Deployment],
    named: Option<&str>,
) -> Result<(&'a Deployment, OstreeImageReference), DeployError> {
    let nothing = || DeployError::NothingDeployed(named.map(str::to_owned));
    let found = leading(all, named).ok_or_else(nothing)?;
    if found.origin.has_local_changes() {
        return Err(DeployError::LocalChanges(found.id.to_string()));
    }
    let image = found.origin.image().ok().flatten();
    let image = image.ok_or_else(|| DeployError::NotAnImage(found.id.to_string()))?;
    Ok((found, image))
}

/// What finishing the staged deployment will drop; empty where nothing is staged.
pub(crate) fn doomed(all: &[Deployment]) -> Vec<&Deployment> {
    let Some(staged) = all.iter().find(|d| d.slot == Slot::Staged) else {
        return Vec::new();
    };
    let stateroot = &staged.id.stateroot;
    let merge = merge_from(all, stateroot);
    let goes = |d: &&Deployment| d.slot != Slot::Staged && !stays(d, stateroot, merge, false);
    all.iter().filter(goes).collect()
}

/// Images that origins in `gone` name, and neither one in `kept` nor `new`.
pub(crate) fn only_in(
    gone: &[&Deployment],
    kept: &[&Deployment],
    new: Option<&OstreeImageReference>,
) -> Vec<ImageReference> {
    let images = |list: &[&Deployment]| -> Vec<ImageReference> {
        let images = list.iter().filter_map(|d| d.origin.image().ok().flatten());
        images.map(|image| image.imgref).collect()
    };
    let kept = images(kept);
    let mut only: Vec<ImageReference> = Vec::new();
    for image in images(gone) {
        let needed = kept.contains(&image) || new.is_some_and(|new| new.imgref == image);
        if !needed && !only.contains(&image) {
            only.push(image);
        }
    }
    only
}

/// The arguments to start from: those of a staged deployment, as somebody may have changed them
/// since the last boot, else of the merged one. A new stateroot boots on the same machine, so it
/// starts with those of the deployment that runs, or boots next.
fn kargs(host: &Snapshot, stateroot: &str, arch: &str) -> Kargs {
    let all = &host.deployments;
    let machine = || booted(all).or(all.first());
    let source = leading(all, Some(stateroot)).or_else(machine);
    source.map(|d| host.kargs_of(d, arch)).unwrap_or_default()
}

impl Snapshot {
    /// The arguments of a deployment of this host, and who wants them.
    pub fn kargs_of(&self, deployment: &Deployment, arch: &str) -> Kargs {
        let mut asked = self.deployments.iter().zip(&self.image_kargs);
        let asked = asked.find(|(d, _)| d.id == deployment.id);
        let asked = asked
            .map(|(_, kargs)| kargs.for_arch(arch))
            .unwrap_or_default();
        Kargs::of(deployment, asked, &self.deployments)
    }
}

pub(super) fn check_space(room: &Room, kernel: &Kernel, etc_bytes: u64) -> Result<(), DeployError> {
    let shared = room.kernels.iter().any(|k| k.checksums == kernel.checksums);
    let boot = if shared { SLACK } else { kernel.bytes + SLACK };
    let root = etc_bytes + SLACK;
    let free = room.free;
    let checks = match free.shared {
        true => vec![("the sysroot", boot + root - SLACK, free.root)],
        false => vec![("/boot", boot, free.boot), ("the sysroot", root, free.root)],
    };
    for (place, needed, available) in checks {
        if needed > available {
            return Err(DeployError::NoSpace {
                place,
                needed,
                available,
            });
        }
    }
    Ok(())
}

impl fmt::Display for DeployPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.method {
            Method::Stage => "stage",
            Method::Finish => "deploy",
        };
        writeln!(f, "{verb} {} in stateroot {}", self.commit, self.stateroot)?;
        if let Some(merge) = &self.merge_from {
            writeln!(f, "  /etc from {merge}")?;
        }
        writeln!(f, "  kernel arguments: {}", self.kargs.join(" "))?;
        for id in &self.keep {
            writeln!(f, "  keep {id}")?;
        }
        for id in &self.drop {
            writeln!(f, "  drop {id}")?;
        }
        for image in &self.drop_images {
            writeln!(f, "  drop image {image}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
