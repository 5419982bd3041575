//! This room's parsers of outside bytes, for tests that feed them anything. Bytes come in; only a
//! panic would be wrong, or a verdict where nothing was verified.

use super::openpgp::Keyring;
use super::public_key::PublicKey;
use super::simple::Claim;
use super::stored::Signature;
use super::{certificate, rekor};

/// A file with a signature, as `dir:` and lookaside servers have them.
pub fn signature(data: &[u8]) {
    drop(Signature::of_file(data));
}

/// What signatures sign, in both kinds.
pub fn payload(data: &[u8]) {
    let (gpg, sigstore) = (Claim::of_simple_signing(data), Claim::of_sigstore(data));
    // Each has a type of its own.
    assert!(gpg.is_err() || sigstore.is_err());
}

/// A file with OpenPGP keys, its length in two bytes before it, and a message behind it; and each of
/// these alone.
pub fn openpgp(data: &[u8]) {
    let length = |bytes: &[u8; 2]| usize::from(u16::from_be_bytes(*bytes));
    let parts = data
        .split_first_chunk()
        .and_then(|(bytes, rest)| rest.split_at_checked(length(bytes)));
    for (keys, message) in parts.into_iter().chain([(data, data)]) {
        let mut keyring = Keyring::default();
        assert!(
            keyring.verify(message, 0).is_err(),
            "nobody is in the keyring"
        );
        drop(keyring.add(keys));
        drop(keyring.verify(message, 1_900_000_000));
    }
}

/// Keys and certificates of sigstore.
pub fn certificate(data: &[u8]) {
    if let Ok(key) = PublicKey::parse(data) {
        assert!(!key.verifies(b"message", data));
    }
    certificate::probe(data);
}

/// The promise of a transparency log.
pub fn promise(data: &[u8]) {
    rekor::probe(data);
}
