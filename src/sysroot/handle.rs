//! An opened sysroot. A path comes in; deployments as plain data go out. Reads only: whoever
//! wants to write takes the lock and gets a [`super::LockedSysroot`].

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use ostree::{gio, glib};

use super::error::{from_glib, io_kind};
use super::tree::{self, TreeFacts};
use super::{
    CommitTree, Deployment, DeploymentId, LockedSysroot, Origin, Slot, SysrootError, assign_slots,
    init,
};
use crate::boot::kargs::KernelArgs;
use crate::boot::kargs_d::ImageKargs;
use crate::repo::Repo;
use crate::sys::tree::DirTree;

/// What no method of libostree needs from us.
pub(super) const NO_CANCEL: Option<&gio::Cancellable> = None;
/// There on every host that ostree booted (libostree, otcore.h).
const BOOTED_MARK: &str = "/run/ostree-booted";

/// A handle on a sysroot, loaded once. Send, not Sync.
#[derive(Debug)]
pub struct Sysroot {
    pub(super) inner: ostree::Sysroot,
    path: PathBuf,
}

impl Sysroot {
    /// Opens the sysroot at `path` to read it. Needs no more permissions than reading does.
    #[context("Opening sysroot {}", path.display())]
    pub fn open(path: &Path) -> Result<Self> {
        let sysroot = Self::found(path)?;
        sysroot.load()?;
        Ok(sysroot)
    }

    /// Opens the sysroot at `path` to write it and takes its lock; where another process has it,
    /// returns [`SysrootError::Busy`] at once.
    ///
    /// On the booted host `/sysroot` may be mounted read-only: libostree then remounts it
    /// writable in a mount namespace of this process. A namespace belongs to a thread, so this
    /// must be called before the process starts any other.
    #[context("Opening sysroot {}", path.display())]
    pub fn open_locked(path: &Path) -> Result<LockedSysroot> {
        let sysroot = Self::found(path)?;
        let prepared = sysroot.inner.initialize_with_mount_namespace(NO_CANCEL);
        prepared.map_err(from_glib)?;
        let locked = sysroot.inner.try_lock();
        if !locked.map_err(|error| refused(error, path))? {
            return Err(SysrootError::Busy(path.into()).into());
        }
        // Only now is it certain that nobody changes what is loaded.
        let sysroot = LockedSysroot::new(sysroot);
        sysroot.load()?;
        Ok(sysroot)
    }

    fn found(path: &Path) -> Result<Self> {
        quiet_library();
        let path = logical_root(path);
        let repo = path.join("ostree/repo/config");
        match fs::metadata(&path).and_then(|found| Ok((found.is_dir(), repo.try_exists()?))) {
            Ok((true, true)) => {}
            Ok((true, false)) => return Err(not_a_sysroot(path)?.into()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(error.into());
            }
            Ok((false, _)) | Err(_) => return Err(SysrootError::NoDirectory(path).into()),
        }
        let inner = ostree::Sysroot::new(Some(&gio::File::for_path(&path)));
        Ok(Self { inner, path })
    }

    /// Reads again what is on disk.
    #[context("Reading the deployments")]
    pub(super) fn load(&self) -> Result<()> {
        self.inner.load(NO_CANCEL).map_err(from_glib)
    }

    /// Root of the sysroot.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the running system was booted from this sysroot.
    pub fn is_booted(&self) -> bool {
        self.inner.booted_deployment().is_some()
    }

    /// Its repository.
    pub fn repo(&self) -> Result<Repo> {
        Repo::wrap(self.inner.repo())
    }

    /// All deployments in boot order, a staged one first.
    pub fn deployments(&self) -> Result<Vec<Deployment>> {
        let booted = self.inner.booted_deployment();
        let plain = |d: &ostree::Deployment| {
            let is_booted = booted.as_ref().is_some_and(|b| b.equal(d));
            plain(d, is_booted)
        };
        let mut all: Vec<_> = self
            .inner
            .deployments()
            .iter()
            .map(plain)
            .collect::<Result<_>>()?;
        assign_slots(&mut all);
        Ok(all)
    }

    /// Directory of a deployment's tree.
    pub fn directory(&self, id: &DeploymentId) -> PathBuf {
        let name = format!("{}.{}", id.commit, id.serial);
        let deploy = self.path.join("ostree/deploy").join(&id.stateroot);
        deploy.join("deploy").join(name)
    }

    /// Whether there is a stateroot of this name.
    pub fn has_stateroot(&self, name: &str) -> bool {
        self.path
            .join("ostree/deploy")
            .join(name)
            .join("var")
            .is_dir()
    }

    /// What a commit's tree means for a deployment.
    #[context("Reading the tree of commit {commit}")]
    pub fn tree_facts(&self, commit: &str) -> Result<TreeFacts> {
        tree::facts(&self.inner.repo(), commit)
    }

    /// What the image of a deployment asks for in kernel arguments: from its commit, or where
    /// another tool removed that, from its directory.
    #[context("Reading the kernel arguments that the image of {id} asks for")]
    pub fn image_kargs(&self, id: &DeploymentId) -> Result<ImageKargs> {
        match self.commit_tree(&id.commit) {
            Ok(tree) => ImageKargs::read(&tree),
            Err(error) => {
                tracing::debug!("{error:#}");
                ImageKargs::read(&DirTree::open(&self.directory(id))?)
            }
        }
    }

    /// The files of a commit's tree.
    #[context("Opening the tree of commit {commit}")]
    pub fn commit_tree(&self, commit: &str) -> Result<CommitTree> {
        CommitTree::open(&self.inner.repo(), commit)
    }

    /// Bytes that are free below `boot` and in the sysroot.
    pub fn free_space(&self) -> Result<FreeSpace> {
        let boot = space(&self.path.join("boot"))?;
        let root = space(&self.path.join("ostree"))?;
        Ok(FreeSpace {
            boot: boot.1,
            root: root.1,
            shared: boot.0 == root.0,
        })
    }

    /// Origins on disk whose deployment is in no boot list: what an interrupted deploy or clean-up
    /// left behind. A file that is no origin is skipped: nothing can be learned from it.
    #[context("Looking for leftover deployments")]
    pub fn leftovers(&self) -> Result<Vec<Origin>> {
        let live: Vec<_> = self.deployments()?.into_iter().map(|d| d.id).collect();
        let mut found = Vec::new();
        for stateroot in read_dir(&self.path.join("ostree/deploy"))? {
            for path in read_dir(&stateroot.join("deploy"))? {
                let known = live
                    .iter()
                    .any(|id| self.directory(id) == path.with_extension(""));
                if known || path.extension().is_none_or(|e| e != "origin") {
                    continue;
                }
                let text =
                    fs::read(&path).with_context(|| format!("Reading {}", path.display()))?;
                found.extend(String::from_utf8_lossy(&text).parse::<Origin>());
            }
        }
        Ok(found)
    }
}

/// Bytes that are free for a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// In the file system of `boot`.
    pub boot: u64,
    /// In the file system of the repository and the deployments.
    pub root: u64,
    /// Whether they are one file system.
    pub shared: bool,
}

fn space(path: &Path) -> Result<(u64, u64)> {
    let what = || format!("Looking for free space in {}", path.display());
    let device = fs::metadata(path).with_context(what)?.dev();
    let stat = rustix::fs::statvfs(path).with_context(what)?;
    Ok((device, stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// A missing directory is an empty one; names that are not UTF-8 are paths all the same.
fn read_dir(path: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("Reading {}", path.display());
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        // A plain file beside the directories that we look for.
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(Vec::new()),
        other => other.with_context(what)?,
    };
    let paths = entries.map(|entry| Ok(entry.with_context(what)?.path()));
    paths.collect()
}

/// `/sysroot` of the booted host is the same place as `/`, but libostree would take it for a
/// foreign sysroot and could drop the deployment that runs.
fn logical_root(path: &Path) -> PathBuf {
    let place = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let booted = Path::new(BOOTED_MARK).exists();
    if booted && place(path).is_some_and(|here| place(Path::new("/sysroot")) == Some(here)) {
        return "/".into();
    }
    path.into()
}

fn not_a_sysroot(path: PathBuf) -> Result<SysrootError> {
    Ok(if path == Path::new("/") {
        SysrootError::NotImageBased
    } else if init::is_blank(&path)? {
        SysrootError::Empty(path)
    } else {
        SysrootError::NoSysroot(path)
    })
}

fn refused(error: glib::Error, path: &Path) -> anyhow::Error {
    match io_kind(&error) {
        Some(ErrorKind::ReadOnlyFilesystem) => SysrootError::ReadOnly(path.into()).into(),
        Some(ErrorKind::PermissionDenied) => SysrootError::NoPermission(path.into()).into(),
        _ => from_glib(error).context("Taking the lock"),
    }
}

fn plain(deployment: &ostree::Deployment, booted: bool) -> Result<Deployment> {
    let id = id_of(deployment);
    let slot = match (deployment.is_staged(), booted) {
        (true, _) => Slot::Staged,
        (false, true) => Slot::Booted,
        (false, false) => Slot::Other,
    };
    let origin = deployment.origin().map(|file| file.to_data());
    let origin: Origin = match origin {
        Some(text) => text
            .parse()
            .with_context(|| format!("Reading the origin of {id}"))?,
        None => Origin::default(),
    };
    let options = deployment
        .bootconfig()
        .and_then(|config| config.get("options"));
    Ok(Deployment {
        slot,
        pinned: deployment.is_pinned(),
        origin,
        kargs: kargs(options.as_deref().unwrap_or_default()),
        id,
    })
}

pub(super) fn id_of(deployment: &ostree::Deployment) -> DeploymentId {
    DeploymentId {
        stateroot: deployment.osname().into(),
        commit: deployment.csum().into(),
        // Serials count up from 0; libostree's type is wider than its values.
        serial: u32::try_from(deployment.deployserial()).unwrap_or_default(),
    }
}

/// libostree itself says which deployment an entry boots, so `ostree=` is not ours to carry over.
fn kargs(options: &str) -> Vec<String> {
    let ours = KernelArgs::parse(options).filtered(|arg| arg.key() != "ostree");
    ours.to_words()
}

/// libostree prints remarks such as "Freed objects" to stdout, which belongs to our answers.
fn quiet_library() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| glib::set_print_handler(|text| tracing::debug!("{}", text.trim_end())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kargs_are_words_without_the_deployment() {
        let options = "root=UUID=1  rw ostree=/ostree/boot.1/os/00/0 x=\"a b\"";
        assert_eq!(kargs(options), ["root=UUID=1", "rw", "x=\"a b\""]);
        assert_eq!(kargs(""), [""; 0]);
    }
}
