//! What an installation is asked to be, and what came of it. Plain data.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::InstallError;
use super::choice::Boots;
use super::fill::{Deployed, Fetched};
use crate::image::{Digest, OstreeImageReference};
use crate::progress::ProgressSink;
use crate::sysroot::DeploymentId;
use crate::transport::SourceOptions;
use crate::trust::PolicyPaths;

/// What boots the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// GRUB with one static configuration.
    Grub,
    /// systemd-boot, UEFI only.
    SystemdBoot,
    /// Nothing is installed.
    None,
}

/// For which firmware the disk boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Uefi,
    /// Both.
    Both,
}

impl Firmware {
    /// Whether BIOS boots it.
    pub const fn bios(self) -> bool {
        matches!(self, Self::Bios | Self::Both)
    }

    /// Whether UEFI boots it.
    pub const fn uefi(self) -> bool {
        matches!(self, Self::Uefi | Self::Both)
    }
}

/// Type of the root file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RootType {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl RootType {
    /// Its name, as mount(8) knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// A size in bytes as people write it: `20G`, `512MiB`, `1048576`. All units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = InstallError;

    fn from_str(text: &str) -> Result<Self, InstallError> {
        let wrong = || InstallError::Options(format!("{text:?} is no size: write 20G or 512M"));
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let unit = unit.trim_end_matches("iB").trim_end_matches('B');
        let shift = match unit {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(wrong)
    }
}

/// The system that is installed, wherever to.
#[derive(Clone)]
pub struct Wanted {
    /// The image.
    pub image: OstreeImageReference,
    /// What the installed system follows.
    pub target_image: OstreeImageReference,
    /// The stateroot, where the user names one.
    pub stateroot: Option<String>,
    /// Further kernel arguments.
    pub kargs: Vec<String>,
    /// Public keys that may log in as root: the text of an `authorized_keys` file.
    pub root_keys: Option<String>,
    /// The boot loader, where the user names one.
    pub loader: Option<Loader>,
    /// The firmware, where the user names it.
    pub firmware: Option<Firmware>,
    /// Nothing of this machine goes into the system: it is an image for many.
    pub generic: bool,
    /// The architecture, a GOARCH word.
    pub arch: String,
    /// Layers to fetch at once.
    pub jobs: usize,
    /// How to reach the image.
    pub source: SourceOptions,
    /// Where the signature policy is.
    pub policy: PolicyPaths,
    /// Hears what happens.
    pub progress: Arc<dyn ProgressSink>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("image", &self.image)
            .field("target_image", &self.target_image)
            .field("kargs", &self.kargs)
            .field("loader", &self.loader)
            .field("firmware", &self.firmware)
            .field("generic", &self.generic)
            .finish_non_exhaustive()
    }
}

/// An installation to a whole disk.
#[derive(Debug, Clone)]
pub struct DiskRequest {
    /// The system.
    pub wanted: Wanted,
    /// The disk or plain file.
    pub target: PathBuf,
    /// Where the system is put together first.
    pub scratch: PathBuf,
    /// Type of the root file system, where the user names one.
    pub root_type: Option<RootType>,
    /// Size of the root partition; otherwise all that is left.
    pub root_size: Option<Size>,
    /// Destroy what is on the disk.
    pub wipe: bool,
}

/// What was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The image.
    pub image: OstreeImageReference,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its version label.
    pub version: Option<String>,
    /// What the system follows.
    pub follows: OstreeImageReference,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its kernel arguments.
    pub kargs: Vec<String>,
    /// The boot loader.
    pub loader: Loader,
    /// For which firmware.
    pub firmware: Firmware,
    /// What is to be known besides, a sentence each.
    pub remarks: Vec<String>,
}

impl Installed {
    /// What came of a request.
    pub(super) fn new(
        wanted: &Wanted,
        boots: Boots,
        fetched: &Fetched,
        deployed: Deployed,
    ) -> Self {
        let record = &fetched.record;
        Self {
            image: wanted.image.clone(),
            digest: record.manifest_digest,
            version: record.config.version().map(str::to_owned),
            follows: wanted.target_image.clone(),
            deployment: deployed.id,
            kargs: deployed.kargs,
            loader: boots.loader,
            firmware: boots.firmware,
            remarks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1048576", Some(1 << 20)),
            ("20G", Some(20 << 30)),
            ("512MiB", Some(512 << 20)),
            ("3k", Some(3 << 10)),
            ("2TB", Some(2 << 40)),
            ("0", None),
            ("", None),
            ("G", None),
            ("1.5G", None),
            ("-1", None),
            ("10X", None),
            ("99999999999T", None),
        ] {
            assert_eq!(text.parse().ok(), bytes.map(Size), "{text}");
        }
    }
}
