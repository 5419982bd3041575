//! SELinux labels from the policy inside a tree. A tree comes in; its files and directories get
//! the labels that its own policy gives them, as new objects where the label changes. A tree
//! without a policy is left as it is.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use ostree::gio;

use super::gvariant::{self, Xattrs};
use super::layer_stage::{LayerStage, Whole};
use super::object::ObjectKind;
use super::store::Repo;
use super::tree::{Dir, Node};
use crate::image::Digest;
use crate::sys::fs as sysfs;

const XATTR: &[u8] = b"security.selinux";
/// Largest file of a policy that is read, bytes.
const MAX_POLICY_FILE: u64 = 256 << 20;
/// Largest file that is given a new label, bytes: it is held in memory meanwhile.
const MAX_RELABEL: u64 = 4 << 30;

/// Labels trees by one policy. What was relabelled once is known afterwards.
#[derive(Debug)]
pub struct Labeler<'a> {
    repo: &'a Repo,
    policy: ostree::SePolicy,
    files: HashMap<(Digest, String), Digest>,
    dirs: HashMap<(Digest, String), Digest>,
}

impl<'a> Labeler<'a> {
    /// Reads the policy of a tree, below `usr/etc/selinux`; `None` when it has none.
    pub fn of_tree(repo: &'a Repo, root: &mut Dir) -> Result<Option<Self>> {
        if root.find_dir(&["usr", "etc", "selinux"], repo)?.is_none() {
            return Ok(None);
        }
        let scratch = Scratch::new(repo)?;
        scratch.copy_policy(root)?;
        let policy = ostree::SePolicy::new_at(scratch.dir.as_raw_fd(), gio::Cancellable::NONE)
            .context("Loading the image's SELinux policy")?;
        let active = policy.name().is_some_and(|name| !name.is_empty());
        let (files, dirs) = (HashMap::new(), HashMap::new());
        Ok(active.then_some(Self {
            repo,
            policy,
            files,
            dirs,
        }))
    }

    /// Gives every file and directory of a tree its label; false when nothing had to change.
    pub fn relabel(&mut self, root: &mut Dir, stage: &mut LayerStage) -> Result<bool> {
        let repo = self.repo;
        let meta = self.dir("/", root.meta, stage)?;
        let mut changed = meta != root.meta;
        root.meta = meta;
        root.walk(repo, &mut |path, node| {
            let (old, new) = match node {
                Node::File(file) => {
                    let old = *file;
                    *file = self.file(path, old, stage)?;
                    (old, *file)
                }
                Node::Dir(dir) => {
                    let old = dir.meta;
                    dir.meta = self.dir(path, old, stage)?;
                    (old, dir.meta)
                }
            };
            changed |= old != new;
            Ok(())
        })?;
        Ok(changed)
    }

    fn label(&self, path: &str, mode: u32) -> Result<String> {
        let label = self.policy.label(path, mode, gio::Cancellable::NONE);
        let label = label.with_context(|| format!("Looking up the SELinux label of {path}"))?;
        Ok(label.map(Into::into).unwrap_or_default())
    }

    fn file(&mut self, path: &str, object: Digest, stage: &mut LayerStage) -> Result<Digest> {
        let (mut meta, size) = self.repo.file_meta(object)?;
        let label = self.label(path, meta.mode)?;
        if label.is_empty() || has_label(&meta.xattrs, &label) {
            return Ok(object);
        }
        if let Some(known) = self.files.get(&(object, label.clone())) {
            return Ok(*known);
        }
        set_label(&mut meta.xattrs, &label);
        let content = self.repo.file_content(object, MAX_RELABEL)?;
        let written = stage.file(&meta, size, None, &mut Whole(Some(&content)))?;
        self.files.insert((object, label), written);
        Ok(written)
    }

    fn dir(&mut self, path: &str, object: Digest, stage: &mut LayerStage) -> Result<Digest> {
        let mut meta = self.repo.dirmeta(object)?;
        let label = self.label(path, meta.mode)?;
        if label.is_empty() || has_label(&meta.xattrs, &label) {
            return Ok(object);
        }
        if let Some(known) = self.dirs.get(&(object, label.clone())) {
            return Ok(*known);
        }
        set_label(&mut meta.xattrs, &label);
        let data = gvariant::metadata(meta.uid, meta.gid, meta.mode, &meta.xattrs);
        let written = stage.metadata(ObjectKind::DirMeta, &data)?;
        self.dirs.insert((object, label), written);
        Ok(written)
    }
}

/// Labels end with a NUL, as the kernel keeps them.
fn has_label(xattrs: &Xattrs, label: &str) -> bool {
    let value = xattrs
        .iter()
        .find(|(name, _)| name == XATTR)
        .map(|(_, value)| value);
    value.is_some_and(|v| v.strip_suffix(b"\0").unwrap_or(v) == label.as_bytes())
}

fn set_label(xattrs: &mut Xattrs, label: &str) {
    xattrs.retain(|(name, _)| name != XATTR);
    let mut value = label.as_bytes().to_vec();
    value.push(0);
    xattrs.push((XATTR.into(), value));
    xattrs.sort();
}

/// A directory in the repository's `tmp` that goes away with this value.
struct Scratch<'a> {
    repo: &'a Repo,
    tmp: std::os::fd::OwnedFd,
    name: String,
    dir: std::os::fd::OwnedFd,
}

impl<'a> Scratch<'a> {
    fn new(repo: &'a Repo) -> Result<Self> {
        let tmp = sysfs::open_dir(repo.ostree().dfd_borrow(), "tmp")?;
        let name = format!("sepolicy-{}", rustix::process::getpid().as_raw_nonzero());
        sysfs::remove_all(&tmp, &name)?;
        sysfs::ensure_dir(&tmp, &name)?;
        let dir = sysfs::open_dir(&tmp, &name)?;
        Ok(Self {
            repo,
            tmp,
            name,
            dir,
        })
    }

    /// Writes `usr/etc/selinux` of the tree out as plain files.
    fn copy_policy(&self, root: &mut Dir) -> Result<()> {
        let mut dir = self.dir.try_clone()?;
        for name in ["usr", "etc", "selinux"] {
            sysfs::ensure_dir(&dir, name)?;
            dir = sysfs::open_dir(&dir, name)?;
        }
        let Some(entries) = root.find_dir(&["usr", "etc", "selinux"], self.repo)? else {
            return Ok(());
        };
        for (name, node) in entries {
            self.copy(&dir, name, node)?;
        }
        Ok(())
    }

    fn copy(&self, at: &std::os::fd::OwnedFd, name: &str, node: &mut Node) -> Result<()> {
        match node {
            Node::File(object) => {
                let (meta, _) = self.repo.file_meta(*object)?;
                if meta.is_symlink() {
                    rustix::fs::symlinkat(&meta.target[..], at, name)?;
                } else {
                    let content = self.repo.file_content(*object, MAX_POLICY_FILE)?;
                    sysfs::create_new(at, name)?.write_all(&content)?;
                }
            }
            Node::Dir(dir) => {
                sysfs::ensure_dir(at, name)?;
                let below = sysfs::open_dir(at, name)?;
                for (name, node) in dir.entries(self.repo)? {
                    self.copy(&below, name, node)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = sysfs::remove_all(&self.tmp, &self.name) {
            tracing::debug!("leaving {} behind: {error}", self.name);
        }
    }
}
