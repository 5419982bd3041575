//! What can be said about an image: accepted and why, refused and why, who signed, and the steps that
//! led there. Values only; nothing is decided here.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::image::Digest;

/// What kind of signature was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// GPG simple signing of the manifest.
    Gpg,
    /// A sigstore attachment of the manifest.
    Sigstore,
    /// GPG, of the ostree commit inside the image.
    OstreeGpg,
    /// Ed25519 or another of libostree's own kinds, of the ostree commit inside the image.
    OstreeSign,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpg => "gpg",
            Self::Sigstore => "sigstore",
            Self::OstreeGpg => "ostree-gpg",
            Self::OstreeSign => "ostree-sign",
        })
    }
}

/// Who vouched for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedBy {
    /// The kind of signature.
    pub kind: Kind,
    /// The key: a fingerprint, and where it is known whose it is.
    pub key: String,
    /// What the signer called it: a name in a registry, or a commit.
    pub identity: String,
    /// The manifest or index that was signed; none where a commit was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// `sigstore KEY for IDENTITY`.
impl fmt::Display for VerifiedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} for {}", self.kind, self.key, self.identity)
    }
}

/// Why an image was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The host has no policy.json.
    NoPolicy,
    /// A policy.json accepts anything for this image.
    AcceptsAnything {
        /// The policy.json.
        file: PathBuf,
        /// Which part of it applied, in words.
        scope: String,
    },
    /// Every requirement of a policy.json holds, and at least one asks for a signature.
    Verified {
        /// The policy.json.
        file: PathBuf,
        /// Which part of it applied, in words.
        scope: String,
        /// For each requirement that asks for one, the signature that satisfied it.
        by: Vec<VerifiedBy>,
    },
}

impl Verdict {
    /// The signatures that were verified.
    pub fn signatures(&self) -> &[VerifiedBy] {
        match self {
            Self::Verified { by, .. } => by,
            Self::NoPolicy | Self::AcceptsAnything { .. } => &[],
        }
    }
}

/// Words to stand behind "accepted: ".
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("this host has no policy.json"),
            Self::AcceptsAnything { file, scope } => {
                write!(f, "{} accepts anything for {scope}", file.display())
            }
            Self::Verified { file, scope, by } => {
                let by: Vec<_> = by.iter().map(VerifiedBy::to_string).collect();
                let (file, by) = (file.display(), by.join("; "));
                write!(f, "{file} asks for signatures for {scope}: {by}")
            }
        }
    }
}

/// Something that was looked at on the way to a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How far it is indented: 0 is the policy, 1 a requirement, 2 a signature.
    pub depth: usize,
    /// Whether it speaks for the image; `None` where it only tells something.
    pub holds: Option<bool>,
    /// What was found.
    pub text: String,
}

impl Step {
    pub(super) const fn note(depth: usize, text: String) -> Self {
        let holds = None;
        Self { depth, holds, text }
    }

    pub(super) const fn holds(depth: usize, text: String) -> Self {
        let holds = Some(true);
        Self { depth, holds, text }
    }

    pub(super) const fn fails(depth: usize, text: String) -> Self {
        let holds = Some(false);
        Self { depth, holds, text }
    }
}

/// An image that the signature policy refuses.
#[derive(Debug, Error)]
#[error("{image} ({digest}) is refused: {reason}")]
pub struct Denied {
    /// The image as the origin writes it.
    pub image: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Why.
    pub reason: Box<Reason>,
}

impl Denied {
    /// What the user can do next, a phrase in the imperative.
    pub fn hint(&self) -> &'static str {
        match &*self.reason {
            Reason::Unreadable { .. } | Reason::Malformed { .. } => "correct the file",
            Reason::Scopes { .. } => "correct the reference",
            Reason::Rejected { .. } | Reason::Unsupported { .. } => {
                "choose an image that the policy allows, or change the policy"
            }
            Reason::OtherDigest { .. } => "correct the reference, or mistrust where it came from",
            Reason::Unproved { .. } => {
                "`bowline container verify` shows each step; have the image signed by a key that the \
                 policy names, or correct the policy or the configuration in registries.d"
            }
            Reason::NoCommit { .. } => {
                "follow the image under a signature policy (ostree-image-signed:)"
            }
            Reason::CommitUnsigned { .. } => {
                "check the remote's keys and settings (`ostree remote list`, /etc/ostree/remotes.d), \
                 and who built the image"
            }
            Reason::UnsignedLayers { .. } => {
                "require a signature of the whole image in policy.json; the setting \
                 trust.unsigned-layers-on-signed-base can also let code run that nobody signed"
            }
            Reason::Tampered { .. } => {
                "`ostree fsck --delete` takes damaged objects out of the repository, and the next \
                 pull fetches them again"
            }
            Reason::NothingVerified { .. } => {
                "require signatures for this image in policy.json, or follow it unverified \
                 (ostree-unverified-image:)"
            }
        }
    }
}

/// Why an image is refused.
#[derive(Debug, Error)]
pub enum Reason {
    /// A policy.json that cannot be read.
    #[error("the signature policy {file} cannot be read: {error}")]
    Unreadable {
        /// The policy.json.
        file: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A policy.json that is not one.
    #[error("the signature policy {file} is not valid: {problem}")]
    Malformed {
        /// The policy.json.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An image of which cannot be told which part of the policy applies.
    #[error("its scope in the signature policy {file} cannot be told: {problem}")]
    Scopes {
        /// The policy.json.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The requirement `reject`.
    #[error("the signature policy {file} says \"reject\" for {scope}")]
    Rejected {
        /// The policy.json.
        file: PathBuf,
        /// Which part of it applied.
        scope: String,
    },
    /// A requirement that no program has ever implemented.
    #[error(
        "the signature policy {file} says {requirement:?} for {scope} in a form that no \
             signature can satisfy"
    )]
    Unsupported {
        /// The policy.json.
        file: PathBuf,
        /// Which part of it applied.
        scope: String,
        /// The requirement's type.
        requirement: String,
    },
    /// A reference that names another digest than the manifest has.
    #[error("the reference asks for {wanted}, which this is not")]
    OtherDigest {
        /// What it names.
        wanted: Digest,
    },
    /// A requirement that no signature satisfies.
    #[error("the signature policy {file} says {requirement:?} for {scope}, and {problem}")]
    Unproved {
        /// The policy.json.
        file: PathBuf,
        /// Which part of it applied.
        scope: String,
        /// The requirement's type.
        requirement: String,
        /// What is wrong with the signatures, if there are any.
        problem: String,
    },
    /// `ostree-image-signed:` asks for a signature, and the policy for none.
    #[error("a signed image is asked for, but {0}")]
    NothingVerified(Verdict),
    /// `ostree-remote-image:`, and no commit that a remote could have signed.
    #[error("it has no ostree commit inside that remote {remote:?} could vouch for")]
    NoCommit {
        /// The remote.
        remote: String,
    },
    /// The commit inside is not signed as the remote asks.
    #[error("{problem}")]
    CommitUnsigned {
        /// What is wrong, in a sentence.
        problem: String,
    },
    /// Layers on top of a signed commit, which nothing vouches for.
    #[error(
        "remote {remote:?} vouches for the ostree commit inside, and nothing for the {count} \
         layers on top of it"
    )]
    UnsignedLayers {
        /// The remote.
        remote: String,
        /// How many.
        count: usize,
    },
    /// What is stored of the image is not what was verified.
    #[error("{problem}")]
    Tampered {
        /// What was found, in a sentence.
        problem: String,
    },
}
