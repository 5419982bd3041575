//! The root file system, made with its content in it. A directory and a place on the target come
//! in, a file system with the same tree goes out. ext4 and Btrfs are made without mounting
//! anything; XFS needs a loop device and is mounted where nobody else sees it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::partition::Partition;
use super::{InstallError, Target};
use crate::config::install::RootFs;
use crate::sys::bulk;
use crate::sys::mount::{self, LoopDevice, PrivateMount};
use crate::sys::tool::{Tool, ToolMissing, is_installed};

/// Features of ext4, all of them named, as the defaults of mke2fs differ: no GRUB of before 2.12
/// reads `metadata_csum_seed` and `orphan_file`. `verity` allows fs-verity on any file.
const EXT4_FEATURES: &str = "none,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,\
                             has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,\
                             extra_isize,verity";
/// Bytes that an XFS must have, by mkfs.xfs.
const XFS_LEAST: u64 = 300 << 20;
/// Writes the partition table in the end.
const PARTITIONER: &str = "sfdisk";
/// Label of the root file system.
const LABEL: &str = "root";
/// Bytes of content for which an inode is made (`-i` of mke2fs).
const BYTES_PER_INODE: u64 = 16384;
/// Bytes of an inode of ext4.
const INODE: u64 = 256;

/// A root file system to be made.
#[derive(Debug)]
pub struct Root<'a> {
    /// Its type.
    pub kind: RootFs,
    /// Its UUID.
    pub uuid: &'a str,
    /// Where it goes.
    pub place: &'a Partition,
    /// What it holds.
    pub content: &'a Path,
}

/// Refuses what cannot be made, before anything is written: content that does not fit, or a file system
/// that this host does not know.
pub fn check(target: &Target, root: &Root<'_>) -> Result<()> {
    let (content, available) = (root.content, root.place.size);
    let usage = bulk::usage(content).with_context(|| format!("Measuring {}", content.display()))?;
    let inodes = (available / BYTES_PER_INODE).max(usage.files) * INODE;
    // Journal, group tables, and some room to live.
    let needed = usage.bytes + inodes + available / 32 + (16 << 20);
    let needed = match root.kind {
        RootFs::Xfs => needed.max(XFS_LEAST),
        RootFs::Ext4 | RootFs::Btrfs => needed,
    };
    if needed > available {
        return Err(InstallError::TooSmall {
            what: format!("the root file system ({})", root.kind.name()),
            needed,
            available,
        }
        .into());
    }
    check_means(target, root)
}

/// Refuses where a program is missing that writes to the disk, or what XFS needs besides.
fn check_means(target: &Target, root: &Root<'_>) -> Result<()> {
    let programs: &[&str] = match root.kind {
        RootFs::Ext4 => &["mke2fs", "debugfs", PARTITIONER],
        RootFs::Btrfs => &["mkfs.btrfs", PARTITIONER],
        RootFs::Xfs => &["mkfs.xfs", PARTITIONER],
    };
    for &program in programs {
        if !is_installed(program) {
            let program = program.into();
            return Err(ToolMissing { program }.into());
        }
    }
    if root.kind == RootFs::Xfs {
        let place = root.place;
        let means = LoopDevice::new(target.path(), place.start, place.size).map(drop);
        let means = means.and_then(|()| mount::is_known(RootFs::Xfs.name()));
        means.map_err(no_loop)?;
    }
    Ok(())
}

/// Makes the file system with its content. `scratch` is a path for an image of it.
#[context("Making the root file system ({})", root.kind.name())]
pub fn make(target: &Target, root: &Root<'_>, scratch: &Path) -> Result<()> {
    match root.kind {
        RootFs::Ext4 => ext4(target, root),
        RootFs::Btrfs => btrfs(target, root, scratch),
        RootFs::Xfs => xfs(target, root).map_err(no_loop),
    }
}

fn ext4(target: &Target, root: &Root<'_>) -> Result<()> {
    // libostree makes deployments immutable; mke2fs does not carry the flag over.
    let deployments = immutable_dirs(root.content)?;
    let (start, size) = (root.place.start, root.place.size);
    Tool::new("mke2fs")
        .args([
            "-q", "-F", "-t", "ext4", "-L", LABEL, "-U", root.uuid, "-b", "4096",
        ])
        .args(["-I", &INODE.to_string(), "-i", &BYTES_PER_INODE.to_string()])
        .args(["-O", EXT4_FEATURES, "-d"])
        .arg(root.content)
        .args([
            "-E",
            &format!("offset={start},nodiscard,lazy_itable_init=1"),
        ])
        .arg(target.path())
        .arg(format!("{}k", size / 1024))
        .run()?;
    let place = format!("{}?offset={start}", target.path().display());
    deployments
        .iter()
        .try_for_each(|dir| make_immutable(&place, dir))
}

/// mkfs.btrfs knows no offsets: it makes an image with holes, which is copied.
fn btrfs(target: &Target, root: &Root<'_>, image: &Path) -> Result<()> {
    bulk::remove(image)?;
    File::create_new(image)?.set_len(root.place.size)?;
    Tool::new("mkfs.btrfs")
        .args(["-q", "-f", "-L", LABEL, "-U", root.uuid, "--rootdir"])
        .arg(root.content)
        .arg(image)
        .run()?;
    target.copy(image, root.place.start)?;
    bulk::remove(image)
}

/// mkfs.xfs does not take a directory, so the kernel must write the files.
fn xfs(target: &Target, root: &Root<'_>) -> Result<()> {
    let device = LoopDevice::new(target.path(), root.place.start, root.place.size)?;
    let format = Tool::new("mkfs.xfs").args(["-q", "-f", "-L", LABEL, "-m"]);
    let format = format.arg(format!("uuid={}", root.uuid));
    format.arg(device.path()).run()?;
    let mount = PrivateMount::new(device.path(), RootFs::Xfs.name(), &[])?;
    let copy = Tool::new("cp").args(["--archive", "--sparse=auto"]);
    copy.arg(root.content.join("."))
        .arg(mount.path().join("."))
        .run()?;
    for dir in immutable_dirs(root.content)? {
        let dir = dir.strip_prefix("/").unwrap_or(&dir);
        bulk::set_immutable(&mount.path().join(dir), true)?;
    }
    mount.sync()
}

fn no_loop(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<ToolMissing>().is_some() {
        return error;
    }
    let what = format!("XFS needs a loop device and a kernel that mounts XFS: {error:#}");
    InstallError::unsupported(what, "choose --filesystem ext4 or btrfs").into()
}

/// The directories below `content` that libostree made immutable: absolute paths in it.
fn immutable_dirs(content: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let deploy = content.join("ostree/deploy");
    for stateroot in deploy
        .read_dir()
        .with_context(|| deploy.display().to_string())?
    {
        let trees = stateroot?.path().join("deploy");
        for tree in trees
            .read_dir()
            .with_context(|| trees.display().to_string())?
        {
            let tree = tree?;
            if tree.file_type()?.is_dir() {
                found.push(Path::new("/").join(tree.path().strip_prefix(content)?));
            }
        }
    }
    Ok(found)
}

/// The immutable flag of an inode (EXT4_IMMUTABLE_FL).
const IMMUTABLE: u32 = 0x10;

/// Sets the immutable flag of a directory in an ext4 file system that is not mounted.
fn make_immutable(place: &str, dir: &Path) -> Result<()> {
    let dir = dir.display();
    let said = Tool::new("debugfs")
        .args(["-R", &format!("stat \"{dir}\""), place])
        .output()?;
    let said = String::from_utf8_lossy(&said);
    let flags = said.split_once("Flags: 0x").map(|(_, rest)| rest);
    let flags = flags.and_then(|rest| rest.split_whitespace().next());
    let flags = flags.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let flags = flags.with_context(|| format!("Reading the flags of {dir}"))?;
    let change = format!("set_inode_field \"{dir}\" flags {:#x}", flags | IMMUTABLE);
    Tool::new("debugfs")
        .args(["-w", "-R", &change, place])
        .run()
}
