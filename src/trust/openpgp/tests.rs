//! Tests against the fixtures of containers/image; other keys are made by `gpg` in `tests/trust`.

use proptest::prelude::*;

use super::*;
use crate::image::vectors::{list, load, text};

/// When all the fixtures are valid that ever are.
const NOW: i64 = 1_795_000_000;

fn keyring(bytes: &[u8]) -> Keyring {
    let mut keyring = Keyring::default();
    keyring.add(bytes).unwrap();
    keyring
}

#[test]
fn signatures_agree_with_containers_image() {
    let Some((folder, table)) = load("signatures") else {
        return;
    };
    let mut good = 0;
    for case in list(&table, "gpg_verification") {
        let read = |key: &str| std::fs::read(folder.join(text(case, key))).unwrap();
        let found = keyring(&read("keyring")).verify(&read("signature"), NOW);
        let expected = text(case, "expect") == "good";
        assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
        if let Ok(signed) = found {
            assert_eq!(signed.content, text(case, "content").as_bytes(), "{case:?}");
            assert_eq!(signed.certificate, text(case, "key"), "{case:?}");
            assert_eq!(signed.subkey.as_deref(), case["signing_subkey"].as_str());
            good += 1;
        }
    }
    assert!(good > 8, "{good}");
}

#[test]
fn keyrings_agree_with_containers_image() {
    let Some((folder, table)) = load("signatures") else {
        return;
    };
    for case in list(&table, "gpg_keyrings") {
        let bytes = std::fs::read(folder.join(text(case, "keyring"))).unwrap();
        let keyring = keyring(&bytes);
        let mut expected: Vec<_> = list(case, "primary_keys")
            .filter_map(|k| k.as_str())
            .collect();
        expected.sort_unstable();
        let found: Vec<_> = keyring.fingerprints().collect();
        assert_eq!(found, expected, "{case:?}");
    }
}

#[test]
fn refusals_say_why() {
    let Some((folder, _)) = load("signatures") else {
        return;
    };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for (signature, keys, words) in [
        (
            "unknown-key.signature",
            "public-key.gpg",
            "is by an unknown key, ",
        ),
        ("corrupt.signature", "public-key.gpg", "was changed"),
        (
            "expired.signature",
            "public-key.gpg",
            "the signature expired at 2025-06-24 ",
        ),
        (
            "subkey-revoked.signature",
            "public-key-with-revoked-subkey.gpg",
            " is revoked",
        ),
        (
            "unsigned-literal.signature",
            "public-key.gpg",
            "exactly one signature",
        ),
    ] {
        let found = keyring(&read(keys))
            .verify(&read(signature), NOW)
            .unwrap_err();
        assert!(found.contains(words), "{signature}: {found}");
    }
    // A clock that is years behind knows no key.
    let early = keyring(&read("public-key.gpg")).verify(&read("image.signature"), 1_000_000_000);
    assert!(early.unwrap_err().contains("is the clock right?"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut keyring = Keyring::default();
        let _ = keyring.add(&bytes);
        let error = keyring.verify(&bytes, NOW).unwrap_err();
        prop_assert!(error.len() < 200, "{error}");
    }
}
