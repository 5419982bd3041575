//! One file of the install configuration as written, and how two become one. Text comes in; a
//! value with every key optional goes out. The keys and the merging are bootc's
//! (bootc-install-config(5)); `root-size` and `firmware` are ours.

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::config::human::Size;
use crate::sys::parse;

/// Type of the root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootFs {
    /// XFS.
    Xfs,
    /// ext4.
    Ext4,
    /// Btrfs.
    Btrfs,
}

impl RootFs {
    /// Its name, as mount(8) knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }
}

/// A way to set up a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// A plain partition.
    Direct,
    /// LUKS with its key in the TPM.
    Tpm2Luks,
}

/// What boots the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// GRUB.
    Grub,
    /// GRUB of confidential clusters.
    GrubCc,
    /// systemd-boot.
    #[serde(alias = "systemd-boot")]
    Systemd,
    /// Nothing is installed.
    None,
}

/// For which firmware a disk boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Uefi,
    /// Both.
    Both,
}

/// The top level of bootc's files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootcFile {
    install: Option<InstallFile>,
}

/// The keys of a file. What bootc prints as null stays here without `skip_serializing_if`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a mapping of settings"
)]
pub(super) struct InstallFile {
    pub root_fs_type: Option<RootFs>,
    pub block: Option<Vec<Block>>,
    pub filesystem: Option<Filesystems>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kargs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub karg_deletes: Option<Vec<String>>,
    pub match_architectures: Option<Vec<String>>,
    pub ostree: Option<OstreeFile>,
    pub stateroot: Option<String>,
    pub root_mount_spec: Option<String>,
    pub boot_mount_spec: Option<String>,
    pub bootupd: Option<BootupdFile>,
    pub bootloader: Option<Loader>,
    pub discoverable_partitions: Option<bool>,
    pub enforce_container_sigpolicy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
}

/// Section `filesystem`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with the key root")]
pub(super) struct Filesystems {
    root: Option<RootFile>,
}

/// Section `filesystem.root`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with the key type")]
struct RootFile {
    #[serde(rename = "type")]
    fs_type: Option<RootFs>,
}

/// Section `ostree`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a mapping of settings"
)]
pub(super) struct OstreeFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bls_append_except_default: Option<String>,
}

/// Section `bootupd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a mapping of settings"
)]
pub(super) struct BootupdFile {
    pub skip_boot_uuid: Option<bool>,
}

/// Parses one of bootc's files; `None` where it has no section `install`.
pub(super) fn of_bootc(name: &str, text: &str) -> Result<Option<InstallFile>, ConfigError> {
    let file = parse::toml(text).map_err(|mistake| ConfigError::text(name, mistake));
    let file: BootcFile = file?;
    let ours = |file: &InstallFile| file.root_size.is_some() || file.firmware.is_some();
    match file.install.as_ref().is_some_and(ours) {
        false => Ok(file.install),
        true => Err(ConfigError::file(
            name,
            "root-size and firmware are no keys of bootc: put them into a file \
             /usr/lib/bowline/install/*.yaml",
        )),
    }
}

impl InstallFile {
    /// Whether the file counts on an architecture, a word of Rust's standard library.
    pub(super) fn is_for(&self, arch: &str) -> bool {
        let list = self.match_architectures.as_ref();
        list.is_none_or(|list| list.iter().any(|word| word == arch))
    }

    /// Lets the keys of `later` win; kernel arguments add up.
    pub(super) fn merge(&mut self, later: Self) {
        win(&mut self.root_fs_type, later.root_fs_type);
        win(&mut self.block, later.block);
        both(&mut self.filesystem, later.filesystem, |a, b| {
            both(&mut a.root, b.root, |a, b| win(&mut a.fs_type, b.fs_type));
        });
        both(&mut self.ostree, later.ostree, |a, b| {
            win(
                &mut a.bls_append_except_default,
                b.bls_append_except_default,
            );
        });
        win(&mut self.stateroot, later.stateroot);
        win(&mut self.root_mount_spec, later.root_mount_spec);
        win(&mut self.boot_mount_spec, later.boot_mount_spec);
        both(&mut self.bootupd, later.bootupd, |a, b| {
            win(&mut a.skip_boot_uuid, b.skip_boot_uuid);
        });
        win(&mut self.bootloader, later.bootloader);
        win(
            &mut self.discoverable_partitions,
            later.discoverable_partitions,
        );
        win(
            &mut self.enforce_container_sigpolicy,
            later.enforce_container_sigpolicy,
        );
        win(&mut self.root_size, later.root_size);
        win(&mut self.firmware, later.firmware);
        both(&mut self.kargs, later.kargs, |a, b| a.extend(b));
        both(&mut self.karg_deletes, later.karg_deletes, |a, b| {
            a.extend(b)
        });
    }

    /// Makes the two ways to name the root's type agree (the nested one wins), and says the
    /// default for `block`.
    pub(super) fn canonicalize(&mut self) {
        let nested = self.filesystem.as_ref().and_then(|f| f.root.as_ref());
        match (nested.and_then(|root| root.fs_type), self.root_fs_type) {
            (Some(fs_type), _) => self.root_fs_type = Some(fs_type),
            (None, Some(fs_type)) => {
                let filesystems = self.filesystem.get_or_insert_default();
                filesystems.root.get_or_insert_default().fs_type = Some(fs_type);
            }
            (None, None) => {}
        }
        self.block.get_or_insert_with(|| vec![Block::Direct]);
    }
}

fn win<T>(value: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *value = later;
    }
}

/// Where both are there, `join` makes them one.
fn both<T>(value: &mut Option<T>, later: Option<T>, join: impl FnOnce(&mut T, T)) {
    match (value.as_mut(), later) {
        (Some(value), Some(later)) => join(value, later),
        (None, later) => *value = later,
        (Some(_), None) => {}
    }
}
