//! The requirement `sigstoreSigned`: keys and authorities of a policy and one attachment come in; who
//! signed what goes out. Never asks a server: what a transparency log says must be in the attachment.

use super::certificate::{Authorities, Presented, Verified};
use super::json::{Problem, decode_base64, named};
use super::material::{Material, Piece};
use super::public_key::PublicKey;
use super::rekor::{self, Seen};
use super::requirement::{Signer, SigstoreSigned};
use super::simple::Claim;
use super::stored::Attachment;

/// The signature, base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The promise of a transparency log, JSON.
const PROMISE: &str = "dev.sigstore.cosign/bundle";
/// The signer's certificate, PEM.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// What leads from it to an authority, PEM.
const CHAIN: &str = "dev.sigstore.cosign/chain";

/// Whose signatures count, keys and certificates read.
#[derive(Debug)]
pub(super) struct TrustRoot {
    signer: Trusted,
    rekor: Option<Vec<PublicKey>>,
}

#[derive(Debug)]
enum Trusted {
    Keys(Vec<(String, PublicKey)>),
    Fulcio {
        authorities: Authorities,
        issuer: String,
        email: String,
    },
    Pki {
        authorities: Authorities,
        email: Option<String>,
        hostname: Option<String>,
    },
}

/// Who signed, and what.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) claim: Claim,
    /// The key: where the policy has it, or whose certificate it is of.
    pub(super) by: String,
    /// The key's own name.
    pub(super) fingerprint: String,
}

impl TrustRoot {
    /// Reads what a requirement names.
    pub(super) fn load(requirement: &SigstoreSigned) -> Result<Self, Problem> {
        let signer = match &requirement.signer {
            Signer::Keys(material) => Trusted::Keys(load_keys(material)?),
            Signer::Fulcio { ca, issuer, email } => Trusted::Fulcio {
                authorities: Authorities::parse(&one(ca)?.bytes, None)?,
                issuer: issuer.clone(),
                email: email.clone(),
            },
            Signer::Pki {
                roots,
                intermediates,
                email,
                hostname,
            } => {
                let between = intermediates.as_ref().map(one).transpose()?;
                let between = between.as_ref().map(|piece| &*piece.bytes);
                Trusted::Pki {
                    authorities: Authorities::parse(&one(roots)?.bytes, between)?,
                    email: email.clone(),
                    hostname: hostname.clone(),
                }
            }
        };
        let rekor = requirement.rekor.as_ref().map(load_rekor).transpose()?;
        Ok(Self { signer, rekor })
    }

    /// Whose signatures count, for explanations.
    pub(super) fn words(&self) -> String {
        let who = match &self.signer {
            Trusted::Keys(keys) => {
                let names = keys
                    .iter()
                    .map(|(place, key)| format!("{} from {place}", key.fingerprint()));
                format!("keys: {}", names.collect::<Vec<_>>().join(", "))
            }
            Trusted::Fulcio { issuer, email, .. } => {
                format!("certificates of Fulcio for {email} by the word of {issuer}")
            }
            Trusted::Pki {
                email, hostname, ..
            } => {
                let names: Vec<_> = [email, hostname].into_iter().flatten().cloned().collect();
                format!("certificates for {}", names.join(", "))
            }
        };
        match &self.rekor {
            Some(log) => format!("{who}; seen by a transparency log ({} keys)", log.len()),
            None => who,
        }
    }

    /// Verifies one attachment; `now` in seconds since 1970.
    pub(super) fn verify(&self, attachment: &Attachment, now: i64) -> Result<Signed, Problem> {
        let signature = annotation(attachment, SIGNATURE)?;
        let (keys, by) = match &self.signer {
            Trusted::Keys(keys) => (self.logged(keys, attachment, signature)?, None),
            Trusted::Fulcio {
                authorities,
                issuer,
                email,
            } => {
                let leaf = self.logged_certificate(authorities, attachment, signature)?;
                let found = leaf.issuer()?;
                if found != *issuer {
                    return Err(format!(
                        "the signer's identity is {found}'s word, not {issuer}'s"
                    ));
                }
                leaf.require_email(email)?;
                let by = format!("{email} (by the word of {issuer})");
                (vec![(String::new(), leaf.key()?)], Some(by))
            }
            Trusted::Pki {
                authorities,
                email,
                hostname,
            } => {
                let leaf = authorities.verify(presented(attachment)?, now)?;
                if let Some(email) = email {
                    leaf.require_email(email)?;
                }
                if let Some(hostname) = hostname {
                    leaf.require_hostname(hostname)?;
                }
                let names: Vec<_> = [email, hostname].into_iter().flatten().cloned().collect();
                (vec![(String::new(), leaf.key()?)], Some(names.join(", ")))
            }
        };
        verify_payload(&keys, &attachment.payload, signature, by)
    }

    /// The keys that may have signed: all, or those that the transparency log names.
    fn logged(
        &self,
        keys: &[(String, PublicKey)],
        attachment: &Attachment,
        signature: &str,
    ) -> Result<Vec<(String, PublicKey)>, Problem> {
        let Some(log) = &self.rekor else {
            return Ok(keys.to_vec());
        };
        let promise = annotation(attachment, PROMISE)?;
        let mut why = String::new();
        for key in keys {
            let seen = Seen {
                signer: key.1.der(),
                signature,
                payload: &attachment.payload,
            };
            match rekor::verify(promise.as_bytes(), log, &seen) {
                // A promise is about one key.
                Ok(_) => return Ok(vec![key.clone()]),
                Err(problem) => why = problem,
            }
        }
        Err(why)
    }

    /// The certificate, valid when the log saw the signature.
    fn logged_certificate(
        &self,
        authorities: &Authorities,
        attachment: &Attachment,
        signature: &str,
    ) -> Result<Verified, Problem> {
        let log = self.rekor.as_deref().unwrap_or_default();
        let promise = annotation(attachment, PROMISE)?;
        let presented = presented(attachment)?;
        let leaf = super::pem::only(presented.leaf, "the certificate")?;
        let seen = Seen {
            signer: &leaf.der,
            signature,
            payload: &attachment.payload,
        };
        let time = rekor::verify(promise.as_bytes(), log, &seen)?;
        authorities.verify(presented, time)
    }
}

fn presented(attachment: &Attachment) -> Result<Presented<'_>, Problem> {
    let chain = attachment.annotations.get(CHAIN);
    Ok(Presented {
        leaf: annotation(attachment, CERTIFICATE)?.as_bytes(),
        chain: chain
            .map(|chain| chain.as_bytes())
            .filter(|c| !c.is_empty()),
    })
}

fn annotation<'a>(attachment: &'a Attachment, key: &str) -> Result<&'a str, Problem> {
    let value = attachment.annotations.get(key);
    value
        .map(|value| &**value)
        .ok_or_else(|| format!("the signature has no annotation {key}"))
}

/// Verifies a payload against keys, with their places, and reads it.
fn verify_payload(
    keys: &[(String, PublicKey)],
    payload: &[u8],
    signature: &str,
    by: Option<String>,
) -> Result<Signed, Problem> {
    let bytes = named("the signature", decode_base64(signature))?;
    let found = keys.iter().find(|(_, key)| key.verifies(payload, &bytes));
    let (place, key) = found.ok_or("the signature is by none of the keys, or was changed")?;
    let claim = Claim::of_sigstore(payload);
    Ok(Signed {
        claim: claim.map_err(|problem| format!("what was signed cannot be used: {problem}"))?,
        by: by.unwrap_or_else(|| place.clone()),
        fingerprint: key.fingerprint(),
    })
}

fn one(material: &Material) -> Result<Piece, Problem> {
    let mut pieces = material.load()?;
    pieces.pop().ok_or_else(|| "it names no file".into())
}

fn load_keys(material: &Material) -> Result<Vec<(String, PublicKey)>, Problem> {
    let pieces = material.load()?.into_iter();
    let keys = pieces.map(|piece| match PublicKey::parse(&piece.bytes) {
        Ok(key) => Ok((piece.place, key)),
        Err(problem) => Err(format!(
            "the key in {} cannot be used: {problem}",
            piece.place
        )),
    });
    keys.collect()
}

fn load_rekor(material: &Material) -> Result<Vec<PublicKey>, Problem> {
    let keys = load_keys(material)?.into_iter();
    let keys = keys.map(|(place, key)| match key.is_ecdsa() {
        true => Ok(key),
        false => Err(format!(
            "the transparency log's key in {place} is not for ECDSA"
        )),
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::image::vectors::{list, load, text};

    #[test]
    fn payloads_agree_with_containers_image() {
        let Some((folder, table)) = load("signatures") else {
            return;
        };
        for case in list(&table["sigstore_payload_verification"], "cases") {
            let payload = BASE64_STANDARD
                .decode(text(case, "payload_base64"))
                .unwrap();
            let keys = list(case, "public_keys").map(|key| {
                let name = key.as_str().unwrap();
                let pem = std::fs::read(folder.join(name)).unwrap();
                (name.to_owned(), PublicKey::parse(&pem).unwrap())
            });
            let keys: Vec<_> = keys.collect();
            let found = verify_payload(&keys, &payload, text(case, "signature"), None);
            let expected = text(case, "expect") == "accept";
            assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
        }
    }
}
