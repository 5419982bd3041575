//! What a transparency log promises about a signature (Rekor, "SignedEntryTimestamp"; cosign's bundle
//! annotation): the promise, the log's keys and the signature come in; the time at which the log saw
//! it goes out, or what does not fit. Never asks the log.

use super::json::{EXACT, Json, Object, Problem, decode_base64, named};
use super::pem;
use super::public_key::PublicKey;
use crate::image::Digest;

/// What the log must have seen.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// The signer's key or certificate, DER.
    pub(super) signer: &'a [u8],
    /// The signature in base64, as the annotation has it.
    pub(super) signature: &'a str,
    /// The signed bytes.
    pub(super) payload: &'a [u8],
}

/// What the log signed.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    body: Vec<u8>,
    time: i64,
    /// The bytes under the log's signature.
    canonical: Vec<u8>,
}

/// Verifies the promise `set` against the log's `keys`. Goes out: seconds since 1970.
pub(super) fn verify(set: &[u8], keys: &[PublicKey], seen: &Seen<'_>) -> Result<i64, Problem> {
    let (entry, signature) = parse_set(set)?;
    let signed = |key: &PublicKey| key.verifies(&entry.canonical, &signature);
    if !keys.iter().any(signed) {
        return Err("the transparency log's promise is signed by none of its keys".into());
    }
    let body = Json::parse(&entry.body).map_err(|error| format!("not valid JSON: {error}"));
    let checked = body.and_then(|json| check_body(json.object()?, seen));
    named("the transparency log's entry", checked)?;
    Ok(entry.time)
}

fn parse_set(set: &[u8]) -> Result<(Entry, Vec<u8>), Problem> {
    let parse = || {
        let json = Json::parse(set).map_err(|error| format!("it is not valid JSON: {error}"))?;
        let mut object = json.object()?;
        let signature = object.require_base64("SignedEntryTimestamp")?;
        let payload = object.require_object("Payload")?;
        object.finish()?;
        Ok((named("Payload", parse_entry(payload))?, signature))
    };
    named("the transparency log's promise", parse())
}

fn parse_entry(mut payload: Object) -> Result<Entry, Problem> {
    let body = named("body", payload.require("body")?.strict_text())?;
    let time = exact(payload.require_int("integratedTime")?)?;
    let index = exact(payload.require_int("logIndex")?)?;
    let log = named("logID", payload.require("logID")?.strict_text())?;
    payload.finish()?;
    // The members in the order of RFC 8785, whose texts are written as serde_json writes them.
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let canonical = format!(
        r#"{{"body":{},"integratedTime":{time},"logID":{},"logIndex":{index}}}"#,
        text(&body),
        text(&log)
    );
    Ok(Entry {
        body: named("body", decode_base64(&body))?,
        time,
        canonical: canonical.into_bytes(),
    })
}

/// Larger numbers have several ways to be written.
fn exact(number: i64) -> Result<i64, Problem> {
    #[allow(clippy::cast_possible_truncation, reason = "it is a whole number")]
    let limit = EXACT as i64;
    match number.abs() < limit {
        true => Ok(number),
        false => Err(format!("{number} is too large")),
    }
}

/// Compares an entry of kind "hashedrekord" 0.0.1 with what it must be about.
fn check_body(mut body: Object, seen: &Seen<'_>) -> Result<(), Problem> {
    for (key, wanted) in [("kind", "hashedrekord"), ("apiVersion", "0.0.1")] {
        let found = named(key, body.require(key)?.strict_text())?;
        if found != wanted {
            return Err(format!("{key}: {found:?} is not {wanted:?}"));
        }
    }
    let mut spec = body.require_object("spec")?;
    check_signature(spec.require_object("signature")?, seen)?;
    let mut hash = spec.require_object("data")?.require_object("hash")?;
    let algorithm = named("algorithm", hash.require("algorithm")?.strict_text())?;
    if algorithm != "sha256" {
        return Err(format!("the hash algorithm {algorithm:?} is not supported"));
    }
    let value = named("value", hash.require("value")?.strict_text())?;
    match value.to_ascii_lowercase() == Digest::of(seen.payload).hex() {
        true => Ok(()),
        false => Err("it is about another payload".into()),
    }
}

fn check_signature(mut signature: Object, seen: &Seen<'_>) -> Result<(), Problem> {
    let content = signature.require_base64("content")?;
    let mut key = signature.require_object("publicKey")?;
    let key = pem::only(&key.require_base64("content")?, "its public key")?;
    if key.der != seen.signer {
        return Err("it is about another key".into());
    }
    let given = named("the signature", decode_base64(seen.signature))?;
    match content == given {
        true => Ok(()),
        false => Err("it is about another signature".into()),
    }
}

/// Reads a promise, and its entry as if the log had signed it.
#[cfg(feature = "testing")]
pub(super) fn probe(data: &[u8]) {
    let seen = Seen {
        signer: b"key",
        signature: "",
        payload: b"",
    };
    let Ok((entry, _)) = parse_set(data) else {
        return;
    };
    let body = Json::parse(&entry.body)
        .ok()
        .and_then(|json| json.object().ok());
    // Whatever is found in it is an answer.
    drop(body.map(|body| check_body(body, &seen)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::vectors::{list, load, text};

    #[test]
    fn promises_agree_with_containers_image() {
        let Some((folder, table)) = load("signatures") else {
            return;
        };
        let mut accepted = 0;
        for case in list(&table["rekor_set_verification"], "cases") {
            let read = |key: &str| std::fs::read(folder.join(text(case, key))).unwrap();
            let keys = list(case, "rekor_keys").map(|key| {
                let pem = std::fs::read(folder.join(key.as_str().unwrap())).unwrap();
                PublicKey::parse(&pem).unwrap()
            });
            let keys: Vec<_> = keys.collect();
            let (signature, payload) = (read("signature"), read("payload"));
            let found = pem::only(&read("key_or_cert"), "the key").and_then(|signer| {
                let seen = Seen {
                    signer: &signer.der,
                    signature: std::str::from_utf8(&signature).unwrap(),
                    payload: &payload,
                };
                verify(&read("set"), &keys, &seen)
            });
            let expected = text(case, "expect") == "accept";
            assert_eq!(found.is_ok(), expected, "{case:?}: {found:?}");
            if let Ok(time) = found {
                assert_eq!(Some(time), case["integrated_time"].as_i64(), "{case:?}");
                accepted += 1;
            }
        }
        assert!(accepted >= 4, "{accepted}");
    }

    #[test]
    fn json_agrees_with_containers_image() {
        let Some((_, table)) = load("signatures") else {
            return;
        };
        for case in list(&table["rekor_set_json"], "cases") {
            assert!(
                parse_set(text(case, "json").as_bytes()).is_err(),
                "{case:?}"
            );
        }
        for case in list(&table["rekor_payload_json"], "cases") {
            let json = Json::parse(text(case, "json").as_bytes()).ok();
            let parsed = json.and_then(|json| parse_entry(json.object().ok()?).ok());
            assert_eq!(parsed, None, "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let seen = Seen { signer: &[], signature: "", payload: &[] };
            prop_assert!(verify(&bytes, &[], &seen).is_err());
        }
    }
}
