//! The status model: plain data with the field names of bootc's `org.containers.bootc/v1` schema,
//! so that programs that read `bootc status` read ours. A pure shape; knows no sysroot.
//!
//! What has no meaning here (composefs, soft reboots) is absent; docs/adr/0004-status-schema.md
//! says why the schema is bootc's and what a sysroot that is not booted looks like in it.

use serde::Serialize;

use super::NotApplied;
use super::boots::Health;
use crate::image::{OstreeImageReference, SignatureSource};
use crate::trust::VerifiedBy;

/// The schema that the status follows.
pub const API_VERSION: &str = "org.containers.bootc/v1";
/// The schema's name for the whole document; greenboot and others look for it.
pub const KIND: &str = "BootcHost";

/// The whole document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// [`KIND`].
    pub kind: &'static str,
    /// Its name.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: Spec,
    /// What is.
    pub status: Status,
}

/// Name of the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Always `host`.
    pub name: &'static str,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The image that the host follows.
    pub image: Option<ImageSpec>,
    /// Whether the rollback is queued to boot next.
    pub boot_order: BootOrder,
}

/// What boots next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BootOrder {
    /// The staged deployment, else the booted one.
    Default,
    /// The rollback.
    Rollback,
}

/// An image reference, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSpec {
    /// Its name in the transport.
    pub image: String,
    /// The transport.
    pub transport: String,
    /// Which signatures are asked for.
    pub signature: Option<Signature>,
}

/// Which signatures an image must carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Signature {
    /// Those of this ostree remote's configuration.
    OstreeRemote(String),
    /// Those of policy.json.
    ContainerPolicy,
    /// policy.json may accept anything.
    Insecure,
}

/// What is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Boots next, and is finished at shutdown.
    pub staged: Option<BootEntry>,
    /// Runs now.
    pub booted: Option<BootEntry>,
    /// What `rollback` makes the next boot.
    pub rollback: Option<BootEntry>,
    /// All others in boot order.
    pub other_deployments: Vec<BootEntry>,
    /// Whether `rollback` boots next.
    pub rollback_queued: bool,
    /// The update that was staged and did not come to be; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_applied: Option<NotApplied>,
    /// Set where the running system came from a container image.
    #[serde(rename = "type")]
    pub system_type: Option<SystemType>,
    /// Trials of updates; ours, and left out where there is nothing to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What kind of host this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SystemType {
    /// Booted from a container image.
    BootcHost,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootEntry {
    /// Its image; null where it came from none.
    pub image: Option<ImageStatus>,
    /// The update that the last check found.
    pub cached_update: Option<ImageStatus>,
    /// Whether local changes of rpm-ostree keep it from being updated.
    pub incompatible: bool,
    /// Whether it is kept until it is unpinned.
    pub pinned: bool,
    /// How its image is stored.
    pub store: Option<Store>,
    /// Who vouched for its image when it was deployed, none where nobody did; absent where that was not
    /// recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Vec<VerifiedBy>>,
    /// What pulling its image cost; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// Its name in ostree.
    pub ostree: Option<OstreeEntry>,
}

/// What came over the network for an image, bytes of its layers as they travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// Bytes that came.
    pub fetched: u64,
    /// Bytes that did not have to, since layers or files were here.
    pub reused: u64,
}

/// How an image is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Store {
    /// As layers and a merge commit.
    OstreeContainer,
}

/// An image as deployed, or available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// Where it comes from.
    pub image: ImageSpec,
    /// Its version label.
    pub version: Option<String>,
    /// When it was made, RFC 3339 in UTC.
    pub timestamp: Option<String>,
    /// Digest of its manifest.
    pub image_digest: String,
    /// GOARCH word.
    pub architecture: String,
}

/// A deployment's name in ostree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OstreeEntry {
    /// Its stateroot.
    pub stateroot: String,
    /// Its commit.
    pub checksum: String,
    /// Tells deployments of one commit apart.
    pub deploy_serial: u32,
}

impl From<&OstreeImageReference> for ImageSpec {
    fn from(reference: &OstreeImageReference) -> Self {
        let signature = match &reference.sigverify {
            SignatureSource::OstreeRemote(remote) => Signature::OstreeRemote(remote.clone()),
            SignatureSource::ContainerPolicy => Signature::ContainerPolicy,
            SignatureSource::ContainerPolicyAllowInsecure => Signature::Insecure,
        };
        Self {
            image: reference.imgref.name.clone(),
            transport: reference.imgref.transport.name().into(),
            signature: Some(signature),
        }
    }
}
