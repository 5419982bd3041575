//! Mounts that nobody else sees. A device comes in; a directory that lives as long as its guard
//! goes out. The kernel takes the mount away with the guard, also when the process is killed.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::fs::sync_filesystem;
use super::tool::Tool;

/// Fails unless the kernel lets this process mount file systems of a type.
pub fn is_known(kind: &str) -> Result<()> {
    let opened = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map(drop);
    opened.with_context(|| format!("Asking the kernel for {kind}"))
}

/// A file system that is mounted nowhere, for this process and the programs that it runs.
#[derive(Debug)]
pub struct PrivateMount {
    path: PathBuf,
    /// Held for the mount.
    _mount: OwnedFd,
}

impl PrivateMount {
    /// Mounts a device whose file system has the type `kind`, writable, with these options of that type.
    /// Nothing on it can be executed.
    pub fn new(device: &Path, kind: &str, options: &[(&str, &str)]) -> Result<Self> {
        let what = || format!("Mounting {} ({kind})", device.display());
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).with_context(what)?;
        let source = device.as_os_str();
        fsconfig_set_string(&context, "source", source).with_context(what)?;
        for (key, value) in options {
            fsconfig_set_string(&context, *key, *value).with_context(what)?;
        }
        fsconfig_create(&context).with_context(what)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        let mount = mount.with_context(what)?;
        // By number and not `self`: programs that are run here must find it, too.
        let path = format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd());
        let path = path.into();
        Ok(Self {
            path,
            _mount: mount,
        })
    }

    /// Its root directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings everything that was written to the device.
    pub fn sync(&self) -> Result<()> {
        // The handle itself is only good for paths.
        sync_filesystem(&self.path.join(".")).context("Writing a file system to disk")
    }
}

/// A part of a file or disk as a device of its own. Dropping it gives it back, as soon as nothing
/// is mounted from it any more.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Makes a device of `size` bytes from `start` on.
    pub fn new(file: &Path, start: u64, size: u64) -> Result<Self> {
        let tool = Tool::new("losetup").args(["--find", "--show"]);
        let tool = tool.args([
            "--offset",
            &start.to_string(),
            "--sizelimit",
            &size.to_string(),
        ]);
        let name = tool.arg(file).output()?;
        let name = String::from_utf8(name).context("Reading the name of the loop device")?;
        let path = name.trim().into();
        Ok(Self { path })
    }

    /// Makes a device of a whole disk image, with its partitions; `None` where the kernel knows no
    /// partitions of loop devices.
    pub fn of_disk(file: &Path) -> Result<Option<Self>> {
        let tool = Tool::new("losetup").args(["--find", "--show", "--partscan"]);
        let name = tool.arg(file).output()?;
        let name = String::from_utf8(name).context("Reading the name of the loop device")?;
        let device = Self {
            path: name.trim().into(),
        };
        Ok(device.partition(1).exists().then_some(device))
    }

    /// Its device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node of one of its partitions.
    pub fn partition(&self, number: u32) -> PathBuf {
        partition_node(&self.path, number)
    }
}

/// The node of a partition: a number, behind a `p` where the disk's name ends in a digit.
pub fn partition_node(disk: &Path, number: u32) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    if name
        .as_encoded_bytes()
        .last()
        .is_some_and(u8::is_ascii_digit)
    {
        name.push("p");
    }
    name.push(number.to_string());
    name.into()
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nobody to tell, and nothing is lost: it is a second name for bytes that are there.
        if let Err(error) = Tool::new("losetup").arg("--detach").arg(&self.path).run() {
            tracing::warn!("{} is left: {error:#}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_after_their_disk() {
        let node = |disk: &str| partition_node(Path::new(disk), 3).display().to_string();
        assert_eq!(node("/dev/sda"), "/dev/sda3");
        assert_eq!(node("/dev/nvme0n1"), "/dev/nvme0n1p3");
        assert_eq!(node("/dev/loop0"), "/dev/loop0p3");
    }
}
