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
use super::union::{Found, Union};
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// The attribute with a file's label.
pub(super) const XATTR: &[u8] = b"security.selinux";
/// Largest file of a policy that is read, bytes.
const MAX_POLICY_FILE: u64 = 256 << 20;
/// Deepest nesting of a policy's directories that is read.
const MAX_POLICY_DEPTH: usize = 16;

/// Most objects that are remembered with what became of them: files that a layer has many times.
const MAX_KNOWN: usize = 4 << 10;
/// Where the policy is.
const POLICY: [&str; 3] = ["usr", "etc", "selinux"];

type Known = HashMap<(Digest, String), Digest>;

/// Labels trees by one policy.
#[derive(Debug)]
pub struct Labeler<'a> {
    repo: &'a Repo,
    policy: ostree::SePolicy,
    files: Known,
    dirs: Known,
    /// Whether labels on disk may be none of the objects'.
    pub doubt: bool,
}

impl<'a> Labeler<'a> {
    /// Reads the policy of a tree, below `usr/etc/selinux`; `None` when it has none.
    pub fn of_tree(repo: &'a Repo, root: &Union, stage: &LayerStage) -> Result<Option<Self>> {
        let Some(policy) = root.find(&POLICY, repo)? else {
            return Ok(None);
        };
        let scratch = stage.scratch().context("Making a place for the policy")?;
        copy_policy(repo, &policy, scratch.try_clone()?)?;
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

    fn label(&self, path: &str, mode: u32) -> Result<String> {
        let label = self.policy.label(path, mode, gio::Cancellable::NONE);
        let label = label.with_context(|| format!("Looking up the SELinux label of {path}"))?;
        Ok(label.map(Into::into).unwrap_or_default())
    }

    /// The file object with the label of a path.
    pub fn file(&mut self, path: &str, object: Digest, stage: &mut LayerStage) -> Result<Digest> {
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
        // The new name will vouch for what is read now.
        let mut content = self.repo.sound_content(object, &meta)?;
        set_label(&mut meta.xattrs, &label);
        let written = stage.file(&meta, size, None, &mut content)?;
        content.finish()?;
        remember(&mut self.files, (object, label), written);
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

    /// The dirmeta object with the label of a path.
    pub fn dir(&mut self, path: &str, object: Digest, stage: &mut LayerStage) -> Result<Digest> {
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
        remember(&mut self.dirs, (object, label), written);
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

/// Puts a label among the attributes, in place of any other.
pub(super) fn set_label(xattrs: &mut Xattrs, label: &str) {
    xattrs.retain(|(name, _)| name != XATTR);
    let mut value = label.as_bytes().to_vec();
    value.push(0);
    xattrs.push((XATTR.into(), value));
    xattrs.sort();
}

/// Remembers what became of an object, and few others.
fn remember(known: &mut Known, key: (Digest, String), written: Digest) {
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(key, written);
}

/// Writes the policy of a tree out as plain files, where libostree looks for it.
fn copy_policy(repo: &Repo, policy: &Union, to: OwnedFd) -> Result<()> {
    let mut dir = to;
    for name in POLICY {
        sysfs::ensure_dir(&dir, name)?;
        dir = sysfs::open_dir(&dir, name)?;
    }
    copy(repo, &dir, policy, 0)
}

fn copy(repo: &Repo, at: &OwnedFd, dir: &Union, depth: usize) -> Result<()> {
    for (name, found) in dir.entries(repo)? {
        match found {
            Found::File(object) => copy_file(repo, at, &name, object)?,
            Found::Dir(_) if depth > MAX_POLICY_DEPTH => {}
            Found::Dir(dir) => {
                sysfs::ensure_dir(at, &name)?;
                copy(repo, &sysfs::open_dir(at, &name)?, &dir, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn copy_file(repo: &Repo, at: &OwnedFd, name: &str, object: Digest) -> Result<()> {
    let (meta, _) = repo.file_meta(object)?;
    // libostree would follow a link out of the tree.
    if !meta.is_symlink() {
        let content = repo.file_content(object, MAX_POLICY_FILE)?;
        sysfs::create_new(at, name)?.write_all(&content)?;
    } else if !meta.target.contains(&b'/') {
        rustix::fs::symlinkat(&meta.target[..], at, name)?;
    }
    Ok(())
}
