//! The verdict about an image: a reference, its manifest and the places of policy.json come in;
//! "accepted, because" or "denied, because" goes out. Fails closed: a requirement that Bowline
//! cannot check yet denies, and nothing is ever skipped.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::policy::{Applying, Policy};
use super::requirement::Requirement;
use crate::image::{Digest, Manifest, OstreeImageReference, SignatureSource};

/// The largest policy.json that is read, in bytes: a thousand times what hosts have.
const MAX_POLICY_BYTES: u64 = 4 << 20;

/// Where policy.json may be; the first that exists is used, alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPaths {
    /// `$CONTAINERS_POLICY_JSON`: used without a look at the others, whether it exists or not.
    pub explicit: Option<PathBuf>,
    /// The user's, `~/.config/containers/policy.json`.
    pub user: Option<PathBuf>,
    /// The system's, in order.
    pub system: Vec<PathBuf>,
}

impl Default for PolicyPaths {
    /// The system's places only: reads no environment.
    fn default() -> Self {
        let places = ["/etc/containers", "/usr/share/containers"];
        Self {
            explicit: None,
            user: None,
            system: places.map(|p| Path::new(p).join("policy.json")).into(),
        }
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
}

/// The reason in words, to stand behind "accepted unverified: ".
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("this host has no policy.json"),
            Self::AcceptsAnything { file, scope } => {
                write!(f, "{} accepts anything for {scope}", file.display())
            }
        }
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
            Reason::Rejected { .. } => {
                "choose an image that the policy allows, or change the policy"
            }
            Reason::CannotVerify { .. } => {
                "allow the image in the policy by other means than signatures, or wait for a \
                 version that verifies them"
            }
            Reason::NothingVerified { .. } => {
                "require signatures for this image in policy.json, or follow it unverified \
                 (ostree-unverified-image:)"
            }
            Reason::OstreeRemote(_) => {
                "follow the image under a signature policy (ostree-image-signed:) or unverified \
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
    /// A requirement that needs code that does not exist yet.
    #[error(
        "the signature policy {file} says {requirement:?} for {scope}, \
         and Bowline cannot verify {requirement} signatures yet"
    )]
    CannotVerify {
        /// The policy.json.
        file: PathBuf,
        /// Which part of it applied.
        scope: String,
        /// The requirement's type.
        requirement: String,
    },
    /// `ostree-image-signed:` asks for a signature, and the policy for none.
    #[error("a signed image is asked for, but {0}")]
    NothingVerified(Verdict),
    /// `ostree-remote-image:` asks for a signature of the ostree commit.
    #[error("Bowline cannot verify ostree commit signatures through remote {0:?} yet")]
    OstreeRemote(String),
}

/// Decides whether the image `imgref` with this `manifest` may be used.
pub fn check(
    imgref: &OstreeImageReference,
    manifest: &Manifest,
    paths: &PolicyPaths,
) -> Result<Verdict, Denied> {
    decide(imgref, paths).map_err(|reason| Denied {
        image: imgref.to_string(),
        digest: manifest.digest(),
        reason: reason.into(),
    })
}

fn decide(imgref: &OstreeImageReference, paths: &PolicyPaths) -> Result<Verdict, Reason> {
    if let SignatureSource::OstreeRemote(remote) = &imgref.sigverify {
        return Err(Reason::OstreeRemote(remote.clone()));
    }
    let verdict = match find(paths)? {
        None => Verdict::NoPolicy,
        Some((file, bytes)) => apply(imgref, file, &bytes)?,
    };
    match imgref.sigverify {
        SignatureSource::ContainerPolicy => Err(Reason::NothingVerified(verdict)),
        _ => Ok(verdict),
    }
}

/// Reads the policy.json to use. Only a file that does not exist leads to the next place.
fn find(paths: &PolicyPaths) -> Result<Option<(&Path, Vec<u8>)>, Reason> {
    let read = |file: &PathBuf| match read_bounded(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(file, error)),
    };
    if let Some(file) = &paths.explicit {
        let missing = || unreadable(file, io::ErrorKind::NotFound.into());
        return Ok(Some((file, read(file)?.ok_or_else(missing)?)));
    }
    for file in paths.user.iter().chain(&paths.system) {
        if let Some(bytes) = read(file)? {
            return Ok(Some((file, bytes)));
        }
    }
    Ok(None)
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = File::open(file)?.take(MAX_POLICY_BYTES + 1);
    reader.read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_POLICY_BYTES {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

fn unreadable(file: &Path, error: io::Error) -> Reason {
    let file = file.to_owned();
    Reason::Unreadable { file, error }
}

/// Asks every requirement that applies; the first that does not hold denies.
fn apply(imgref: &OstreeImageReference, file: &Path, bytes: &[u8]) -> Result<Verdict, Reason> {
    let file = file.to_owned();
    let policy = match Policy::parse(bytes) {
        Ok(policy) => policy,
        Err(problem) => return Err(Reason::Malformed { file, problem }),
    };
    let Applying {
        scope,
        requirements,
    } = match policy.applying(&imgref.imgref) {
        Ok(applying) => applying,
        Err(problem) => return Err(Reason::Scopes { file, problem }),
    };
    let failing = requirements
        .iter()
        .find(|r| **r != Requirement::InsecureAcceptAnything);
    match failing {
        None => Ok(Verdict::AcceptsAnything { file, scope }),
        Some(Requirement::Reject) => Err(Reason::Rejected { file, scope }),
        Some(other) => Err(Reason::CannotVerify {
            file,
            scope,
            requirement: other.to_string(),
        }),
    }
}
