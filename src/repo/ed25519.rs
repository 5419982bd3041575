//! Ed25519 signatures of commits (libostree, "ostree sign"): a remote's settings, a commit and what is
//! noted about it come in; the key that signed goes out, or why none did. Done here because libostree
//! can be built without it, as Debian's is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ostree::glib::VariantDict;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::commit;

/// Signatures in detached metadata (`aay`).
pub(super) const META_SIGNATURES: &str = "ostree.sign.ed25519";
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// The largest key file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Signatures of one commit that are looked at.
const MAX_SIGNATURES: usize = 64;
/// Where keys are named that are worth nothing any more (ostree-sign(1)).
const REVOKED: [&str; 2] = ["/etc/ostree", "/usr/share/ostree"];

/// What a remote's settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// `verification-ed25519-key`.
    pub(super) key: Option<String>,
    /// `verification-ed25519-file`.
    pub(super) file: Option<String>,
}

impl Settings {
    /// Whether there are any keys.
    pub(super) const fn is_empty(&self) -> bool {
        self.key.is_none() && self.file.is_none()
    }

    /// The keys in force. A file that cannot be read, or a key that is none, is an error.
    fn keys(&self) -> Result<BTreeSet<Vec<u8>>, String> {
        let mut keys = BTreeSet::new();
        if let Some(key) = &self.key {
            let key = parse_key(key).ok_or("verification-ed25519-key is no key")?;
            keys.insert(key);
        }
        if let Some(file) = &self.file {
            let text = read(Path::new(file)).map_err(|error| format!("{file}: {error}"))?;
            keys.extend(text.lines().filter_map(parse_key));
        }
        for dir in REVOKED.map(Path::new) {
            for key in revoked(dir) {
                keys.remove(&key);
            }
        }
        match keys.is_empty() {
            true => Err("the remote has no ed25519 key that is in force".into()),
            false => Ok(keys),
        }
    }

    /// Which of the remote's keys has signed the commit, in base64.
    pub(super) fn verify(&self, data: &[u8], noted: &[u8]) -> Result<String, String> {
        let keys = self.keys()?;
        let noted =
            commit::detached_dictionary(noted).ok_or("what is noted about it is damaged")?;
        let found = VariantDict::new(Some(&noted)).lookup::<Vec<Vec<u8>>>(META_SIGNATURES);
        let signatures = found.ok().flatten().unwrap_or_default();
        if signatures.is_empty() {
            return Err("it has no ed25519 signature".into());
        }
        let signed = |key: &&Vec<u8>| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            let mut signatures = signatures.iter().take(MAX_SIGNATURES);
            signatures.any(|signature| key.verify(data, signature).is_ok())
        };
        let by = keys.iter().find(signed);
        by.map(|key| BASE64_STANDARD.encode(key))
            .ok_or_else(|| "none of its ed25519 signatures is by a key of the remote".into())
    }
}

fn parse_key(text: &str) -> Option<Vec<u8>> {
    let key = BASE64_STANDARD.decode(text.trim()).ok()?;
    (key.len() == KEY_BYTES).then_some(key)
}

fn read(path: &Path) -> std::io::Result<String> {
    match fs::metadata(path)?.len() > MAX_FILE {
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => fs::read_to_string(path),
    }
}

/// Keys in `revoked.ed25519` and below `revoked.ed25519.d`.
fn revoked(dir: &Path) -> Vec<Vec<u8>> {
    let below = fs::read_dir(dir.join("revoked.ed25519.d")).into_iter();
    let below = below.flatten().flatten().map(|entry| entry.path());
    let files = below.chain([dir.join("revoked.ed25519")]);
    let texts = files.filter_map(|file| read(&file).ok());
    let keys = texts.flat_map(|text| text.lines().filter_map(parse_key).collect::<Vec<_>>());
    keys.collect()
}

#[cfg(test)]
mod tests {
    use ostree::glib::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn key(seed: u8) -> (Ed25519KeyPair, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = BASE64_STANDARD.encode(pair.public_key());
        (pair, public)
    }

    fn noted(signatures: &[Vec<u8>]) -> Vec<u8> {
        let dictionary = VariantDict::new(None);
        dictionary.insert_value(META_SIGNATURES, &signatures.to_vec().to_variant());
        dictionary.end().normal_form().data().to_vec()
    }

    /// A commit, and what is noted about it, by libostree 2022.7 built `--with-ed25519-libsodium`:
    /// `ostree commit`, then `ostree sign --sign-type=ed25519` with the key of seed 1.
    const COMMIT: &str = "b3N0cmVlLmxpbnV4AAAAADYuMQAAcw0Ab3N0cmVlLmJvb3RhYmxlAAEAYhAAAAAAb3N0cmVlLnJlZi1iaW5kaW5n\
         AAAAAAAAeAACAGFzExcsT3N1YmplY3QAAAAAAAAAAAAAAAAAAAAE45aa/4UqMNwmi5xvJwECC9vWvvrMvOVwMBFM\
         JqX/BkRqDvEbfMFn87YD5YXH7u62dfqkEtXsc/YpiOsLbFSIiFtaUlJS";
    const NOTED: &str = "b3N0cmVlLnNpZ24uZWQyNTUxOQAAAAAAuAVFodXsklilOxoquF0IunmyabEJfq11Ks4Osbgbk2CE9ypAAP+lkPnG\
         q9piu5+9F4ry3YBJyjk5cAI2WSzjAUAAYWF5FF4=";

    #[test]
    fn ostree_signs_with_the_same_bytes() {
        let [commit, by_ostree] = [COMMIT, NOTED].map(|text| BASE64_STANDARD.decode(text).unwrap());
        let (pair, public) = key(1);
        let settings = Settings {
            key: Some(public.clone()),
            file: None,
        };
        assert_eq!(settings.verify(&commit, &by_ostree), Ok(public));
        assert_eq!(noted(&[pair.sign(&commit).as_ref().to_vec()]), by_ostree);
    }

    #[test]
    fn one_key_of_the_remote_is_enough() {
        let ((one, one_public), (two, two_public)) = (key(1), key(2));
        let sign = |pair: &Ed25519KeyPair, data: &[u8]| pair.sign(data).as_ref().to_vec();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("# keys\n{two_public}\n\n")).unwrap();
        let by_key = Settings {
            key: Some(one_public.clone()),
            file: None,
        };
        let by_both = Settings {
            file: Some(file.path().display().to_string()),
            ..by_key.clone()
        };
        let both = noted(&[sign(&two, b"commit"), sign(&one, b"commit")]);
        assert_eq!(by_key.verify(b"commit", &both), Ok(one_public));
        let second = noted(&[sign(&two, b"commit")]);
        assert_eq!(by_both.verify(b"commit", &second), Ok(two_public));
        for (data, noted) in [
            (&b"commit"[..], second),
            (b"other", both),
            (b"commit", noted(&[])),
            (b"commit", noted(&[vec![0; 64]])),
            (b"commit", Vec::new()),
        ] {
            assert!(by_key.verify(data, &noted).is_err(), "{data:?} {noted:?}");
        }
    }

    #[test]
    fn keys_that_are_none_are_errors() {
        let of = |key: Option<&str>, file: Option<&str>| Settings {
            key: key.map(str::to_owned),
            file: file.map(str::to_owned),
        };
        for settings in [
            of(Some("AAAA"), None),
            of(Some(""), None),
            of(None, Some("/no/such/file")),
            of(None, Some("/dev/null")),
            of(None, None),
        ] {
            assert!(settings.verify(b"x", &noted(&[])).is_err(), "{settings:?}");
        }
    }

    #[test]
    fn revoked_keys_are_found_in_file_and_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("revoked.ed25519.d")).unwrap();
        fs::write(dir.path().join("revoked.ed25519"), key(1).1).unwrap();
        fs::write(dir.path().join("revoked.ed25519.d/x"), key(2).1).unwrap();
        assert_eq!(revoked(dir.path()).len(), 2);
    }
}
