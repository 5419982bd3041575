//! The root file system of a disk, mounted on the host for other tools to work on: a qcow2 file in, a
//! mounted copy, and the copy back in its place. Needs root and loop devices. Unmounts when dropped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::check::{self, Partition};
use crate::images::REPOSITORY;
use crate::place;
use crate::qemu::Machine;
use crate::registry::Registry;
use crate::tool;

/// A mounted copy of a disk.
#[derive(Debug)]
pub struct Mounted {
    directory: TempDir,
    mounted: bool,
}

impl Mounted {
    /// Copies the disk and mounts its root.
    pub fn new(disk: &Path) -> Result<Self> {
        let parent = disk.parent().context("A disk has a path")?;
        let directory = TempDir::with_prefix_in("mounted-", parent)?;
        let mut mounted = Self {
            directory,
            mounted: false,
        };
        let (raw, root) = (mounted.raw(), mounted.root());
        fs::create_dir(&root)?;
        let disk = disk.display().to_string();
        tool::run("qemu-img", &["convert", "-O", "raw", &disk, &raw])?;
        let mut partitions = check::partitions(&raw)?.into_iter();
        let Partition { start, length, .. } = partitions
            .find(|part| !part.esp)
            .context("The disk has no root")?;
        let options = format!("loop,offset={start},sizelimit={length}");
        let root = root.display().to_string();
        tool::run("mount", &["-o", &options, &raw, &root])?;
        mounted.mounted = true;
        Ok(mounted)
    }

    fn raw(&self) -> String {
        self.directory.path().join("disk.raw").display().to_string()
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The kernel arguments of the only boot entry, without the one that names its deployment.
    pub fn kernel_arguments(&self) -> Result<Vec<String>> {
        let entries = self.root().join("boot/loader/entries");
        let entry = fs::read_dir(entries)?
            .next()
            .context("There is no boot entry")??;
        let text = fs::read_to_string(entry.path())?;
        let options = text.lines().find_map(|line| line.strip_prefix("options "));
        let words = options.unwrap_or_default().split_whitespace();
        Ok(words
            .filter(|w| !w.starts_with("ostree="))
            .map(str::to_owned)
            .collect())
    }

    /// Runs `ostree admin` on the disk.
    pub fn ostree(&self, arguments: &[&str]) -> Result<()> {
        let sysroot = format!("--sysroot={}", self.root().display());
        tool::run(
            "ostree",
            &[&["admin", arguments[0], &sysroot], &arguments[1..]].concat(),
        )?;
        Ok(())
    }

    /// Fails unless every object of the repository is whole.
    pub fn fsck(&self) -> Result<()> {
        let repo = format!("--repo={}", self.root().join("ostree/repo").display());
        tool::run("ostree", &["fsck", "--quiet", &repo])?;
        Ok(())
    }

    /// Lets the reference peer deploy an image of the registry that the host will know under another
    /// name.
    pub fn peer_deploy(
        &self,
        registry: &Registry,
        tag: &str,
        followed: &str,
        arguments: &[String],
    ) -> Result<()> {
        let mut peer = std::process::Command::new(peer());
        peer.args(["container", "image", "deploy", "--sysroot"])
            .arg(self.root());
        peer.args([
            "--stateroot",
            "default",
            "--insecure-skip-tls-verification",
            "--imgref",
        ]);
        let image = registry.reference(&format!("{REPOSITORY}:{tag}"));
        peer.arg(format!("ostree-unverified-registry:{image}"));
        peer.arg("--target-imgref")
            .arg(format!("ostree-unverified-registry:{followed}"));
        for argument in arguments {
            peer.arg("--karg").arg(argument);
        }
        tool::finish(peer)?;
        Ok(())
    }

    /// Unmounts the copy and puts it in the place of the machine's disk.
    pub fn write_back(mut self, machine: &mut Machine) -> Result<()> {
        self.unmount()?;
        let disk = machine.disk.display().to_string();
        tool::run("qemu-img", &["convert", "-O", "qcow2", &self.raw(), &disk])?;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        self.mounted = false;
        let root = self.root().display().to_string();
        tool::run("umount", &[&root])?;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            // What fails here leaves a mount in the scenario's directory, where it is seen.
            let _unmounted = self.unmount();
        }
    }
}

/// The reference peer, which hack/boot-test builds for the scenarios that need it.
fn peer() -> PathBuf {
    let given = std::env::var_os("PEER").map(PathBuf::from);
    given.unwrap_or_else(|| place::checkout().join("target/peer/debug/bowline-peer"))
}
