//! A system in a sysroot: the image is fetched, checked against the policy, and deployed with the
//! kernel arguments of this installation. A locked, empty sysroot comes in; what was deployed goes
//! out. Interrupted, the fetched layers stay, and a second run uses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::request::Wanted;
use super::{InstallError, bootupd, choice, fstab, keys};
use crate::boot::{BootSetup, Bootloader};
use crate::config::InstallConfig;
use crate::deploy::{self, Decision, Wish};
use crate::progress::{Event, Phase};
use crate::pull::{self, Accepted, Prepared, PullOptions};
use crate::repo::{ImageRecord, Repo};
use crate::sysroot::{DeploymentId, LockedSysroot};
use crate::transport::{self, ImageSource};
use crate::trust::VerifiedBy;

/// Settings of the repository in an installed system: boot loader entries are ours or read by
/// a static configuration, never made by a generator of the system; paths in them count from the
/// root, as `boot` is no file system of its own; and `/sysroot` is not for writing.
const REPO_CONFIG: [(&str, &str); 3] = [
    ("bootloader", "none"),
    ("bootprefix", "true"),
    ("readonly", "true"),
];

/// A fetched image.
#[derive(Debug)]
pub struct Fetched {
    /// What the repository knows of it.
    pub record: ImageRecord,
    /// Why it may be used.
    accepted: Accepted,
    /// Who vouches for it.
    vouched: Vec<VerifiedBy>,
}

/// A deployed system.
#[derive(Debug)]
pub struct Deployed {
    /// The deployment.
    pub id: DeploymentId,
    /// Its tree.
    pub tree: PathBuf,
    /// Its kernel arguments.
    pub kargs: Vec<String>,
}

/// Refuses an image that nobody can fetch, or that the policy refuses, as long as nothing is changed.
#[context("Looking for {}", wanted.image.imgref)]
pub async fn look(wanted: &Wanted) -> Result<()> {
    wanted.progress.event(Event::Phase(Phase::Resolve));
    let source = open(wanted).await?;
    pull::accept(&*source, &wanted.image, &wanted.arch, &wanted.rules).await?;
    Ok(())
}

async fn open(wanted: &Wanted) -> Result<Box<dyn ImageSource>> {
    let imgref = &wanted.image.imgref;
    let source = transport::open(imgref, &wanted.source).await;
    source.with_context(|| format!("Opening {imgref}"))
}

/// Fetches the image into the sysroot, unless it is there.
#[context("Fetching {}", wanted.image.imgref)]
pub async fn fetch(sysroot: &LockedSysroot, wanted: &Wanted) -> Result<Fetched> {
    wanted.progress.event(Event::Phase(Phase::Resolve));
    deploy::preflight(&sysroot.deployments()?, wanted.stateroot.as_deref())?;
    let repo = sysroot.repo()?;
    let source = open(wanted).await?;
    let options = PullOptions {
        arch: wanted.arch.clone(),
        require_bootable: true,
    };
    let accepted = pull::accept(&*source, &wanted.image, &wanted.arch, &wanted.rules).await?;
    let state = pull::prepare(&repo, &*source, &accepted, &options).await?;
    let record = match state {
        Prepared::Unchanged(record) => *record,
        Prepared::Ready(mut plan) => {
            pull::compare(&repo, &*source, &mut plan, &wanted.progress).await?;
            let (jobs, progress) = (wanted.jobs, wanted.progress.clone());
            pull::run(&repo, Arc::from(source), *plan, jobs, progress).await?
        }
    };
    let vouched = accepted.note(&repo, &record)?;
    accepted.require_sound(&repo, &record)?;
    Ok(Fetched {
        record,
        accepted,
        vouched,
    })
}

/// Drops what an earlier run fetched for another image.
pub fn only(repo: &Repo, fetched: &Fetched) -> Result<()> {
    let mut others = false;
    for image in repo.images()? {
        let record = repo.image(&image)?;
        if record.is_none_or(|record| record.commit != fetched.record.commit) {
            others |= repo.remove_image(&image)?;
        }
    }
    if others {
        repo.prune()?;
    }
    Ok(())
}

/// How the fetched image wants to be installed.
#[context("Reading how {} wants to be installed", wanted.image.imgref)]
pub fn config(
    sysroot: &LockedSysroot,
    wanted: &Wanted,
    fetched: &Fetched,
) -> Result<InstallConfig> {
    let tree = sysroot.commit_tree(&fetched.record.commit)?;
    let config = InstallConfig::load(&tree, &wanted.arch).map_err(InstallError::of_image_file)?;
    config.check()?;
    if config.enforce_container_sigpolicy == Some(true) {
        fetched.accepted.require_policy_signature()?;
    }
    Ok(config)
}

/// How a deployment is to boot.
#[derive(Debug)]
pub struct Boot<'a> {
    /// Kernel arguments that lead to the root file system.
    pub root: &'a [String],
    /// What will boot it.
    pub loader: Bootloader,
    /// Directory to which kernel and boot entry are mirrored for systemd-boot.
    pub esp: Option<&'a Path>,
    /// A line for its `/etc/fstab`.
    pub fstab: Option<&'a str>,
}

/// Deploys the fetched image; it follows what the request says. All that belongs to the machine is in
/// its `/etc` before anything can boot it.
#[context("Deploying {}", wanted.image.imgref)]
pub fn deploy(
    sysroot: &LockedSysroot,
    wanted: &Wanted,
    fetched: &Fetched,
    config: &InstallConfig,
    boot: &Boot<'_>,
) -> Result<Deployed> {
    wanted.progress.event(Event::Phase(Phase::Deploy));
    let mut settings = REPO_CONFIG.to_vec();
    if let Some(appended) = &config.bls_append_except_default {
        settings.push(("bls-append-except-default", appended));
    }
    sysroot.configure(&settings)?;
    while_deploying(boot.esp).write(sysroot.path())?;
    let wish = Wish {
        image: wanted.image.clone(),
        commit: fetched.record.commit.clone(),
        stateroot: wanted.stateroot.clone().or(config.stateroot.clone()),
        retain: false,
        explicit: true,
        arch: wanted.arch.clone(),
        kargs: choice::edits(boot.root, config, wanted)?,
    };
    let tree = sysroot.tree_facts(&fetched.record.commit)?;
    let mut host = deploy::snapshot(sysroot)?;
    host.bootloader = judge(boot.loader, sysroot, fetched)?;
    let plan = deploy::plan(&host, &wish, &tree)?;
    let Decision::Deploy(mut plan) = plan else {
        let taken = format!("{} has deployments already", sysroot.path().display());
        return Err(InstallError::Options(taken).into());
    };
    plan.origin = plan.origin.following(&wanted.target_image);
    plan.origin.set_vouched(&fetched.vouched);
    let id = deploy::finish(sysroot, &plan, &|tree| local_etc(tree, wanted, boot.fstab))?;
    // Also names the refs that hold the deployment's commit.
    sysroot.clean_deployments()?;
    // Where the system looks for it when it asks what is new.
    let (from, to) = (&wanted.image.imgref, &wanted.target_image.imgref);
    sysroot.repo()?.rename_image(from, to)?;
    Ok(Deployed {
        tree: sysroot.directory(&id),
        kargs: plan.kargs,
        id,
    })
}

/// Adds to a deployment's `/etc` what belongs to the machine.
fn local_etc(tree: &Path, wanted: &Wanted, mount: Option<&str>) -> Result<()> {
    if let Some(keys) = &wanted.root_keys {
        keys::write(tree, keys)?;
    }
    match mount {
        Some(line) => fstab::add(tree, line),
        None => Ok(()),
    }
}

/// The boot loader whose rules boot entries must follow: what our GRUB cannot read is refused before
/// anything is deployed. Another GRUB, from bootupd, has rules of its own.
fn judge(loader: Bootloader, sysroot: &LockedSysroot, fetched: &Fetched) -> Result<Bootloader> {
    let tree = sysroot.commit_tree(&fetched.record.commit)?;
    Ok(match loader {
        Bootloader::Grub if bootupd::has_updates(&tree)? => Bootloader::None,
        loader => loader,
    })
}

/// How the sysroot boots as long as its boot loader is not installed: no other one's files are
/// touched.
fn while_deploying(esp: Option<&Path>) -> BootSetup {
    BootSetup {
        bootloader: match esp {
            Some(_) => Bootloader::SystemdBoot,
            None => Bootloader::None,
        },
        esp: esp.map(|dir| dir.display().to_string()),
    }
}
