//! How an image wants to be installed. A tree comes in, with bootc's drop-ins and ours; one
//! merged configuration goes out, and prints as the JSON that bootc prints. Never looks at a disk.
//!
//! ```text
//! usr/lib/bootc/install/*.toml        and usr/local/lib, etc, run: bootc's, merged by its rules
//! usr/lib/bowline/install/*.yaml      and etc, run: ours, over bootc's
//! ```

mod file;

use anyhow::Result;
use serde_json::Value;

pub use file::{Block, Firmware, Loader, RootFs};

use self::file::InstallFile;
use super::{ConfigError, layers};
use crate::image::rust_arch;
use crate::sys::tree::FileTree;

/// Directories of bootc's drop-ins, the weakest first (liboverdrop's places).
const BOOTC: [&str; 4] = [
    "usr/lib/bootc/install",
    "usr/local/lib/bootc/install",
    "etc/bootc/install",
    "run/bootc/install",
];
/// Directories of our files, the weakest first.
const OURS: [&str; 3] = [
    "usr/lib/bowline/install",
    "etc/bowline/install",
    "run/bowline/install",
];

/// How an image wants to be installed; `None` and empty lists where it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallConfig {
    /// Type of the root file system.
    pub root_fs_type: Option<RootFs>,
    /// Ways to set up the disk that the image supports, the default first; empty means
    /// [`Block::Direct`].
    pub block: Vec<Block>,
    /// Kernel arguments that become the machine's own.
    pub kargs: Vec<String>,
    /// Kernel arguments (`key` or `key=value`) that are taken out of those of the image.
    pub karg_deletes: Vec<String>,
    /// Value of libostree's setting `sysroot.bls-append-except-default`.
    pub bls_append_except_default: Option<String>,
    /// Name of the stateroot.
    pub stateroot: Option<String>,
    /// What to mount as the root, such as `LABEL=root`; empty for no argument at all.
    pub root_mount_spec: Option<String>,
    /// What to mount on /boot; empty for no argument at all.
    pub boot_mount_spec: Option<String>,
    /// Whether bootupd writes no UUID into the bootloader's configuration.
    pub skip_boot_uuid: Option<bool>,
    /// The bootloader.
    pub bootloader: Option<Loader>,
    /// Whether the root is found by its partition type, without a `root=` argument.
    pub discoverable_partitions: Option<bool>,
    /// Whether a signature policy that accepts anything is refused.
    pub enforce_container_sigpolicy: Option<bool>,
    /// Size of the root partition, in bytes; otherwise all that is left. Ours alone.
    pub root_size: Option<u64>,
    /// For which firmware the disk boots. Ours alone.
    pub firmware: Option<Firmware>,
    /// All of it as it was written, merged.
    merged: Option<InstallFile>,
}

impl InstallConfig {
    /// Reads and merges what a tree says for an architecture (a GOARCH word). What is unknown or
    /// wrong is a [`ConfigError`].
    pub fn load(tree: &dyn FileTree, arch: &str) -> Result<Self> {
        let arch = rust_arch(arch);
        let mut merged: Option<InstallFile> = None;
        for path in layers::drop_ins(tree, &BOOTC, "toml")? {
            let text = layers::read(tree, &path)?;
            let file = file::of_bootc(&tree.name(&path), &text)?;
            merge(&mut merged, file, arch);
        }
        for path in layers::files(tree, &OURS, "yaml")? {
            let text = layers::read(tree, &path)?;
            let file = layers::yaml(&tree.name(&path), &text)?;
            merge(&mut merged, Some(file), arch);
        }
        Ok(Self::of(merged))
    }

    fn of(mut merged: Option<InstallFile>) -> Self {
        if let Some(merged) = &mut merged {
            merged.canonicalize();
        }
        let file = merged.clone().unwrap_or_default();
        Self {
            root_fs_type: file.root_fs_type,
            block: file.block.unwrap_or_default(),
            kargs: file.kargs.unwrap_or_default(),
            karg_deletes: file.karg_deletes.unwrap_or_default(),
            bls_append_except_default: file.ostree.and_then(|o| o.bls_append_except_default),
            stateroot: file.stateroot,
            root_mount_spec: file.root_mount_spec,
            boot_mount_spec: file.boot_mount_spec,
            skip_boot_uuid: file.bootupd.and_then(|b| b.skip_boot_uuid),
            bootloader: file.bootloader,
            discoverable_partitions: file.discoverable_partitions,
            enforce_container_sigpolicy: file.enforce_container_sigpolicy,
            root_size: file.root_size.map(|size| size.0),
            firmware: file.firmware,
            merged,
        }
    }

    /// Refuses what no installation by us can give, with the reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refused = |problem: &str| Err(ConfigError::file("install configuration", problem));
        if !self.block.is_empty() && !self.block.contains(&Block::Direct) {
            return refused(
                "block allows tpm2-luks only, which is not supported: add \"direct\", or give a \
                 file system that you encrypted to `install to-filesystem`",
            );
        }
        Ok(())
    }

    /// As JSON for whoever installs by other means, such as Anaconda; without the kernel arguments,
    /// which are handled by `install to-filesystem`, unless `all` asks for them.
    pub fn to_json(&self, all: bool) -> Result<Value> {
        let mut file = self.merged.clone().unwrap_or_default();
        if !all {
            (file.kargs, file.karg_deletes) = (None, None);
        }
        Ok(serde_json::to_value(file)?)
    }
}

/// The first file that is for this architecture is the start, the following ones win over it.
fn merge(merged: &mut Option<InstallFile>, file: Option<InstallFile>, arch: &str) {
    let Some(file) = file.filter(|file| file.is_for(arch)) else {
        return;
    };
    match merged {
        Some(merged) => merged.merge(file),
        None => *merged = Some(file),
    }
}

#[cfg(test)]
mod tests;
