//! What signatures of images say (containers-signature(5), cosign's SIGNATURE_SPEC): a name, a digest
//! and a time come in, the bytes that are signed go out. Pure.

use serde_json::json;

use crate::image::Digest;
use crate::trust::simple::{ATOMIC, COSIGN};

/// Who made the signature.
const CREATOR: &str = concat!("bowline ", env!("CARGO_PKG_VERSION"));

/// The two kinds of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// GPG simple signing.
    Simple,
    /// sigstore.
    Sigstore,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Simple => ATOMIC,
            Self::Sigstore => COSIGN,
        }
    }
}

/// The payload. `now` is in seconds since 1970.
pub(super) fn payload(kind: Kind, identity: &str, digest: &Digest, now: i64) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": identity},
            "image": {"docker-manifest-digest": digest.to_string()},
            "type": kind.name(),
        },
        "optional": {"creator": CREATOR, "timestamp": now},
    });
    payload.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::simple::Claim;

    #[test]
    fn a_payload_says_what_is_signed() {
        let digest = Digest::of(b"");
        let expected = Claim {
            digest: digest.to_string(),
            docker_reference: "quay.io/a/b:1".into(),
            creator: Some(CREATOR.into()),
            timestamp: Some(7),
        };
        let simple = payload(Kind::Simple, "quay.io/a/b:1", &digest, 7);
        assert_eq!(Claim::of_simple_signing(&simple).as_ref(), Ok(&expected));
        let sigstore = payload(Kind::Sigstore, "quay.io/a/b:1", &digest, 7);
        assert_eq!(Claim::of_sigstore(&sigstore).as_ref(), Ok(&expected));
        assert!(Claim::of_sigstore(&simple).is_err());
    }
}
