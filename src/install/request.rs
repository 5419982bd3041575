//! What an installation is asked to be, and what came of it. Plain data.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::choice::Boots;
use super::fill::{Deployed, Fetched};
use crate::boot::Bootloader;
use crate::config::install::{Firmware, RootFs};
use crate::image::{Digest, OstreeImageReference};
use crate::progress::ProgressSink;
use crate::sysroot::DeploymentId;
use crate::transport::SourceOptions;
use crate::trust::Rules;

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
    pub loader: Option<Bootloader>,
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
    /// By which rules the image is judged.
    pub rules: Rules,
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
    pub root_fs: Option<RootFs>,
    /// Size of the root partition in bytes, where the user says it.
    pub root_size: Option<u64>,
    /// Destroy what is on the disk.
    pub wipe: bool,
}

/// What happens to what a mounted root holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It must hold nothing.
    Refuse,
    /// It stays, beside the new system.
    Keep,
    /// It is removed.
    Wipe,
}

/// An installation to file systems that are mounted.
#[derive(Debug, Clone)]
pub struct MountedRequest {
    /// The system.
    pub wanted: Wanted,
    /// Where the root file system is mounted.
    pub root: PathBuf,
    /// What happens to what it holds.
    pub existing: Existing,
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
    /// How it boots.
    pub boots: Boots,
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
            boots,
            remarks: Vec::new(),
        }
    }
}
