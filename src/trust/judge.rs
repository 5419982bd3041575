//! One requirement against the signatures of one image: a requirement, what is to be proved and the
//! signatures that were found come in; who signed goes out, or why nothing was good enough, and every
//! step of the way in words. Fails closed: what cannot be read or understood proves nothing.

use super::identity::Identity;
use super::json::Problem;
use super::named::Named;
use super::openpgp::Keyring;
use super::requirement::{Requirement, SignedBy, SigstoreSigned};
use super::sigstore::TrustRoot;
use super::simple::Claim;
use super::stored::Signature;
use super::verdict::{Kind, Step, VerifiedBy};
use crate::image::{Digest, StoredSignature};

/// What signatures must prove, and what there is.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// The image's name, where it has one in a registry.
    pub(super) name: Option<Named>,
    /// Digests of the manifest, and of the index that led to it. A signature of either is good.
    pub(super) digests: &'a [Digest],
    /// All that were found.
    pub(super) signatures: &'a [StoredSignature],
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Why a requirement does not hold.
#[derive(Debug)]
pub(super) enum Unmet {
    /// It says so.
    Rejected,
    /// Nobody has ever implemented it.
    Unsupported,
    /// Words that end "asks for a signature, and …".
    Unproved(Problem),
}

impl Case<'_> {
    /// Decides about one requirement. `steps` gets what was looked at.
    pub(super) fn decide(
        &self,
        requirement: &Requirement,
        steps: &mut Vec<Step>,
    ) -> Result<Option<VerifiedBy>, Unmet> {
        match requirement {
            Requirement::InsecureAcceptAnything => Ok(None),
            Requirement::Reject => Err(Unmet::Rejected),
            Requirement::SignedBaseLayer => Err(Unmet::Unsupported),
            Requirement::SignedBy(signed_by) if !signed_by.gpg => Err(Unmet::Unsupported),
            Requirement::SignedBy(signed_by) => self.signed_by(signed_by, steps).map(Some),
            Requirement::SigstoreSigned(sigstore) => self.sigstore(sigstore, steps).map(Some),
        }
    }

    fn signed_by(
        &self,
        requirement: &SignedBy,
        steps: &mut Vec<Step>,
    ) -> Result<VerifiedBy, Unmet> {
        let keyring = keyring(requirement).map_err(|problem| unusable(problem, steps))?;
        let keys: Vec<_> = keyring.fingerprints().collect();
        let from = requirement.keys.words();
        steps.push(Step::note(
            2,
            format!("keys from {from}: {}", keys.join(", ")),
        ));
        self.any(&requirement.identity, steps, |signature| match signature {
            Signature::Sigstore(_) => Err("it is a sigstore signature".into()),
            Signature::SimpleSigning(message) => {
                let signed = keyring.verify(message, self.now)?;
                let claim = Claim::of_simple_signing(&signed.content);
                let claim = claim.map_err(|p| format!("what was signed cannot be used: {p}"))?;
                let key = match signed.subkey {
                    Some(subkey) => format!("{} (subkey {subkey})", signed.certificate),
                    None => signed.certificate,
                };
                Ok((Kind::Gpg, key, claim))
            }
        })
    }

    fn sigstore(
        &self,
        requirement: &SigstoreSigned,
        steps: &mut Vec<Step>,
    ) -> Result<VerifiedBy, Unmet> {
        let root = TrustRoot::load(requirement).map_err(|problem| unusable(problem, steps))?;
        steps.push(Step::note(2, root.words()));
        self.any(&requirement.identity, steps, |signature| match signature {
            Signature::SimpleSigning(_) => Err("it is a GPG signature".into()),
            Signature::Sigstore(attachment) if attachment.is_bundle() => Err(
                "it is a bundle, as cosign 3 writes them, and does not say for which name the image \
                 was signed; `cosign sign --new-bundle-format=false --use-signing-config=false` does"
                    .into(),
            ),
            Signature::Sigstore(attachment) if !attachment.is_signature() => {
                let kind = &attachment.media_type;
                Err(format!("it is no signature but {kind:?}"))
            }
            Signature::Sigstore(attachment) => {
                let signed = root.verify(attachment, self.now)?;
                let key = format!("{} ({})", signed.by, signed.fingerprint);
                Ok((Kind::Sigstore, key, signed.claim))
            }
        })
    }

    /// The first signature that `verify` accepts and that is about this image.
    fn any(
        &self,
        identity: &Identity,
        steps: &mut Vec<Step>,
        verify: impl Fn(&Signature) -> Result<(Kind, String, Claim), Problem>,
    ) -> Result<VerifiedBy, Unmet> {
        let mut refused = Vec::new();
        for stored in self.signatures {
            let place = &stored.place;
            let found = Signature::of(&stored.content).and_then(|signature| {
                let (kind, key, claim) = verify(&signature)?;
                let digest = self.check(identity, &claim)?;
                Ok(VerifiedBy {
                    kind,
                    key,
                    identity: claim.docker_reference,
                    digest: Some(digest),
                })
            });
            match found {
                Ok(by) => {
                    let words = format!("{place}: signed by {} for {}", by.key, by.identity);
                    steps.push(Step::holds(2, words));
                    return Ok(by);
                }
                Err(problem) => {
                    let words = format!("{place}: {problem}");
                    steps.push(Step::fails(2, words.clone()));
                    refused.push(words);
                }
            }
        }
        Err(Unmet::Unproved(match &*refused {
            [] => {
                steps.push(Step::fails(2, "no signature was found".into()));
                "no signature was found".into()
            }
            [only] => format!("the only one is not accepted: {only}"),
            several => format!(
                "none of {} is accepted: {}",
                several.len(),
                several.join("; ")
            ),
        }))
    }

    /// Whether a claim is about this image, and about which digest of it.
    fn check(&self, identity: &Identity, claim: &Claim) -> Result<Digest, Problem> {
        if !identity.matches(self.name.as_ref(), &claim.docker_reference) {
            let (made, wanted) = (&claim.docker_reference, identity.words());
            return Err(format!(
                "it was made for {made:?}, but must be for {wanted}"
            ));
        }
        let about = self.digests.iter().find(|digest| claim.is_about(digest));
        about
            .copied()
            .ok_or_else(|| format!("it is a signature of another image, {}", claim.digest))
    }
}

fn unusable(problem: Problem, steps: &mut Vec<Step>) -> Unmet {
    steps.push(Step::fails(2, problem.clone()));
    Unmet::Unproved(format!("its keys cannot be used: {problem}"))
}

fn keyring(requirement: &SignedBy) -> Result<Keyring, Problem> {
    let mut keyring = Keyring::default();
    for piece in requirement.keys.load()? {
        let place = piece.place;
        keyring
            .add(&piece.bytes)
            .map_err(|problem| format!("{place}: {problem}"))?;
    }
    let empty = keyring.fingerprints().next().is_none();
    match empty {
        false => Ok(keyring),
        true => Err(format!("{} has no OpenPGP key", requirement.keys.words())),
    }
}
