//! bootupd on a disk that was just written: its partitions are needed as devices, and its root
//! mounted where nobody else sees it. Asked before the disk is touched whether that can be had.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;

use super::bootupd::Bootupd;
use super::{InstallError, Scratch, Target};
use crate::config::install::RootFs;
use crate::sys::mount::{LoopDevice, partition_node};
use crate::sys::namespace::MountNamespace;
use crate::sys::tool::Tool;

/// Refuses a plain file for an image with bootupd where the kernel shows no partitions of files.
pub fn check(target: &Target, scratch: &Scratch) -> Result<()> {
    if target.is_block() {
        return Ok(());
    }
    let trial = scratch.join("trial.img");
    File::create(&trial)?.set_len(4 << 20)?;
    let table = Tool::new("sfdisk")
        .args(["--quiet", "--no-tell-kernel"])
        .arg(&trial);
    table.input("label: gpt\nsize=1M\n").run()?;
    match LoopDevice::of_disk(&trial) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(no_partitions("").into()),
        Err(error) => Err(no_partitions(&format!(": {error:#}")).into()),
    }
}

fn no_partitions(why: &str) -> InstallError {
    InstallError::unsupported(
        format!(
            "the image installs its boot loader with bootupd, which needs a disk with partitions; \
             this kernel shows none for a plain file{why}"
        ),
        "install to a disk, or choose --bootloader systemd-boot or none",
    )
}

/// A written disk whose boot loader is missing.
#[derive(Debug)]
pub struct OnDisk {
    /// Number of the root partition.
    pub number: u32,
    /// Type of its file system.
    pub root_fs: RootFs,
    /// Install for all firmware, and tell this machine's nothing.
    pub generic: bool,
    /// Write no UUID of the file system into its configuration.
    pub skip_uuid: bool,
}

impl OnDisk {
    /// Lets the image's bootupd install the boot loader; `tree` is the deployed tree in the scratch
    /// sysroot, whose copy on the disk is used.
    pub fn install(&self, target: &Target, scratch: &Scratch, tree: &Path) -> Result<()> {
        let device = match target.is_block() {
            true => None,
            false => Some(LoopDevice::of_disk(target.path())?.ok_or_else(|| no_partitions(""))?),
        };
        let disk = device.as_ref().map_or(target.path(), LoopDevice::path);
        let root = scratch.join("root");
        fs::create_dir(&root)?;
        let namespace = MountNamespace::new()?;
        let node = partition_node(disk, self.number);
        namespace.mount(self.root_fs.name(), &node, &root)?;
        let bootupd = Bootupd {
            tree: &root.join(tree.strip_prefix(scratch.join("sysroot"))?),
            root: &root,
            disk,
            generic: self.generic,
            skip_uuid: self.skip_uuid,
        };
        bootupd.install(&namespace)?;
        namespace
            .tool("umount")
            .arg("--recursive")
            .arg(&root)
            .run()?;
        target.sync()
    }
}
