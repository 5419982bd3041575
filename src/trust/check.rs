//! The verdict about an image: a reference, its digests and the places of policy.json come in, then
//! the signatures that were found; "accepted, because" or "denied, because" goes out. Fails closed:
//! every requirement that applies must hold, and nothing is ever skipped.

use std::io;
use std::path::{Path, PathBuf};

use super::judge::{Case, Unmet};
use super::material::read_bounded;
use super::named::Named;
use super::policy::{Applying, Policy};
use super::requirement::Requirement;
use super::verdict::{Denied, Reason, Step, Verdict};
use crate::image::{
    Digest, OstreeImageReference, RegistryName, SignatureSource, StoredSignature, Transport,
};

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

/// By which rules images are judged on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where policy.json may be.
    pub policy: PolicyPaths,
    /// Whether layers that nothing vouches for may lie on an ostree commit that a remote vouches for.
    pub unsigned_layers: bool,
    /// The only image that may be used, by the digest of its manifest or of the index that it was
    /// chosen from.
    pub require_digest: Option<Digest>,
}

/// What is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The image, and what its user asks for.
    pub image: OstreeImageReference,
    /// Digest of the bytes of its manifest.
    pub manifest: Digest,
    /// Digest of the bytes of the index that led to it.
    pub index: Option<Digest>,
}

impl Subject {
    /// The digests under which signatures are looked for: a signature of an index is one of every
    /// manifest that it names by digest.
    pub fn digests(&self) -> Vec<Digest> {
        let other = self.index.filter(|index| *index != self.manifest);
        [Some(self.manifest), other].into_iter().flatten().collect()
    }

    /// The image's name in a registry.
    fn registry_name(&self) -> Option<RegistryName> {
        let imgref = &self.image.imgref;
        match imgref.transport {
            Transport::Registry => imgref.name.parse().ok(),
            _ => None,
        }
    }

    /// A refusal of it.
    pub fn denied(&self, reason: Reason) -> Denied {
        Denied {
            image: self.image.to_string(),
            digest: self.manifest,
            reason: reason.into(),
        }
    }
}

/// What applies to an image, before anybody has looked for signatures.
#[derive(Debug)]
pub struct Ruling {
    subject: Subject,
    policy: Option<Applied>,
}

/// The part of a policy.json that applies.
#[derive(Debug)]
struct Applied {
    file: PathBuf,
    scope: String,
    requirements: Vec<Requirement>,
}

/// A verdict, and the way to it.
#[derive(Debug)]
pub struct Judgement {
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// Accepted or denied.
    pub verdict: Result<Verdict, Denied>,
}

impl Judgement {
    /// Whether other signatures could have made a difference.
    pub fn is_unproved(&self) -> bool {
        let denied = self.verdict.as_ref().err();
        denied.is_some_and(|denied| matches!(*denied.reason, Reason::Unproved { .. }))
    }
}

impl Ruling {
    /// Reads the policy and finds what applies to `subject`.
    pub fn of(subject: Subject, paths: &PolicyPaths) -> Result<Self, Denied> {
        match Applied::find(&subject, paths) {
            Ok(policy) => Ok(Self { subject, policy }),
            Err(reason) => Err(subject.denied(reason)),
        }
    }

    /// Whether signatures can make a difference; no need to look for any where they cannot.
    pub fn wants_signatures(&self) -> bool {
        let requirements = self.requirements();
        let hopeless =
            |r: &Requirement| matches!(r, Requirement::Reject | Requirement::SignedBaseLayer);
        requirements.iter().any(Requirement::wants_signatures) && !requirements.iter().any(hopeless)
    }

    fn requirements(&self) -> &[Requirement] {
        let policy = self.policy.as_ref();
        policy.map_or(&[], |policy| &*policy.requirements)
    }

    /// What is judged.
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Judges by all `signatures` that were found, at `now` (seconds since 1970).
    pub fn judge(&self, signatures: &[StoredSignature], now: i64) -> Judgement {
        let mut steps = Vec::new();
        let verdict = self.decide(signatures, now, &mut steps);
        let verdict = verdict.map_err(|reason| self.subject.denied(reason));
        Judgement { steps, verdict }
    }

    fn decide(
        &self,
        signatures: &[StoredSignature],
        now: i64,
        steps: &mut Vec<Step>,
    ) -> Result<Verdict, Reason> {
        let name = self.subject.registry_name();
        let digests = self.subject.digests();
        if let Some(wanted) = name.as_ref().and_then(|name| name.digest) {
            if !digests.contains(&wanted) {
                return Err(Reason::OtherDigest { wanted });
            }
        }
        let case = Case {
            name: name.as_ref().map(Named::of),
            digests: &digests,
            signatures,
            now,
        };
        let verdict = match &self.policy {
            None => Verdict::NoPolicy,
            Some(policy) => policy.decide(&case, steps)?,
        };
        match self.subject.image.sigverify {
            SignatureSource::ContainerPolicy if verdict.signatures().is_empty() => {
                Err(Reason::NothingVerified(verdict))
            }
            _ => Ok(verdict),
        }
    }
}

impl Applied {
    fn find(subject: &Subject, paths: &PolicyPaths) -> Result<Option<Self>, Reason> {
        let Some((file, bytes)) = find(paths)? else {
            return Ok(None);
        };
        let file = file.to_owned();
        let policy = match Policy::parse(&bytes) {
            Ok(policy) => policy,
            Err(problem) => return Err(Reason::Malformed { file, problem }),
        };
        match policy.applying(&subject.image.imgref) {
            Ok(Applying {
                scope,
                requirements,
            }) => Ok(Some(Self {
                file,
                scope,
                requirements: requirements.to_vec(),
            })),
            Err(problem) => Err(Reason::Scopes { file, problem }),
        }
    }

    /// Asks every requirement; the first that does not hold denies.
    fn decide(&self, case: &Case<'_>, steps: &mut Vec<Step>) -> Result<Verdict, Reason> {
        let (file, scope) = (self.file.clone(), self.scope.clone());
        let words = format!("{} applies by {scope}", file.display());
        steps.push(Step::note(0, words));
        let mut by = Vec::new();
        for requirement in &self.requirements {
            let at = steps.len();
            let found = case.decide(requirement, steps);
            let holds = Some(found.is_ok());
            let text = requirement.to_string();
            let depth = 1;
            steps.insert(at, Step { depth, holds, text });
            by.extend(found.map_err(|unmet| self.reason(requirement, unmet))?);
        }
        Ok(match by.is_empty() {
            true => Verdict::AcceptsAnything { file, scope },
            false => Verdict::Verified { file, scope, by },
        })
    }

    fn reason(&self, requirement: &Requirement, unmet: Unmet) -> Reason {
        let (file, scope) = (self.file.clone(), self.scope.clone());
        let requirement = requirement.to_string();
        match unmet {
            Unmet::Rejected => Reason::Rejected { file, scope },
            Unmet::Unsupported => Reason::Unsupported {
                file,
                scope,
                requirement,
            },
            Unmet::Unproved(problem) => Reason::Unproved {
                file,
                scope,
                requirement,
                problem,
            },
        }
    }
}

/// Reads the policy.json to use. Only where there is nothing at all, not even a link to nowhere, the next
/// place counts.
fn find(paths: &PolicyPaths) -> Result<Option<(&Path, Vec<u8>)>, Reason> {
    let mut files = paths.user.iter().chain(&paths.system);
    let there = || files.find(|file| is_there(file));
    let Some(file) = paths.explicit.as_ref().or_else(there) else {
        return Ok(None);
    };
    let read = read_bounded(file, MAX_POLICY_BYTES);
    let bytes = read.map_err(|error| unreadable(file, error))?;
    Ok(Some((file, bytes)))
}

/// What cannot be looked at is there, too.
fn is_there(file: &Path) -> bool {
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    !file.symlink_metadata().as_ref().is_err_and(missing)
}

fn unreadable(file: &Path, error: io::Error) -> Reason {
    let file = file.to_owned();
    Reason::Unreadable { file, error }
}
