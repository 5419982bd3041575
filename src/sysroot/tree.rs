//! What a commit's tree means for a deployment: does it boot, and how much room does it take
//! besides its hard links. A commit comes in, numbers go out; nothing is checked out.

use anyhow::{Context as _, Result};
use ostree::prelude::*;
use ostree::{gio, glib};

use super::CommitTree;
use super::error::from_glib;
use super::handle::NO_CANCEL;
use crate::boot::kargs_d::ImageKargs;
use crate::boot::title;
use crate::sys::tree::FileTree as _;

/// Facts about a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeFacts {
    /// The kernel and what boots with it; `None` where the tree cannot boot.
    pub kernel: Option<Kernel>,
    /// Bytes of the files below `usr/etc`, which each deployment copies.
    pub etc_bytes: u64,
    /// Kernel arguments that the image asks for.
    pub kargs: ImageKargs,
    /// How a boot menu names it; empty where the tree does not say.
    pub title: String,
}

/// Files that libostree copies to `boot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Kernel release: the name of its directory below `usr/lib/modules`.
    pub release: String,
    /// Object checksums of kernel and initramfs, sorted. Equal files share a place in `boot`.
    pub checksums: Vec<String>,
    /// Their size together.
    pub bytes: u64,
}

/// Files beside the kernel that libostree copies with it (ostree-sysroot-deploy.c).
const BOOT_FILES: [&str; 3] = ["vmlinuz", "initramfs.img", "devicetree"];

/// Where a tree says what it is.
const OS_RELEASE: [&str; 2] = ["usr/lib/os-release", "usr/etc/os-release"];
/// The largest such file that is read, in bytes.
const OS_RELEASE_LIMIT: u64 = 64 << 10;

pub(super) fn facts(repo: &ostree::Repo, commit: &str) -> Result<TreeFacts> {
    let (root, _) = repo.read_commit(commit, NO_CANCEL).map_err(from_glib)?;
    let etc = root.resolve_relative_path("usr/etc");
    let tree = CommitTree::open(repo, commit)?;
    Ok(TreeFacts {
        kernel: kernel(&root)?,
        etc_bytes: total_bytes(&etc)?,
        kargs: ImageKargs::read(&tree)?,
        title: os_title(&tree)?,
    })
}

/// The first `os-release` counts, in libostree's order.
fn os_title(tree: &CommitTree) -> Result<String> {
    for path in OS_RELEASE {
        if let Some(text) = tree.read(path, OS_RELEASE_LIMIT).context(path)? {
            return Ok(title::of_os_release(&text).unwrap_or_default());
        }
    }
    Ok(String::new())
}

/// libostree boots the one directory of `usr/lib/modules` that has a kernel.
fn kernel(root: &gio::File) -> Result<Option<Kernel>> {
    for (info, modules) in children(&root.resolve_relative_path("usr/lib/modules"))? {
        let files = children(&modules)?.into_iter();
        let files = files.filter(|(info, _)| {
            let name = info.name();
            BOOT_FILES.iter().any(|boot| name.as_os_str() == *boot)
        });
        let files: Vec<_> = files.collect();
        if !files
            .iter()
            .any(|(info, _)| info.name().as_os_str() == "vmlinuz")
        {
            continue;
        }
        let bytes = files.iter().map(|(info, _)| size(info)).sum();
        let mut checksums = files
            .iter()
            .map(|(_, file)| checksum(file))
            .collect::<Result<Vec<_>>>()?;
        checksums.sort();
        let release = info.name().to_string_lossy().into_owned();
        return Ok(Some(Kernel {
            release,
            checksums,
            bytes,
        }));
    }
    Ok(None)
}

fn checksum(file: &gio::File) -> Result<String> {
    let file = file.downcast_ref::<ostree::RepoFile>();
    Ok(file
        .context("a file of a commit has no checksum")?
        .checksum()
        .into())
}

fn total_bytes(directory: &gio::File) -> Result<u64> {
    let mut total = 0;
    for (info, file) in children(directory)? {
        total += match info.file_type() {
            gio::FileType::Directory => total_bytes(&file)?,
            _ => size(&info),
        };
    }
    Ok(total)
}

fn size(info: &gio::FileInfo) -> u64 {
    u64::try_from(info.size()).unwrap_or_default()
}

/// The entries of a directory of the commit; none where there is no such directory.
pub(super) fn children(directory: &gio::File) -> Result<Vec<(gio::FileInfo, gio::File)>> {
    let flags = gio::FileQueryInfoFlags::NOFOLLOW_SYMLINKS;
    if directory.query_file_type(flags, NO_CANCEL) != gio::FileType::Directory {
        return Ok(Vec::new());
    }
    let attributes =
        "standard::name,standard::type,standard::size,standard::symlink-target,unix::*";
    let found = directory.enumerate_children(attributes, flags, NO_CANCEL);
    let entries = found.map_err(from_glib)?;
    let entry = |info: Result<gio::FileInfo, glib::Error>| {
        let info = info.map_err(from_glib)?;
        let file = directory.child(info.name());
        Ok((info, file))
    };
    entries.map(entry).collect()
}
