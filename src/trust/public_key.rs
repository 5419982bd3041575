//! Public keys of sigstore: PEM or the key of a certificate comes in, "this signature is good" goes
//! out. Knows ECDSA over P-256, P-384 and P-521, RSA from 2048 bits on (PKCS #1 v1.5) and Ed25519, always
//! over SHA-256 where a hash is needed, as cosign does.

use p521::ecdsa::signature::hazmat::PrehashVerifier;
use p521::ecdsa::{Signature, VerifyingKey};
use ring::signature::{self as ring_alg, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::json::Problem;
use super::pem;
use crate::image::Digest;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    kind: Kind,
    /// The whole SubjectPublicKeyInfo, DER.
    der: Vec<u8>,
    /// The key itself, in the form that its kind has.
    raw: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    P521,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// Parses the first block of a PEM text.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).ok();
        let (block, _) = text.and_then(pem::first).ok_or("it is not in PEM format")?;
        match &*block.label {
            "PUBLIC KEY" => Self::of_info(&block.der),
            other => Err(format!("it is a {other:?} and no PUBLIC KEY")),
        }
    }

    /// Takes a SubjectPublicKeyInfo, DER.
    pub(super) fn of_info(der: &[u8]) -> Result<Self, Problem> {
        let bad = |error: &dyn std::fmt::Display| format!("it is no public key: {error}");
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|error| bad(&error))?;
        let curve = || info.algorithm.parameters_oid().ok();
        let kind = match (info.algorithm.oid, curve()) {
            (EC, Some(P256)) => Kind::P256,
            (EC, Some(P384)) => Kind::P384,
            (EC, Some(P521)) => Kind::P521,
            (RSA, _) => Kind::Rsa,
            (ED25519, _) => Kind::Ed25519,
            (other, _) => return Err(format!("keys of kind {other} are not supported")),
        };
        let raw = info.subject_public_key.as_bytes();
        Ok(Self {
            kind,
            der: info.to_der().map_err(|error| bad(&error))?,
            raw: raw.ok_or("its bits are not whole bytes")?.into(),
        })
    }

    /// Whether it is one for ECDSA, as a transparency log must have.
    pub(super) const fn is_ecdsa(&self) -> bool {
        matches!(self.kind, Kind::P256 | Kind::P384 | Kind::P521)
    }

    /// The SubjectPublicKeyInfo, DER.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// What names it: the digest of its SubjectPublicKeyInfo.
    pub(super) fn fingerprint(&self) -> String {
        Digest::of(&self.der).to_string()
    }

    /// Whether `signature` over `message` is this key's.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &ring_alg::ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &ring_alg::ECDSA_P384_SHA256_ASN1,
            Kind::Rsa => &ring_alg::RSA_PKCS1_2048_8192_SHA256,
            Kind::Ed25519 => &ring_alg::ED25519,
            Kind::P521 => return verifies_p521(&self.raw, message, signature),
        };
        let key = UnparsedPublicKey::new(algorithm, &self.raw);
        key.verify(message, signature).is_ok()
    }
}

/// ring does not know this curve.
fn verifies_p521(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = VerifyingKey::from_sec1_bytes(key);
    let signature = Signature::from_der(signature);
    let (Ok(key), Ok(signature)) = (key, signature) else {
        return false;
    };
    // A number as long as the curve's, since a short hash is taken for none.
    let mut hash = [0; 66];
    hash[66 - 32..].copy_from_slice(Digest::of(message).as_bytes());
    key.verify_prehash(&hash, &signature).is_ok()
}
