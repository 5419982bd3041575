//! SELinux labels from the policy inside a tree. A tree comes in; its files and directories get
//! the labels that its own policy gives them, as new objects where the label changes. A tree
//! without a policy is left as it is.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use ostree::gio;

use super::gvariant::{self, Xattrs};
use super::layer_stage::LayerStage;
use super::object::{FileMeta, ObjectKind};
use super::staging::StorageMode;
use super::store::Repo;
use super::tree::{Dir, Node};
use crate::image::Digest;
use crate::sys::fs as sysfs;

const XATTR: &[u8] = b"security.selinux";
/// Largest file of a policy that is read, bytes.
const MAX_POLICY_FILE: u64 = 256 << 20;
/// Deepest nesting of a policy's directories that is read.
const MAX_POLICY_DEPTH: usize = 16;

/// Labels trees by one policy. What was relabelled once is known afterwards.
#[derive(Debug)]
pub struct Labeler<'a> {
    repo: &'a Repo,
    policy: ostree::SePolicy,
    files: HashMap<(Digest, String), Digest>,
    dirs: HashMap<(Digest, String), Digest>,
    doubt: bool,
}

impl<'a> Labeler<'a> {
    /// Reads the policy of a tree, below `usr/etc/selinux`; `None` when it has none.
    pub fn of_tree(repo: &'a Repo, root: &mut Dir, stage: &LayerStage) -> Result<Option<Self>> {
        if root.find_dir(&["usr", "etc", "selinux"], repo)?.is_none() {
            return Ok(None);
        }
        let scratch = stage.scratch().context("Making a place for the policy")?;
        copy_policy(repo, root, scratch.try_clone()?)?;
        let policy = ostree::SePolicy::new_at(scratch.as_raw_fd(), gio::Cancellable::NONE)
            .context("Loading the image's SELinux policy")?;
        let active = policy.name().is_some_and(|name| !name.is_empty());
        let (files, dirs) = (HashMap::new(), HashMap::new());
        Ok(active.then_some(Self {
            repo,
            policy,
            files,
            dirs,
            doubt: false,
        }))
    }

    /// [`Self::relabel`] for an ordinary layer, whose files may never have been given a label.
    pub fn relabel_layer(&mut self, root: &mut Dir, stage: &mut LayerStage) -> Result<bool> {
        self.doubt = true;
        let changed = self.relabel(root, stage);
        self.doubt = false;
        changed
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
        if label.is_empty() {
            return Ok(object);
        }
        if let Some(known) = self.files.get(&(object, label.clone())) {
            return Ok(*known);
        }
        if has_label(&meta.xattrs, &label) && self.is_own_label(&meta, object, stage)? {
            return Ok(object);
        }
        set_label(&mut meta.xattrs, &label);
        let mut content = self.repo.open_content(object)?;
        let written = stage.file(&meta, size, None, &mut content)?;
        self.files.insert((object, label), written);
        Ok(written)
    }

    /// Whether the object's name covers the label that it has on disk. A kernel with SELinux gives
    /// one to every file of a bare repository, also where the object has none.
    fn is_own_label(&self, meta: &FileMeta, object: Digest, stage: &LayerStage) -> Result<bool> {
        if !self.doubt || self.repo.mode() != StorageMode::Bare {
            return Ok(true);
        }
        let mut content = self.repo.open_content(object)?;
        Ok(stage.hash_only(meta, None, &mut content)? == object)
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

/// Writes `usr/etc/selinux` of a tree out as plain files.
fn copy_policy(repo: &Repo, root: &mut Dir, to: OwnedFd) -> Result<()> {
    let path = ["usr", "etc", "selinux"];
    let mut dir = to;
    for name in path {
        sysfs::ensure_dir(&dir, name)?;
        dir = sysfs::open_dir(&dir, name)?;
    }
    for (name, node) in root.find_dir(&path, repo)?.into_iter().flatten() {
        copy(repo, &dir, name, node, 0)?;
    }
    Ok(())
}

fn copy(repo: &Repo, at: &OwnedFd, name: &str, node: &mut Node, depth: usize) -> Result<()> {
    match node {
        Node::File(object) => {
            let (meta, _) = repo.file_meta(*object)?;
            // libostree would follow a link out of the tree.
            if !meta.is_symlink() {
                let content = repo.file_content(*object, MAX_POLICY_FILE)?;
                sysfs::create_new(at, name)?.write_all(&content)?;
            } else if !meta.target.contains(&b'/') {
                rustix::fs::symlinkat(&meta.target[..], at, name)?;
            }
        }
        Node::Dir(_) if depth > MAX_POLICY_DEPTH => {}
        Node::Dir(dir) => {
            sysfs::ensure_dir(at, name)?;
            let below = sysfs::open_dir(at, name)?;
            for (name, node) in dir.entries(repo)? {
                copy(repo, &below, name, node, depth + 1)?;
            }
        }
    }
    Ok(())
}
