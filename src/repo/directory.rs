//! The files of a directory as objects of a repository. A directory comes in, a tree of objects goes out. What
//! a commit cannot hold (sockets, pipes, devices) is left out with a warning; what a running system has in its
//! place is not looked at. Never changes the directory, follows no link, and runs as whoever may read it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use ostree::gio;
use ostree::gio::prelude::*;
use ostree::glib::{Variant, VariantTy};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::gvariant::{self, Xattrs};
use super::loose;
use super::selinux;
use crate::sys::fs as sysfs;

const NONE: Option<&gio::Cancellable> = None;
/// Directories whose content belongs to a running system.
const EMPTIED: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "sysroot"];
/// What a link takes the place of.
const OSTREE: &str = "ostree";
/// Deepest directory that is followed.
const MAX_DEPTH: usize = 1000;
/// Bytes of a file that are read at once.
const BUFFER: usize = 128 << 10;
/// Attributes that are of the place where the directory lies, not of the file system in it.
const PLACE: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.ostreemeta"];

/// Writes objects.
pub(super) struct Writer<'a> {
    repo: &'a ostree::Repo,
    /// Labels all, where the tree has a policy.
    policy: Option<ostree::SePolicy>,
    /// Files with several names: device, inode and label.
    known: HashMap<(u64, u64, String), String>,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(repo: &'a ostree::Repo, policy: Option<ostree::SePolicy>) -> Self {
        Self {
            repo,
            policy,
            known: HashMap::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Writes the objects of a directory and of all below it.
    pub(super) fn write(&mut self, root: &OwnedFd, tree: &ostree::MutableTree) -> Result<()> {
        self.directory(root, "", tree, 0)
    }

    fn directory(
        &mut self,
        dir: &OwnedFd,
        path: &str,
        tree: &ostree::MutableTree,
        depth: usize,
    ) -> Result<()> {
        let context = || format!("Reading the directory /{path}");
        ensure!(
            depth <= MAX_DEPTH,
            "the directories are nested more than {MAX_DEPTH} deep"
        );
        let stat = rustix::fs::fstat(dir).with_context(context)?;
        let xattrs = attributes(dir, ".").with_context(context)?;
        let meta = self.dir_meta(path, &stat, xattrs)?;
        tree.set_metadata_checksum(&meta);
        if EMPTIED.contains(&path) {
            return Ok(());
        }
        let mut names = sysfs::list(dir).with_context(context)?;
        names.sort_unstable();
        for name in names {
            let path = match path {
                "" => name.clone(),
                above => format!("{above}/{name}"),
            };
            self.entry(dir, &name, &path, tree, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &str,
        path: &str,
        tree: &ostree::MutableTree,
        depth: usize,
    ) -> Result<()> {
        let context = || format!("Reading /{path}");
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.with_context(context)?;
        match FileType::from_raw_mode(stat.st_mode) {
            // A repository there is that of a host.
            FileType::Directory if path == OSTREE => Ok(()),
            FileType::Directory => {
                let below = sysfs::open_dir(dir, name).with_context(context)?;
                self.directory(&below, path, &tree.ensure_dir(name)?, depth + 1)
            }
            FileType::RegularFile | FileType::Symlink => {
                let object = self.file(dir, name, path, &stat).with_context(context)?;
                Ok(tree.replace_file(name, &object)?)
            }
            _ => {
                tracing::warn!("/{path} is no file that an image can hold: it is left out");
                Ok(())
            }
        }
    }

    /// A regular file or a symbolic link.
    fn file(&mut self, dir: &OwnedFd, name: &str, path: &str, stat: &Stat) -> Result<String> {
        let label = self.label(path, stat.st_mode)?;
        let key = (stat.st_dev, stat.st_ino, label.clone());
        if let Some(object) = self.known.get(&key) {
            return Ok(object.clone());
        }
        let mut xattrs = attributes(dir, name)?;
        relabel(&mut xattrs, &label);
        let xattrs = xattrs_variant(&xattrs);
        let object = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.link(dir, name, stat, &xattrs)?,
            _ => self.content(dir, name, stat, &xattrs)?,
        };
        if stat.st_nlink > 1 {
            self.known.insert(key, object.clone());
        }
        Ok(object)
    }

    fn link(&self, dir: &OwnedFd, name: &str, stat: &Stat, xattrs: &Variant) -> Result<String> {
        let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
        let Ok(target) = target.to_str() else {
            bail!("it is a symbolic link to a name that is not UTF-8, which a commit cannot hold");
        };
        let ids = (stat.st_uid, stat.st_gid);
        let object = self
            .repo
            .write_symlink(None, ids.0, ids.1, Some(xattrs), target, NONE)?;
        Ok(object.into())
    }

    fn content(
        &mut self,
        dir: &OwnedFd,
        name: &str,
        stat: &Stat,
        xattrs: &Variant,
    ) -> Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let size = u64::try_from(stat.st_size)?;
        let (ids, mode) = ((stat.st_uid, stat.st_gid), stat.st_mode);
        let writer = self
            .repo
            .write_regfile(None, ids.0, ids.1, mode, size, Some(xattrs))?;
        let (mut file, mut writer) = (File::from(file).take(size), writer.into_write());
        let mut total = 0;
        loop {
            let length = file.read(&mut self.buffer)?;
            if length == 0 {
                break;
            }
            writer.write_all(&self.buffer[..length])?;
            total += length as u64;
        }
        ensure!(total == size, "it became shorter while it was read");
        Ok(writer.into_output_stream().finish(NONE)?.into())
    }

    fn dir_meta(&self, path: &str, stat: &Stat, mut xattrs: Xattrs) -> Result<String> {
        relabel(&mut xattrs, &self.label(path, stat.st_mode)?);
        let data = gvariant::metadata(stat.st_uid, stat.st_gid, stat.st_mode, &xattrs);
        let meta = variant(data, "(uuua(ayay))");
        let kind = ostree::ObjectType::DirMeta;
        Ok(self
            .repo
            .write_metadata(kind, None, &meta, NONE)?
            .to_string())
    }

    /// What the policy says of a path, wherever `/etc` is; nothing where there is none.
    fn label(&self, path: &str, mode: u32) -> Result<String> {
        let Some(policy) = &self.policy else {
            return Ok(String::new());
        };
        let path = match path.strip_prefix("usr/etc") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/etc{rest}"),
            _ => format!("/{path}"),
        };
        let label = policy.label(&path, mode, NONE);
        let label = label.with_context(|| format!("Looking up the SELinux label of {path}"))?;
        Ok(label.map(Into::into).unwrap_or_default())
    }
}

/// Extended attributes of what is in a directory, without those of this machine.
fn attributes(dir: &OwnedFd, name: &str) -> Result<Xattrs> {
    let mut xattrs = loose::xattrs(&format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
    xattrs.retain(|(name, _)| {
        name != selinux::XATTR && !PLACE.iter().any(|start| name.starts_with(start))
    });
    Ok(xattrs)
}

fn relabel(xattrs: &mut Xattrs, label: &str) {
    if !label.is_empty() {
        selinux::set_label(xattrs, label);
    }
}

fn xattrs_variant(xattrs: &Xattrs) -> Variant {
    let mut data = Vec::new();
    gvariant::push_xattrs(&mut data, xattrs);
    variant(data, "a(ayay)")
}

fn variant(data: Vec<u8>, kind: &str) -> Variant {
    // The types above are literals, and so are types.
    let kind = VariantTy::new(kind).unwrap_or(VariantTy::BYTE_STRING);
    Variant::from_data_with_type(data, kind)
}
