//! Signs ostree commits as `ostree gpg-sign` and `ostree sign` do: a commit and a key come in, a signature
//! beside those in the commit's detached metadata goes out. GPG is libostree's and GnuPG's work; ed25519 is
//! done here because libostree can be built without it, as Debian's is. Never changes the commit.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fn_error_context::context;
use ostree::gio;
use ostree::glib::prelude::*;
use ring::signature::Ed25519KeyPair;
use thiserror::Error;

use super::ed25519::META_SIGNATURES;
use super::object::ObjectKind;
use super::store::Repo;
use crate::image::Digest;

/// Bytes of a seed, and of a public key.
const HALF: usize = 32;

/// Why a key does not sign commits.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommitSignError {
    /// It has another form.
    #[error(
        "it has no secret key for ed25519: 64 bytes in base64, the seed and the public key, as \
         `ostree sign --keys-file` reads them"
    )]
    Form,
    /// GnuPG did not sign.
    #[error("GnuPG does not sign with the key {key:?}: {said}")]
    Gpg {
        /// The key, as it was asked for.
        key: String,
        /// What libostree said.
        said: String,
    },
}

/// A secret key for ed25519.
pub struct CommitKey(Ed25519KeyPair);

impl std::fmt::Debug for CommitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CommitKey")
    }
}

impl CommitKey {
    /// Reads a file of secret keys, one in each line; there is at least one.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, CommitSignError> {
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty()).map(Self::parse);
        let keys = keys.collect::<Option<Vec<_>>>();
        keys.filter(|keys| !keys.is_empty())
            .ok_or(CommitSignError::Form)
    }

    fn parse(line: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(line).ok()?;
        if bytes.len() != 2 * HALF {
            return None;
        }
        let (seed, public) = bytes.split_at(HALF);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
        pair.ok().map(Self)
    }
}

impl Repo {
    /// Signs a commit with an ed25519 key. A signature that is there already is left as it is.
    #[context("Signing commit {}", commit.hex())]
    pub fn sign_ed25519(&self, commit: &Digest, key: &CommitKey) -> Result<()> {
        let data = self.metadata_object(*commit, ObjectKind::Commit)?;
        ensure!(
            Digest::of(&data) == *commit,
            "the commit was changed on the disk: run `ostree fsck` on the repository"
        );
        let signature = key.0.sign(&data).as_ref().to_vec();
        let checksum = commit.hex();
        let metadata = self.detached(&checksum)?;
        let found = metadata.lookup::<Vec<Vec<u8>>>(META_SIGNATURES);
        let mut signatures = found.context("Reading its signatures")?.unwrap_or_default();
        if signatures.contains(&signature) {
            return Ok(());
        }
        signatures.push(signature);
        metadata.insert_value(META_SIGNATURES, &signatures.to_variant());
        self.set_detached(&checksum, &metadata.end())
    }

    /// Signs a commit with a key of GnuPG's (a fingerprint or key ID), in `home` if that is given. As with
    /// `ostree gpg-sign`, the key may have signed it before.
    #[context("Signing commit {}", commit.hex())]
    pub fn sign_gpg(&self, commit: &Digest, key: &str, home: Option<&Path>) -> Result<()> {
        let home = home.map(|home| home.to_string_lossy());
        let none = gio::Cancellable::NONE;
        let signed = self
            .ostree()
            .sign_commit(&commit.hex(), key, home.as_deref(), none);
        match signed {
            Err(error) if !error.matches(gio::IOErrorEnum::Exists) => Err(CommitSignError::Gpg {
                key: key.into(),
                said: error.message().into(),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::KeyPair as _;

    use super::*;
    use crate::testing::fixture::{Fixture, OS};

    fn secret(seed: u8) -> String {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; HALF]).unwrap();
        BASE64_STANDARD.encode([&[seed; HALF][..], pair.public_key().as_ref()].concat())
    }

    #[test]
    fn a_file_has_one_key_or_more() {
        let count = |text: &str| CommitKey::parse_all(text).map(|keys| keys.len());
        assert_eq!(count(&format!("{}\n", secret(1))), Ok(1));
        assert_eq!(count(&format!("{}\r\n\n {} ", secret(1), secret(2))), Ok(2));
        let halves = [&secret(1)[..40], &secret(2)[40..]].concat();
        for text in ["", "\n", "AAAA", "-----BEGIN", &secret(1)[..84], &halves] {
            assert_eq!(count(text), Err(CommitSignError::Form), "{text}");
        }
        let both = format!("{}\nAAAA", secret(1));
        assert_eq!(count(&both), Err(CommitSignError::Form));
    }

    #[test]
    fn signatures_come_beside_what_is_noted() {
        let fixture = Fixture::new().unwrap();
        let checksum = fixture.commit(OS).unwrap();
        let commit = Digest::from_hex(&checksum).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        repo.set_vouched(&checksum, "somebody").unwrap();
        let keys = CommitKey::parse_all(&format!("{}\n{}", secret(1), secret(2))).unwrap();
        for key in keys.iter().chain(&keys) {
            repo.sign_ed25519(&commit, key).unwrap();
        }
        let found = repo.detached(&checksum).unwrap();
        let found = found
            .lookup::<Vec<Vec<u8>>>(META_SIGNATURES)
            .unwrap()
            .unwrap();
        let data = repo
            .object_bytes(commit, ObjectKind::Commit)
            .unwrap()
            .unwrap();
        let expected: Vec<_> = keys
            .iter()
            .map(|k| k.0.sign(&data).as_ref().to_vec())
            .collect();
        assert_eq!(found, expected);
        assert_eq!(
            repo.vouched(&checksum).unwrap().as_deref(),
            Some("somebody")
        );
        let other = Digest::of(b"");
        assert!(repo.sign_ed25519(&other, &keys[0]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_not(text: String, bytes in prop::collection::vec(any::<u8>(), 60..68)) {
            // Only a panic would be wrong.
            let _ = CommitKey::parse_all(&text);
            let _ = CommitKey::parse_all(&BASE64_STANDARD.encode(bytes));
        }
    }
}
