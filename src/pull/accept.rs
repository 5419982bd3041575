//! What a reference means now, and whether this host may use that. A source, a reference and rules come
//! in; a manifest that every requirement has accepted goes out, and nothing but its bytes is used for
//! the pull. Whatever cannot be verified is refused before anything of the image is fetched.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::plan::PullPlan;
use crate::image::{
    ImageReference, LayerKind, Manifest, OstreeImageReference, SignatureSource, StoredSignature,
};
use crate::repo::{CommitSigner, CommitUnsigned, Damaged, ImageRecord, Repo};
use crate::sys::journal::{self, Priority};
use crate::transport::{ImageSource, Resolved, resolve};
use crate::trust::{Denied, Judgement, Kind, Reason, Rules, Ruling, Subject, Verdict, VerifiedBy};

/// MESSAGE_ID of the journal's entry about an image that was accepted.
const IMAGE_ACCEPTED: &str = "5d0a2f3c6b944e6f8f1c7a90d2e4b713";

/// An image that the signature policy accepts, as it is now.
#[derive(Debug)]
pub struct Accepted {
    /// The image, and which signatures its user asks for.
    pub image: OstreeImageReference,
    /// Its manifest; the policy was asked about exactly these bytes.
    pub resolved: Resolved,
    /// Why it was accepted.
    pub verdict: Verdict,
    /// Whether layers that nothing vouches for may lie on a signed ostree commit.
    unsigned_layers: bool,
    /// Whether its digest was asked for.
    pinned: bool,
}

/// Asks the source what the reference means now, and the policy whether that may be used. The error is
/// a [`Denied`] where it may not.
pub async fn accept(
    source: &dyn ImageSource,
    image: &OstreeImageReference,
    arch: &str,
    rules: &Rules,
) -> Result<Accepted> {
    let resolved = resolve(source, arch).await;
    let resolved = resolved.with_context(|| format!("Resolving {}", image.imgref))?;
    accept_resolved(source, image, resolved, rules).await
}

/// Asks the policy whether what a reference means may be used.
async fn accept_resolved(
    source: &dyn ImageSource,
    image: &OstreeImageReference,
    resolved: Resolved,
    rules: &Rules,
) -> Result<Accepted> {
    resolved.insist(rules.require_digest.as_ref(), &image.imgref.to_string())?;
    let judgement = judge(source, image, &resolved, rules).await?;
    let verdict = judgement.verdict?;
    tracing::info!("{} is accepted: {verdict}", image.imgref);
    Ok(Accepted::new(image, resolved, verdict, rules))
}

/// `accept_resolved` for an image that goes past the repository, where nobody could verify an ostree
/// commit inside it: asking for that is refused.
pub async fn accept_copy(
    source: &dyn ImageSource,
    image: &OstreeImageReference,
    resolved: Resolved,
    rules: &Rules,
) -> Result<()> {
    let accepted = accept_resolved(source, image, resolved, rules).await?;
    match accepted.remote() {
        None => Ok(()),
        Some(remote) => {
            let problem = format!(
                "only a pull into a repository verifies the ostree commit inside (remote {remote:?})"
            );
            Err(accepted.denied(Reason::CommitUnsigned { problem }).into())
        }
    }
}

/// Fetches the signatures of an image, if the policy asks for any, and judges.
pub async fn judge(
    source: &dyn ImageSource,
    image: &OstreeImageReference,
    resolved: &Resolved,
    rules: &Rules,
) -> Result<Judgement> {
    let subject = Subject {
        image: image.clone(),
        manifest: resolved.manifest.digest(),
        index: resolved.index,
    };
    let ruling = Ruling::of(subject, &rules.policy)?;
    let signatures = match ruling.wants_signatures() {
        true => source.signatures(&ruling.subject().digests()).await,
        false => Ok(Vec::new()),
    };
    let signatures =
        signatures.with_context(|| format!("Fetching signatures of {}", image.imgref))?;
    let judgement = ruling.judge(&signatures, now());
    if signatures.is_empty() || !judgement.is_unproved() {
        return Ok(judgement);
    }
    // A mirror with bad signatures must not hide the good ones.
    let all = source.all_signatures(&ruling.subject().digests()).await;
    let is_new = |s: &StoredSignature| signatures.iter().all(|known| known.content != s.content);
    Ok(match all.iter().any(is_new) {
        true => ruling.judge(&all, now()),
        false => judgement,
    })
}

/// Who vouched for a stored image when it was last pulled; `None` where nobody has noted it.
pub fn noted(repo: &Repo, commit: &str) -> Result<Option<Vec<VerifiedBy>>> {
    let text = repo.vouched(commit)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Who vouches for the commit inside.
pub(super) fn signed_by(signers: Vec<CommitSigner>, commit: &str, remote: &str) -> Vec<VerifiedBy> {
    let by = signers.into_iter().map(|signer| VerifiedBy {
        kind: match signer.gpg {
            true => Kind::OstreeGpg,
            false => Kind::OstreeSign,
        },
        key: signer.key,
        identity: format!("commit {commit} (remote {remote})"),
        digest: None,
    });
    by.collect()
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

impl Accepted {
    /// An image about which there is a verdict.
    pub fn new(
        image: &OstreeImageReference,
        resolved: Resolved,
        verdict: Verdict,
        rules: &Rules,
    ) -> Self {
        Self {
            image: image.clone(),
            resolved,
            verdict,
            unsigned_layers: rules.unsigned_layers,
            pinned: rules.require_digest.is_some(),
        }
    }

    /// Where the image comes from.
    pub const fn imgref(&self) -> &ImageReference {
        &self.image.imgref
    }

    /// Its manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.resolved.manifest
    }

    /// The ostree remote that has to vouch for the commit inside.
    pub fn remote(&self) -> Option<&str> {
        match &self.image.sigverify {
            SignatureSource::OstreeRemote(remote) => Some(remote),
            SignatureSource::ContainerPolicy | SignatureSource::ContainerPolicyAllowInsecure => {
                None
            }
        }
    }

    /// Whether anybody vouches for its content.
    pub fn is_signed(&self) -> bool {
        self.remote().is_some() || !self.verdict.signatures().is_empty()
    }

    /// Whether another manifest of the same content would not do.
    pub fn is_exact(&self) -> bool {
        self.pinned || self.is_signed()
    }

    /// Insists on a signature that a policy asks for, whatever the reference says.
    pub fn require_policy_signature(&self) -> Result<(), Denied> {
        match self.verdict.signatures().is_empty() {
            true => Err(self.denied(Reason::NothingVerified(self.verdict.clone()))),
            false => Ok(()),
        }
    }

    pub(super) fn denied(&self, reason: Reason) -> Denied {
        let subject = Subject {
            image: self.image.clone(),
            manifest: self.resolved.manifest.digest(),
            index: self.resolved.index,
        };
        subject.denied(reason)
    }

    /// Refuses layers that the remote's signature does not cover, and a stored commit that is not
    /// signed. The commit of a layer that is still to come is verified when it comes.
    pub(super) fn check_plan(&self, repo: &Repo, plan: &PullPlan) -> Result<()> {
        let Some(remote) = self.remote() else {
            return Ok(());
        };
        let base = plan.layers.first();
        let Some(base) = base.filter(|base| base.layer.kind == LayerKind::Base) else {
            let remote = remote.into();
            return Err(self.denied(Reason::NoCommit { remote }).into());
        };
        let derived = plan.layers.iter();
        let count = derived
            .filter(|l| l.layer.kind == LayerKind::Derived)
            .count();
        let covered = self.unsigned_layers || !self.verdict.signatures().is_empty();
        if count > 0 && !covered {
            let remote = remote.into();
            return Err(self.denied(Reason::UnsignedLayers { remote, count }).into());
        }
        match base.commit() {
            Some(commit) => self.verify_commit(repo, commit, remote).map(|_| ()),
            None => Ok(()),
        }
    }

    fn verify_commit(&self, repo: &Repo, commit: &str, remote: &str) -> Result<Vec<CommitSigner>> {
        repo.verify_commit(commit, remote).map_err(|error| {
            match error.downcast_ref::<CommitUnsigned>() {
                Some(unsigned) => {
                    let problem = unsigned.to_string();
                    self.denied(Reason::CommitUnsigned { problem }).into()
                }
                None => error,
            }
        })
    }

    /// Every signature that vouches for the stored image: of its manifest, and of the commit inside.
    pub fn vouched(&self, repo: &Repo, record: &ImageRecord) -> Result<Vec<VerifiedBy>> {
        let mut by = self.verdict.signatures().to_vec();
        let Some(remote) = self.remote() else {
            return Ok(by);
        };
        let inventory = repo.inventory()?;
        let (manifest, config) = (record.manifest.clone(), record.config.clone());
        let plan = PullPlan::new(self.imgref().clone(), manifest, config, &inventory)?;
        self.check_plan(repo, &plan)?;
        let commit = plan.layers.first().and_then(|base| base.commit());
        let commit = commit.context("the image's ostree commit is not in the repository")?;
        let signers = self.verify_commit(repo, commit, remote)?;
        by.extend(signed_by(signers, commit, remote));
        Ok(by)
    }

    /// Notes beside the stored image who vouches for it, and tells the journal what is new.
    pub fn note(&self, repo: &Repo, record: &ImageRecord) -> Result<Vec<VerifiedBy>> {
        let by = self.vouched(repo, record)?;
        let text = serde_json::to_string(&by)?;
        // Whoever may not write there is told no less by the verdict itself.
        let noted = repo.vouched(&record.commit)?.as_ref() == Some(&text);
        if noted {
            return Ok(by);
        }
        repo.set_vouched(&record.commit, &text)?;
        let words: Vec<_> = by.iter().map(VerifiedBy::to_string).collect();
        let words = match words.is_empty() {
            true => format!("unverified: {}", self.verdict),
            false => words.join("; "),
        };
        let (image, digest) = (self.image.to_string(), record.manifest_digest.to_string());
        let fields = [
            ("BOWLINE_IMAGE", &*image),
            ("BOWLINE_IMAGE_DIGEST", &*digest),
            ("BOWLINE_VERIFIED", &*words),
        ];
        let message = format!("{image} ({digest}) was accepted: {words}");
        journal::send(Priority::Info, IMAGE_ACCEPTED, &message, &fields);
        Ok(by)
    }

    /// Insists that a stored image that somebody vouches for is on the disk what it was when it was
    /// verified. Reads all of it.
    pub fn require_sound(&self, repo: &Repo, record: &ImageRecord) -> Result<()> {
        if !self.is_signed() {
            return Ok(());
        }
        let sound = repo.require_sound(&record.commit);
        sound.map_err(|error| match error.downcast_ref::<Damaged>() {
            Some(damaged) => {
                let problem = damaged.to_string();
                self.denied(Reason::Tampered { problem }).into()
            }
            None => error,
        })
    }
}
