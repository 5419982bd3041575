//! Disks with an ordinary system, for Bowline to take over: the tree of an image in, a machine out whose
//! root is one read-write file system without deployments. QEMU starts its kernel: which boot loader
//! such a system has is no matter. Needs root and buildah.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::disk::{self, Flavour};
use crate::images::{REPOSITORY, buildah};
use crate::qemu::{Firmware, Kernel, Machine};
use crate::registry::Registry;
use crate::story::Story;
use crate::tool;

/// Room for the system, and for a deployment beside it.
const DISK_BYTES: u64 = 4 << 30;
const MIB: u64 = 1 << 20;
/// Where the partitions are: one for GRUB or the firmware, one for the system.
const FIRST_MIB: u64 = 1;
const ROOT_MIB: u64 = 130;
/// What only a deployment has.
const OF_DEPLOYMENTS: [&str; 2] = ["ostree", "sysroot"];

/// A machine with the tree of an image of the registry as its ordinary system.
pub fn machine(flavour: Flavour, story: &Story, registry: &Registry, tag: &str) -> Result<Machine> {
    let mut machine = disk::machine(flavour, story, registry)?;
    let directory = machine.disk.parent().context("A disk has a path")?;
    let work = TempDir::with_prefix_in("plain-", directory)?;
    let raw = work.path().join("disk.raw");
    partition(&raw, flavour.firmware())?;
    let tree = Tree::mount(registry, tag)?;
    for name in OF_DEPLOYMENTS {
        remove(&tree.root.join(name))?;
    }
    let kernel = kernel(&tree.root, directory)?;
    fill(&raw, &tree.root, work.path())?;
    let (from, to) = (
        raw.display().to_string(),
        machine.disk.display().to_string(),
    );
    tool::run("qemu-img", &["convert", "-O", "qcow2", &from, &to])?;
    disk::create_variables(&machine)?;
    machine.kernel = Some(kernel);
    Ok(machine)
}

/// A new disk with a partition for what starts the system, and one for the system.
fn partition(raw: &Path, firmware: Firmware) -> Result<()> {
    File::create(raw)?.set_len(DISK_BYTES)?;
    let kind = match firmware {
        Firmware::Bios => "21686148-6449-6E6F-744E-656564454649",
        Firmware::Uefi => "uefi",
    };
    let size = ROOT_MIB - FIRST_MIB;
    let table =
        format!("label: gpt\nstart={FIRST_MIB}MiB, size={size}MiB, type={kind}\ntype=linux\n");
    let script = raw.with_extension("sfdisk");
    fs::write(&script, table)?;
    let mut write = Command::new("sfdisk");
    write.arg("--quiet").arg(raw);
    tool::finish_with(write, File::open(&script)?)?;
    if firmware == Firmware::Uefi {
        let offset = (FIRST_MIB * MIB / 512).to_string();
        let kib = (size * 1024).to_string();
        let raw = raw.display().to_string();
        // With clusters of one sector there are enough of them for FAT32; firmware looks at that.
        let kind = ["-F", "32", "-s", "1", "--offset", &offset];
        tool::run("mkfs.vfat", &[&kind[..], &[&raw, &kib]].concat())?;
    }
    Ok(())
}

/// A container of the image, mounted. Goes away when dropped.
struct Tree {
    container: String,
    root: PathBuf,
}

impl Tree {
    fn mount(registry: &Registry, tag: &str) -> Result<Self> {
        let image = registry.image(&format!("{REPOSITORY}:{tag}"));
        let mut from = buildah("from")?;
        from.args(["--quiet", "--tls-verify=false", &image]);
        let container = tool::finish(from)?.trim().to_owned();
        let mut tree = Self {
            container,
            root: PathBuf::new(),
        };
        let mut mount = buildah("mount")?;
        mount.arg(&tree.container);
        tree.root = tool::finish(mount)?.trim().into();
        Ok(tree)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let removed = buildah("rm").map(|mut remove| {
            remove.arg(&self.container);
            tool::finish(remove)
        });
        // A container that stays is below target, as all of buildah's storage is.
        drop(removed);
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}

/// Copies the only kernel of the tree for QEMU.
fn kernel(root: &Path, to: &Path) -> Result<Kernel> {
    let modules = fs::read_dir(root.join("usr/lib/modules"))?;
    let mut kernels = modules.flatten().map(|entry| entry.path());
    let from = kernels.find(|path| path.join("vmlinuz").exists());
    let from = from.context("The image has no kernel")?;
    let copy = |name: &str| -> Result<PathBuf> {
        let path = to.join(name);
        fs::copy(from.join(name), &path)?;
        Ok(path)
    };
    Ok(Kernel {
        image: copy("vmlinuz")?,
        initramfs: copy("initramfs.img")?,
        arguments: format!("root=/dev/vda2 rw {}", disk::kernel_arguments().join(" ")),
    })
}

/// Makes the root file system from the tree.
fn fill(raw: &Path, tree: &Path, work: &Path) -> Result<()> {
    let image = work.join("root.img");
    File::create(&image)?.set_len(DISK_BYTES - (ROOT_MIB + 1) * MIB)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"]).arg(tree).arg(&image);
    tool::finish(make)?;
    let mut copy = Command::new("dd");
    copy.args(["bs=1M", "conv=sparse,notrunc", "status=none"]);
    copy.arg(format!("seek={ROOT_MIB}"));
    copy.arg(format!("if={}", image.display()));
    copy.arg(format!("of={}", raw.display()));
    tool::finish(copy)?;
    Ok(())
}
