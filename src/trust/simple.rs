//! What simple signing and sigstore attachments sign: a small JSON text that binds a name to the
//! digest of a manifest (containers-signature(5), "JSON DATA FORMAT"; cosign, SPEC.md). Bytes come in
//! and are read strictly; the claims go out. Whoever reads them has verified a signature over exactly
//! these bytes, or believes nothing.

use super::json::{Json, Object, Problem, named};
use crate::image::Digest;

/// The type that GPG simple signing writes.
pub const ATOMIC: &str = "atomic container signature";
/// The type that sigstore writes.
pub const COSIGN: &str = "cosign container image signature";

/// What a signature claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Digest of the manifest, as written; one by an algorithm that we cannot compute matches nothing.
    pub digest: String,
    /// The name that the image was signed for.
    pub docker_reference: String,
    /// Who wrote it; says nothing that could be relied on.
    pub creator: Option<String>,
    /// When it was written, in seconds since 1970.
    pub timestamp: Option<i64>,
}

impl Claim {
    /// Reads the payload of a GPG simple signature.
    pub fn of_simple_signing(bytes: &[u8]) -> Result<Self, String> {
        parse(bytes, ATOMIC)
    }

    /// Reads the payload of a sigstore attachment.
    pub fn of_sigstore(bytes: &[u8]) -> Result<Self, String> {
        parse(bytes, COSIGN)
    }

    /// Whether it is about a manifest with this digest.
    pub(super) fn is_about(&self, digest: &Digest) -> bool {
        self.digest == digest.to_string()
    }
}

fn parse(bytes: &[u8], kind: &str) -> Result<Claim, Problem> {
    let json = Json::parse(bytes).map_err(|error| format!("it is not valid JSON: {error}"))?;
    let mut object = json.object()?;
    let critical = object.require_object("critical")?;
    let (digest, docker_reference) = named("critical", parse_critical(critical, kind))?;
    let optional = object.require("optional")?;
    object.finish()?;
    let (creator, timestamp) = match optional {
        Json::Null if kind == COSIGN => (None, None),
        optional => named("optional", parse_optional(optional))?,
    };
    Ok(Claim {
        digest,
        docker_reference,
        creator,
        timestamp,
    })
}

fn parse_critical(mut critical: Object, kind: &str) -> Result<(String, String), Problem> {
    let found = named("type", critical.require("type")?.strict_text())?;
    if found != kind {
        return Err(format!("type: {found:?} is not {kind:?}"));
    }
    let mut image = critical.require_object("image")?;
    let mut identity = critical.require_object("identity")?;
    critical.finish()?;
    let key = "docker-manifest-digest";
    let digest = named(key, image.require(key)?.strict_text())?;
    if !is_digest(&digest) {
        return Err(format!("{key}: {digest:?} is no digest"));
    }
    named("image", image.finish())?;
    let key = "docker-reference";
    let reference = named(key, identity.require(key)?.strict_text())?;
    named("identity", identity.finish())?;
    Ok((digest, reference))
}

/// Other members may be here, and mean nothing.
fn parse_optional(optional: Json) -> Result<(Option<String>, Option<i64>), Problem> {
    let mut optional = optional.object()?;
    let creator = optional.take("creator").map(Json::strict_text).transpose();
    let timestamp = optional.take("timestamp").map(Json::int).transpose();
    Ok((named("creator", creator)?, named("timestamp", timestamp)?))
}

/// `sha256:…` and its longer siblings, as the Go library has them.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::vectors::{list, load, text};

    #[test]
    fn payloads_agree_with_containers_image() {
        let Some((_, table)) = load("signatures") else {
            return;
        };
        for (key, kind) in [
            ("simple_signing_payload_json", ATOMIC),
            ("sigstore_payload_json", COSIGN),
        ] {
            let mut count = 0;
            for case in list(&table[key], "cases") {
                let found = parse(text(case, "json").as_bytes(), kind);
                assert_eq!(
                    found.is_ok(),
                    text(case, "expect") == "ok",
                    "{case:?}: {found:?}"
                );
                count += 1;
            }
            assert!(count > 20, "{key}: {count}");
        }
    }

    #[test]
    fn claims_are_what_was_written() {
        let hex = "ab".repeat(32);
        let text = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"quay.io/a:1"}},
            "image":{{"docker-manifest-digest":"sha256:{hex}"}},"type":"{ATOMIC}"}},
            "optional":{{"creator":"x","timestamp":7,"more":[]}}}}"#
        );
        let claim = Claim::of_simple_signing(text.as_bytes()).unwrap();
        let expected = Claim {
            digest: format!("sha256:{hex}"),
            docker_reference: "quay.io/a:1".into(),
            creator: Some("x".into()),
            timestamp: Some(7),
        };
        assert_eq!(claim, expected);
        assert!(claim.is_about(&Digest::from_hex(&hex).unwrap()));
        assert!(!claim.is_about(&Digest::of(b"")));
        assert!(Claim::of_sigstore(text.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Claim::of_simple_signing(&bytes);
            let _ = Claim::of_sigstore(&bytes);
        }
    }
}
