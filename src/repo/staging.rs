//! Objects on their way into a repository. File metadata and content come in; objects go into a
//! staging directory, and only what has been synced is renamed to its final name.
//!
//! ```text
//! REPO/tmp/bowline-RANDOM/         one per pull, locked with flock for as long as it is in use
//!     N/HEX.file HEX.dirtree ...   objects that layer N was the first to bring
//!     N/big                        a file whose checksum is not known yet
//!     N/record                     what it takes to put the layer together again
//!     refs/N                       refs that move when their objects are durable
//! ```
//!
//! Layers share what they stage (see `staged`): one that meets an object of another one's does not write it,
//! and takes it from there when it is published first, even if the other one has failed by then. So no
//! layer's directory goes away before the pull ends.
//!
//! An interruption leaves such a directory behind; the next pull or prune removes it. Never writes under a
//! final name, because libostree takes an object that exists for a valid one.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, Timespec, Timestamps};

use super::alike::Alike;
use super::commit_check::CommitCheck;
use super::layer_stage::{LayerStage, Objects};
use super::object::ObjectKind;
use super::record;
use super::staged::{LayerNumber, ObjectName, Staged};
use super::store::SharedLock;
use crate::image::Digest;
use crate::sys::fs as sysfs;

const PREFIX: &str = "bowline-";

/// How a repository stores files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageMode {
    /// As they are; needs root for any owner but oneself.
    Bare,
    /// Content as a plain file, metadata in an extended attribute.
    BareUser,
    /// Compressed, metadata in a header.
    Archive,
}

/// The staging directory of one pull.
#[derive(Debug)]
pub struct Staging {
    repo: OwnedFd,
    objects: OwnedFd,
    tmp: OwnedFd,
    /// Locked; closing it releases the lock.
    dir: OwnedFd,
    name: String,
    mode: StorageMode,
    sync: bool,
    reserve: u64,
    staged: Arc<Staged>,
    /// What the repository's images have, if anybody has said.
    alike: Option<Arc<Alike>>,
    /// Objects of the repository that are known to be damaged; they are written anew.
    damaged: Mutex<HashSet<Digest>>,
    /// Nobody prunes for as long as anything can still be published, whoever publishes it.
    shared: Option<Mutex<SharedLock>>,
    /// What the commit inside an image must be.
    check: Option<CommitCheck>,
}

impl Staging {
    /// Makes a staging directory and removes those that interrupted pulls left behind. `reserve`
    /// bytes of the file system stay free.
    pub(super) fn new(
        repo: OwnedFd,
        mode: StorageMode,
        sync: bool,
        reserve: u64,
    ) -> io::Result<Self> {
        let tmp = sysfs::open_dir(&repo, "tmp")?;
        let name = sysfs::random_name(PREFIX);
        // Nobody may take the new directory for an abandoned one before it is locked.
        let making = sysfs::open_dir(&repo, "tmp")?;
        sysfs::lock(&making)?;
        remove_abandoned(&tmp)?;
        rustix::fs::mkdirat(&tmp, &name, Mode::from_raw_mode(0o700))?;
        let dir = sysfs::open_dir(&tmp, &name)?;
        sysfs::lock(&dir)?;
        drop(making);
        let objects = sysfs::open_dir(&repo, "objects")?;
        let staged = Staged::new(dir.try_clone()?, mode == StorageMode::Archive);
        Ok(Self {
            repo,
            objects,
            tmp,
            dir,
            name,
            mode,
            sync,
            reserve,
            staged: Arc::new(staged),
            alike: None,
            damaged: Mutex::default(),
            shared: None,
            check: None,
        })
    }

    /// Takes nothing of an ostree commit that does not pass `check`.
    pub fn checking(mut self, check: CommitCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// What the commit inside an image must be.
    pub(super) const fn check(&self) -> Option<&CommitCheck> {
        self.check.as_ref()
    }

    /// Keeps the repository's shared lock until the last user of this directory is gone.
    pub(super) fn holding(mut self, lock: SharedLock) -> Self {
        self.shared = Some(Mutex::new(lock));
        self
    }

    /// Spares writing big files that the images with these root directories have.
    pub(super) fn knowing(mut self, roots: BTreeSet<Digest>) -> io::Result<Self> {
        // An archive's files are compressed.
        if self.mode != StorageMode::Archive {
            self.alike = Some(Arc::new(Alike::new(self.objects.try_clone()?, roots)));
        }
        Ok(self)
    }

    /// A place for the objects of one layer.
    pub fn layer(&self) -> io::Result<LayerStage> {
        let number = self.staged.begin_layer();
        let name = number.to_string();
        sysfs::ensure_dir(&self.dir, &name)?;
        let dirs = (
            sysfs::open_dir(&self.dir, &name)?,
            self.objects.try_clone()?,
        );
        let shared = (self.staged.clone(), number);
        let alike = self.alike.clone();
        let mut stage = LayerStage::new(dirs, shared, alike, self.mode, self.reserve);
        stage.damaged = self.damaged().clone();
        Ok(stage)
    }

    /// The repository's directory.
    pub fn repo_dir(&self) -> io::Result<OwnedFd> {
        self.repo.try_clone()
    }

    /// From now on layers take this file object for missing, although it is there: its content is
    /// not what its name says. Whoever has the right content replaces it.
    pub fn replace_damaged(&self, object: Digest) {
        self.damaged().insert(object);
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the objects of finished layers durable, then visible, and moves `refs` to them last.
    ///
    /// Interrupted anywhere, the repository has whole objects only, and no ref to what is not
    /// there. `refs` are names below `refs/heads/` and the commits they shall point to.
    pub fn publish(&self, layers: Vec<LayerStage>, refs: &[(String, String)]) -> io::Result<()> {
        sysfs::remove_all(&self.dir, "refs")?;
        sysfs::ensure_dir(&self.dir, "refs")?;
        let staged_refs = sysfs::open_dir(&self.dir, "refs")?;
        for (number, (_, commit)) in refs.iter().enumerate() {
            let mut file = sysfs::create_new(&staged_refs, &number.to_string())?;
            file.write_all(format!("{commit}\n").as_bytes())?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        }
        self.sync()?;
        for layer in layers {
            self.publish_objects(layer)?;
        }
        self.sync()?;
        for (number, (name, _)) in refs.iter().enumerate() {
            self.publish_ref(&staged_refs, &number.to_string(), name)?;
        }
        // libostree's own readers notice changed refs by the time of the repository directory.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        rustix::fs::futimens(
            &self.repo,
            &Timestamps {
                last_access: now,
                last_modification: now,
            },
        )?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        match self.sync {
            true => Ok(rustix::fs::syncfs(&self.repo)?),
            false => Ok(()),
        }
    }

    fn publish_objects(&self, layer: LayerStage) -> io::Result<()> {
        let objects = layer.into_objects();
        if let Some(diff_id) = &objects.record {
            let staged = sysfs::open_dir(&self.dir, &objects.number.to_string())?;
            record::publish(&self.repo, &staged, diff_id)?;
        }
        // Commits last: one that is there with nothing below it would look damaged.
        for commits in [false, true] {
            let now = |(_, kind): &ObjectName| (*kind >= ObjectKind::Commit) == commits;
            // Once more until nothing is found: names may be left out while others go.
            while self.publish_own(&objects, now)? > 0 {}
            for object in objects.leans.iter().filter(|object| now(object)) {
                // One that is not staged any more was published with another layer.
                if let Some(layer) = self.staged.layer_of(*object)? {
                    self.publish_object(*object, layer)?;
                }
            }
        }
        if let Some(commit) = objects.detached {
            self.publish_object((commit, ObjectKind::CommitMeta), objects.number)?;
        }
        for commit in objects.plain {
            let (_, name) = self.names((commit, ObjectKind::CommitMeta));
            sysfs::remove_all(&self.objects, &name)?;
        }
        Ok(())
    }

    /// Publishes objects in a layer's own directory; gives how many there were.
    fn publish_own(
        &self,
        objects: &Objects,
        which: impl Fn(&ObjectName) -> bool,
    ) -> io::Result<usize> {
        let mut count = 0;
        let dir = sysfs::open_dir(&self.dir, &objects.number.to_string())?;
        sysfs::each(&dir, |name| match self.object(name) {
            Some(object) if which(&object) && !objects.forgotten.contains(&object) => {
                count += 1;
                self.publish_object(object, objects.number)
            }
            _ => Ok(()),
        })?;
        Ok(count)
    }

    /// The object that a file in a layer's directory is, if its name says what is in it.
    fn object(&self, name: &str) -> Option<ObjectName> {
        let (hex, extension) = name.split_once('.')?;
        let archive = self.mode == StorageMode::Archive;
        let mut kinds = ObjectKind::NAMED_BY_CONTENT.into_iter();
        let kind = kinds.find(|kind| kind.extension(archive) == extension)?;
        Some((Digest::from_hex(hex).ok()?, kind))
    }

    fn publish_object(&self, object: ObjectName, layer: LayerNumber) -> io::Result<()> {
        let (staged, name) = self.names(object);
        let staged = format!("{layer}/{staged}");
        match rustix::fs::renameat(&self.dir, &staged, &self.objects, &name) {
            Err(rustix::io::Errno::NOENT) => {
                sysfs::ensure_dir(&self.objects, &name[..2])?;
                rustix::fs::renameat(&self.dir, &staged, &self.objects, &name)?;
            }
            result => result?,
        }
        Ok(())
    }

    /// The name of an object in a layer's directory, and its path among the repository's objects.
    fn names(&self, (checksum, kind): ObjectName) -> (String, String) {
        let extension = kind.extension(self.mode == StorageMode::Archive);
        let staged = format!("{}.{extension}", checksum.hex());
        let name = format!("{}/{}", &staged[..2], &staged[2..]);
        (staged, name)
    }

    fn publish_ref(&self, staged: &OwnedFd, from: &str, name: &str) -> io::Result<()> {
        let heads = sysfs::open_dir(&self.repo, "refs")?;
        let mut dir = sysfs::open_dir(&heads, "heads")?;
        let (parents, last) = name.rsplit_once('/').unwrap_or(("", name));
        for component in parents.split('/').filter(|c| !c.is_empty()) {
            sysfs::ensure_dir(&dir, component)?;
            dir = sysfs::open_dir(&dir, component)?;
        }
        Ok(rustix::fs::renameat(staged, from, dir, last)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = sysfs::remove_all(&self.tmp, &self.name) {
            tracing::debug!("leaving staging directory {} behind: {error}", self.name);
        }
    }
}

/// No pull runs and none can begin for as long as this lives.
#[derive(Debug)]
pub struct NoPulls {
    _making: OwnedFd,
}

/// Waits for the pulls that run, keeps new ones from beginning, and removes what interrupted ones
/// left in a repository.
pub fn wait_for_pulls(repo: &OwnedFd) -> io::Result<NoPulls> {
    let tmp = sysfs::open_dir(repo, "tmp")?;
    let making = sysfs::open_dir(repo, "tmp")?;
    sysfs::lock(&making)?;
    remove_abandoned(&tmp)?;
    for name in sysfs::list(&tmp)? {
        if let (true, Ok(dir)) = (name.starts_with(PREFIX), sysfs::open_dir(&tmp, &name)) {
            sysfs::lock(&dir)?;
        }
    }
    Ok(NoPulls { _making: making })
}

/// Removes staging directories that nobody holds the lock of.
fn remove_abandoned(tmp: &OwnedFd) -> io::Result<()> {
    for name in sysfs::list(tmp)? {
        if !name.starts_with(PREFIX) || !sysfs::is_dir(tmp, &name)? {
            continue;
        }
        let Ok(dir) = sysfs::open_dir(tmp, &name) else {
            continue;
        };
        if sysfs::try_lock(&dir)? {
            tracing::info!("removing {name}, which an interrupted pull left behind");
            sysfs::remove_all(tmp, &name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
