//! Everything that writes deployments. Names and texts come in, libostree does the deeds. The
//! type proves that the lock is held; dropping it gives the lock back.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use ostree::{SysrootSimpleWriteDeploymentFlags as WriteFlags, glib};

use super::error::from_glib;
use super::handle::{NO_CANCEL, id_of};
use super::{DeploymentId, Origin, Sysroot, SysrootError};

/// libostree finishes no staged deployment beside this file (ostree-sysroot-private.h).
const HELD_BACK: &str = "/run/ostree/staged-deployment-locked";

/// A sysroot whose lock this process holds.
#[derive(Debug)]
pub struct LockedSysroot {
    sysroot: Sysroot,
}

/// A deployment to make.
#[derive(Debug, Clone, Copy)]
pub struct NewDeployment<'a> {
    /// Stateroot; must exist.
    pub stateroot: &'a str,
    /// Checksum of a commit in the repository.
    pub commit: &'a str,
    /// Its origin file.
    pub origin: &'a Origin,
    /// The deployment whose local changes to `/etc` go into the new one.
    pub merge_from: Option<&'a DeploymentId>,
    /// Kernel arguments, without `ostree=`.
    pub kargs: &'a [String],
}

impl LockedSysroot {
    pub(super) fn new(sysroot: Sysroot) -> Self {
        Self { sysroot }
    }

    /// Makes sure that the stateroot exists. An interrupted creation is finished.
    #[context("Creating stateroot {name}")]
    pub fn ensure_stateroot(&self, name: &str) -> Result<()> {
        if self.has_stateroot(name) {
            return Ok(());
        }
        let partial = self.path().join("ostree/deploy").join(name);
        if partial.exists() {
            // Without /var it holds nothing; this removes nothing else.
            fs::remove_dir(&partial).context("Removing what an interrupted creation left")?;
        }
        self.inner.init_osname(name, NO_CANCEL).map_err(from_glib)
    }

    /// Sets keys of the group `sysroot` in the repository's configuration
    /// (ostree.repo-config(5)), durably.
    #[context("Configuring the repository")]
    pub fn configure(&self, pairs: &[(&str, &str)]) -> Result<()> {
        let repo = self.inner.repo();
        let config = repo.copy_config();
        for (key, value) in pairs {
            config.set_string("sysroot", key, value);
        }
        repo.write_config(&config).map_err(from_glib)?;
        repo.reload_config(NO_CANCEL).map_err(from_glib)
    }

    /// Writes a finished deployment that boots next. Of the same stateroot only the booted, the
    /// merged and pinned deployments stay, all of them with `retain`. `complete` may add to its
    /// directory before anything can boot it.
    ///
    /// Interrupted, it leaves the old boot entries or the new ones, and perhaps directories that
    /// [`Self::clean_deployments`] removes.
    #[context("Deploying {}", new.commit)]
    pub fn deploy(
        &self,
        new: &NewDeployment<'_>,
        retain: bool,
        complete: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<DeploymentId> {
        let merge = self.merge_deployment(new)?;
        let kargs: Vec<&str> = new.kargs.iter().map(String::as_str).collect();
        let deployed = self.inner.deploy_tree(
            Some(new.stateroot),
            new.commit,
            Some(&key_file(new.origin)?),
            merge.as_ref(),
            &kargs,
            NO_CANCEL,
        );
        let deployed = deployed.map_err(from_glib)?;
        complete(&self.directory(&id_of(&deployed)))?;
        let flags = match retain {
            true => WriteFlags::NO_CLEAN | WriteFlags::RETAIN,
            false => WriteFlags::NO_CLEAN,
        };
        let osname = Some(new.stateroot);
        let (sysroot, merge) = (&self.inner, merge.as_ref());
        let written = sysroot.simple_write_deployment(osname, &deployed, merge, flags, NO_CANCEL);
        written
            .map_err(from_glib)
            .context("Writing boot loader entries")?;
        self.load()?;
        Ok(id_of(&deployed))
    }

    /// Stages a deployment that is finished at shutdown; it replaces one that is staged already.
    /// Works on the booted host only. Interrupted, it leaves nothing staged, or the new one.
    #[context("Staging {}", new.commit)]
    pub fn stage(&self, new: &NewDeployment<'_>) -> Result<DeploymentId> {
        let id = self.with_record(new, || self.stage_tree(new))?;
        self.load()?;
        Ok(id)
    }

    fn stage_tree(&self, new: &NewDeployment<'_>) -> Result<DeploymentId> {
        let merge = self.merge_deployment(new)?;
        let kargs: Vec<&str> = new.kargs.iter().map(String::as_str).collect();
        let staged = self.inner.stage_tree(
            Some(new.stateroot),
            new.commit,
            Some(&key_file(new.origin)?),
            merge.as_ref(),
            &kargs,
            NO_CANCEL,
        );
        Ok(id_of(&staged.map_err(from_glib)?))
    }

    /// Replaces the origin of a deployment; nothing else about it changes.
    #[context("Writing the origin of {id}")]
    pub fn set_origin(&self, id: &DeploymentId, origin: &Origin) -> Result<()> {
        let (deployment, file) = (self.find(id)?, key_file(origin)?);
        let written = self
            .inner
            .write_origin_file(&deployment, Some(&file), NO_CANCEL);
        written.map_err(from_glib)?;
        self.load()
    }

    /// Keeps a staged deployment from being finished at the next shutdown. The mark is gone after
    /// it, as the staged deployment is.
    #[context("Holding back the staged deployment")]
    pub fn hold_back_staged(&self) -> Result<()> {
        Ok(fs::write(HELD_BACK, "")?)
    }

    /// Writes the boot order, durably. Deployments that are not named leave the boot list; a
    /// staged one must come first or is discarded.
    #[context("Writing the boot order")]
    pub fn write_boot_order(&self, order: &[DeploymentId]) -> Result<()> {
        let order = order.iter().map(|id| self.find(id));
        let order: Vec<_> = order.collect::<Result<_>>()?;
        let options = ostree::SysrootWriteDeploymentsOpts {
            do_postclean: false,
        };
        let written = self
            .inner
            .write_deployments_with_options(&order, &options, NO_CANCEL);
        written.map_err(from_glib)?;
        self.load()
    }

    /// Removes directories and boot files of deployments that are in no boot list and sets the
    /// refs that hold the commits of those that are. Removes no object.
    #[context("Removing old deployments")]
    pub fn clean_deployments(&self) -> Result<()> {
        self.inner.prepare_cleanup(NO_CANCEL).map_err(from_glib)?;
        self.load()
    }

    fn merge_deployment(&self, new: &NewDeployment<'_>) -> Result<Option<ostree::Deployment>> {
        new.merge_from.map(|id| self.find(id)).transpose()
    }

    fn find(&self, id: &DeploymentId) -> Result<ostree::Deployment> {
        let mut all = self.inner.deployments().into_iter();
        let found = all.find(|d| id_of(d) == *id);
        Ok(found.ok_or_else(|| SysrootError::NoDeployment(id.to_string()))?)
    }
}

impl Deref for LockedSysroot {
    type Target = Sysroot;

    fn deref(&self) -> &Sysroot {
        &self.sysroot
    }
}

impl Drop for LockedSysroot {
    fn drop(&mut self) {
        self.sysroot.inner.unlock();
    }
}

fn key_file(origin: &Origin) -> Result<glib::KeyFile> {
    let file = glib::KeyFile::new();
    let flags = glib::KeyFileFlags::KEEP_COMMENTS | glib::KeyFileFlags::KEEP_TRANSLATIONS;
    file.load_from_data(&origin.to_string(), flags)
        .context("Preparing the origin")?;
    Ok(file)
}
