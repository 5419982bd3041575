//! Private keys for sigstore signatures: the text of a file and a passphrase come in, a key that signs
//! goes out, and new pairs of keys. Never writes a file, and never puts a key or a passphrase into a
//! message.
//!
//! The forms are PKCS#8 PEM, and cosign's own (`ENCRYPTED SIGSTORE PRIVATE KEY`): JSON with scrypt
//! and XSalsa20-Poly1305 around PKCS#8. Keys are ECDSA on P-256, cosign's own choice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::trust::pem;

/// What cosign calls its encrypted keys now, and what it used to.
const ENCRYPTED: [&str; 2] = [
    "ENCRYPTED SIGSTORE PRIVATE KEY",
    "ENCRYPTED COSIGN PRIVATE KEY",
];
const PLAIN: &str = "PRIVATE KEY";

/// What new keys are encrypted with: the strength that every reader of the format takes.
const STRENGTH: Strength = Strength {
    n: 1 << 15,
    r: 8,
    p: 1,
};
/// The most that is spent on opening a key: 128 MiB.
const MAX_N: u32 = 1 << 17;

/// What stands before the 65 bytes of a point of P-256 in a SubjectPublicKeyInfo (RFC 5480).
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a file is no key that can be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// It has another form.
    #[error(
        "it is not a private key of cosign or in PKCS#8 form; `openssl pkcs8 -topk8 -nocrypt` changes \
         the form of a key"
    )]
    Form,
    /// The passphrase is wrong, or the file damaged.
    #[error("it cannot be decrypted: the passphrase is wrong (or the file is damaged)")]
    Passphrase,
    /// It is a key for something else.
    #[error("it is not a key for ECDSA on P-256, as cosign makes them")]
    Kind,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A private key.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A new pair of keys, as the texts of two files.
pub struct NewPair {
    /// For whoever signs, encrypted.
    pub private: String,
    /// For everybody.
    pub public: String,
}

impl std::fmt::Debug for NewPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewPair")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Strength,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Strength {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl PrivateKey {
    /// Reads a key. `passphrase` is not looked at if the key is not encrypted.
    pub fn parse(text: &str, passphrase: &[u8]) -> Result<Self, KeyError> {
        let (block, _) = pem::first(text).ok_or(KeyError::Form)?;
        let der = match &*block.label {
            PLAIN => block.der,
            label if ENCRYPTED.contains(&label) => unseal(&block.der, passphrase)?,
            _ => return Err(KeyError::Form),
        };
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random);
        let pair = pair.map_err(|_| KeyError::Kind)?;
        Ok(Self { pair, random })
    }

    /// The public key, as PEM.
    pub fn public(&self) -> String {
        let der = [&SPKI[..], self.pair.public_key().as_ref()].concat();
        to_pem("PUBLIC KEY", &der)
    }

    /// Signs (ECDSA with SHA-256, ASN.1).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&self.random, message);
        let signature = signature.map_err(|_| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl NewPair {
    /// Makes keys, the private one encrypted with `passphrase`.
    pub fn generate(passphrase: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let der = der.map_err(|_| KeyError::Random)?;
        let sealed = seal(der.as_ref(), passphrase)?;
        let private = to_pem(ENCRYPTED[0], &sealed);
        let public = PrivateKey::parse(&private, passphrase)?.public();
        Ok(Self { private, public })
    }
}

fn unseal(body: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, KeyError> {
    let sealed: Sealed = serde_json::from_slice(body).map_err(|_| KeyError::Form)?;
    let known = sealed.kdf.name == "scrypt" && sealed.cipher.name == "nacl/secretbox";
    let Strength { n, r, p } = sealed.kdf.params;
    if !known || !n.is_power_of_two() || !(2..=MAX_N).contains(&n) || r != 8 || p != 1 {
        return Err(KeyError::Form);
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| KeyError::Form);
    let (salt, nonce) = (bytes(&sealed.kdf.salt)?, bytes(&sealed.cipher.nonce)?);
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| KeyError::Form)?;
    let cipher = cipher(passphrase, &salt, sealed.kdf.params)?;
    let opened = cipher.decrypt(&Nonce::from(nonce), &*bytes(&sealed.ciphertext)?);
    opened.map_err(|_| KeyError::Passphrase)
}

fn seal(der: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, KeyError> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; 32], [0; 24]);
    for bytes in [&mut salt[..], &mut nonce[..]] {
        random.fill(bytes).map_err(|_| KeyError::Random)?;
    }
    let cipher = cipher(passphrase, &salt, STRENGTH)?;
    let sealed = cipher.encrypt(&Nonce::from(nonce), der);
    let sealed = Sealed {
        kdf: Kdf {
            name: "scrypt".into(),
            params: STRENGTH,
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher {
            name: "nacl/secretbox".into(),
            nonce: STANDARD.encode(nonce),
        },
        ciphertext: STANDARD.encode(sealed.map_err(|_| KeyError::Random)?),
    };
    serde_json::to_vec(&sealed).map_err(|_| KeyError::Form)
}

fn cipher(
    passphrase: &[u8],
    salt: &[u8],
    strength: Strength,
) -> Result<XSalsa20Poly1305, KeyError> {
    let log_n = u8::try_from(strength.n.trailing_zeros()).map_err(|_| KeyError::Form)?;
    let params = scrypt::Params::new(log_n, strength.r, strength.p, 32);
    let params = params.map_err(|_| KeyError::Form)?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase, salt, &params, &mut key).map_err(|_| KeyError::Form)?;
    Ok(XSalsa20Poly1305::new(&key.into()))
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    fn point(public: &str) -> Vec<u8> {
        let (block, _) = pem::first(public).unwrap();
        assert_eq!(block.label, "PUBLIC KEY");
        block.der.strip_prefix(&SPKI).unwrap().to_vec()
    }

    #[test]
    fn a_new_pair_signs_and_verifies() {
        let pair = NewPair::generate(b"secret").unwrap();
        let key = PrivateKey::parse(&pair.private, b"secret").unwrap();
        let signature = key.sign(b"message").unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point(&pair.public));
        assert!(public.verify(b"message", &signature).is_ok());
        assert!(public.verify(b"massage", &signature).is_err());
        assert!(
            pair.private
                .starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
        );
        let wrong = PrivateKey::parse(&pair.private, b"Secret").unwrap_err();
        assert_eq!(wrong, KeyError::Passphrase);
        let renamed = pair.private.replace("SIGSTORE", "COSIGN");
        assert_eq!(
            PrivateKey::parse(&renamed, b"secret").unwrap().public(),
            pair.public
        );
    }

    #[test]
    fn plain_keys_need_no_passphrase() {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let text = to_pem("PRIVATE KEY", der.unwrap().as_ref());
        assert!(PrivateKey::parse(&text, b"").is_ok());
        let sec1 = text.replace("PRIVATE KEY", "EC PRIVATE KEY");
        assert_eq!(PrivateKey::parse(&sec1, b"").unwrap_err(), KeyError::Form);
        let other = to_pem("PRIVATE KEY", b"0");
        assert_eq!(PrivateKey::parse(&other, b"").unwrap_err(), KeyError::Kind);
    }

    #[test]
    fn a_key_may_not_cost_any_amount_of_memory() {
        let sealed = serde_json::json!({
            "kdf": {"name": "scrypt", "params": {"N": 1u32 << 30, "r": 8, "p": 1}, "salt": ""},
            "cipher": {"name": "nacl/secretbox", "nonce": ""}, "ciphertext": "",
        });
        let text = to_pem(ENCRYPTED[0], sealed.to_string().as_bytes());
        assert_eq!(PrivateKey::parse(&text, b"").unwrap_err(), KeyError::Form);
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_not(text: String, der in prop::collection::vec(any::<u8>(), 0..200)) {
            // Only a panic would be wrong.
            let _ = PrivateKey::parse(&text, b"");
            for label in [PLAIN, ENCRYPTED[0], &text] {
                let _ = PrivateKey::parse(&to_pem(label, &der), b"");
            }
        }

        #[test]
        fn sealed_keys_are_what_they_say_or_nothing(
            n in prop::sample::select(vec![0u32, 1, 2, 3, 16]),
            (r, p) in (7u32..=9, 0u32..=2),
            salt in "[A-Za-z0-9+/=]{0,12}",
            nonce in "[A-Za-z0-9+/]{28,36}",
            ciphertext in "[A-Za-z0-9+/=]{0,40}",
        ) {
            let sealed = serde_json::json!({
                "kdf": {"name": "scrypt", "params": {"N": n, "r": r, "p": p}, "salt": salt},
                "cipher": {"name": "nacl/secretbox", "nonce": nonce}, "ciphertext": ciphertext,
            });
            let text = to_pem(ENCRYPTED[0], sealed.to_string().as_bytes());
            let error = PrivateKey::parse(&text, b"").unwrap_err();
            prop_assert!(matches!(error, KeyError::Form | KeyError::Passphrase));
        }
    }
}
