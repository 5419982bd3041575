//! Signatures that lie beside an image as images of their own: cosign's tags (`sha256-….sig`) and OCI
//! referrers (distribution-spec, "Listing Referrers"). Bytes of manifests come in; the layers that are
//! signatures go out. Fetches nothing itself and verifies nothing but digests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use super::files::verify;
use crate::image::{Descriptor, Digest, SignatureContent, StoredSignature};

/// The largest signature that is read, in bytes: the limit of containers/image.
pub(super) const MAX_SIGNATURE_BYTES: usize = 4 << 20;
/// Signatures of one image that are looked at: the limit of containers/image for lookaside servers.
pub const MAX_SIGNATURES: usize = 128;
/// Bytes of all signatures of one image.
pub(super) const MAX_SIGNATURES_BYTES: usize = 16 << 20;
/// Referrers that are looked at.
pub(super) const MAX_REFERRERS: usize = 64;

/// Media type of layers that are signatures.
pub const SIGSTORE_LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What cosign calls a referrer that is a signature.
const SIGSTORE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// What the types of sigstore bundles begin with, be they signatures or other statements (cosign,
/// BUNDLE_SPEC.md). Nobody can use them here, but whoever is refused should hear of them.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Says what a bundle states.
const BUNDLE_KIND: &str = "dev.sigstore.bundle.predicateType";
/// It is a signature.
const BUNDLE_SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// The tag under which cosign keeps the signatures of a manifest.
pub fn signature_tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// The tag under which referrers stand where a registry does not list them itself.
pub(super) fn referrers_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: Option<String>,
    artifact_type: Option<String>,
    digest: Digest,
    size: Option<i64>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<WireDescriptor> for Descriptor {
    fn from(wire: WireDescriptor) -> Self {
        Self {
            media_type: wire.media_type.unwrap_or_default(),
            digest: wire.digest,
            size: wire.size.and_then(|size| u64::try_from(size).ok()),
            annotations: wire.annotations.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct WireAttachment {
    subject: Option<WireDescriptor>,
    #[serde(default)]
    layers: Vec<WireDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Whether a bundle with these annotations may be a signature.
fn may_sign(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let kind = annotations.and_then(|annotations| annotations.get(BUNDLE_KIND));
    kind.is_none_or(|kind| kind == BUNDLE_SIGNATURE)
}

/// A manifest whose layers may be signatures.
#[derive(Debug)]
pub(super) struct Attachment {
    /// The manifest it says it belongs to.
    pub(super) subject: Option<Digest>,
    /// Layers with a signature's media type.
    pub(super) layers: Vec<Descriptor>,
}

impl Attachment {
    /// Reads a manifest; an error says why it is none.
    pub(super) fn parse(bytes: &[u8], place: &str) -> Result<Self, Error> {
        let wire: WireAttachment = parse(bytes, place)?;
        let layers = wire.layers.into_iter().map(Descriptor::from);
        let bundles = may_sign(wire.annotations.as_ref());
        let signatures = layers.filter(|layer| {
            let kind = &layer.media_type;
            kind == SIGSTORE_LAYER || (bundles && kind.starts_with(BUNDLE))
        });
        Ok(Self {
            subject: wire.subject.map(|subject| subject.digest),
            layers: signatures.take(MAX_SIGNATURES).collect(),
        })
    }
}

/// The manifests in a list of referrers that may be signatures.
pub(super) fn referrers(bytes: &[u8], place: &str) -> Result<Vec<Descriptor>, Error> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        manifests: Vec<WireDescriptor>,
    }
    let wire: Wire = parse(bytes, place)?;
    let signs = |entry: &WireDescriptor| {
        let kind = entry.artifact_type.as_deref().unwrap_or_default();
        let bundle = kind.starts_with(BUNDLE) && may_sign(entry.annotations.as_ref());
        kind.is_empty() || kind == SIGSTORE_ARTIFACT || bundle
    };
    let found = wire.manifests.into_iter().filter(signs);
    Ok(found.take(MAX_REFERRERS).map(Descriptor::from).collect())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], place: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Refused {
        place: place.into(),
        detail: format!("what should list signatures is malformed: {error}"),
    })
}

/// A layer's bytes, checked against its descriptor, as a signature.
pub(super) fn signature(
    layer: &Descriptor,
    payload: Vec<u8>,
    place: String,
) -> Result<StoredSignature, Error> {
    verify(&payload, &layer.digest, layer.size, &place)?;
    Ok(StoredSignature {
        content: SignatureContent::Attachment {
            media_type: layer.media_type.clone(),
            payload,
            annotations: layer.annotations.clone(),
        },
        place,
    })
}

/// The signatures of an image as they come, bounded in number and in size.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) found: Vec<StoredSignature>,
    bytes: usize,
}

impl Collected {
    /// Takes one more; an error says that there are too many.
    pub(super) fn push(&mut self, signature: StoredSignature) -> Result<(), Error> {
        self.bytes += match &signature.content {
            SignatureContent::File(bytes) => bytes.len(),
            SignatureContent::Attachment {
                payload,
                annotations,
                ..
            } => {
                let words = annotations
                    .iter()
                    .map(|(key, value)| key.len() + value.len());
                payload.len() + words.sum::<usize>()
            }
        };
        // What is there twice, by tag and by referrer, counts once.
        if self.found.iter().any(|s| s.content == signature.content) {
            return Ok(());
        }
        if self.found.len() >= MAX_SIGNATURES || self.bytes > MAX_SIGNATURES_BYTES {
            return Err(Error::Refused {
                place: signature.place,
                detail: format!(
                    "the image has more than {MAX_SIGNATURES} signatures, or more than \
                     {MAX_SIGNATURES_BYTES} bytes of them"
                ),
            });
        }
        self.found.push(signature);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_layers_that_are_signatures_are_taken() {
        let text = format!(
            r#"{{"subject":{{"digest":"sha256:{HEX}","size":1}},"config":{{}},"layers":[
            {{"mediaType":"{SIGSTORE_LAYER}","digest":"sha256:{HEX}","size":0,"annotations":{{"a":"b"}}}},
            {{"mediaType":"text/plain","digest":"sha256:{HEX}","size":0}}]}}"#
        );
        let found = Attachment::parse(text.as_bytes(), "here").unwrap();
        assert_eq!(found.subject, Some(Digest::of(b"")));
        let [layer] = &*found.layers else {
            panic!("{found:?}");
        };
        let stored = signature(layer, Vec::new(), "here".into()).unwrap();
        let expected = SignatureContent::Attachment {
            media_type: SIGSTORE_LAYER.into(),
            payload: Vec::new(),
            annotations: [("a".into(), "b".into())].into(),
        };
        assert_eq!(stored.content, expected);
        let changed = signature(layer, b"x".to_vec(), "here".into());
        assert!(matches!(changed, Err(Error::Mismatch { .. })));
    }

    #[test]
    fn bundles_that_sign_are_found_and_those_that_state_something_else_are_not() {
        let layer =
            format!(r#"{{"mediaType":"{BUNDLE}.v0.3+json","digest":"sha256:{HEX}","size":0}}"#);
        let entry =
            format!(r#""artifactType":"{BUNDLE}.v0.3+json","digest":"sha256:{HEX}","size":0"#);
        for (kind, found) in [
            (String::new(), 1),
            (
                format!(r#","annotations":{{"{BUNDLE_KIND}":"{BUNDLE_SIGNATURE}"}}"#),
                1,
            ),
            (
                format!(r#","annotations":{{"{BUNDLE_KIND}":"https://slsa.dev/provenance/v1"}}"#),
                0,
            ),
        ] {
            let text = format!(r#"{{"layers":[{layer}]{kind}}}"#);
            let parsed = Attachment::parse(text.as_bytes(), "here").unwrap();
            assert_eq!(parsed.layers.len(), found, "{text}");
            let text = format!(r#"{{"manifests":[{{{entry}{kind}}}]}}"#);
            assert_eq!(
                referrers(text.as_bytes(), "here").unwrap().len(),
                found,
                "{text}"
            );
        }
    }

    #[test]
    fn referrers_of_other_kinds_are_left_out() {
        let entry = |kind: &str| format!(r#"{{"digest":"sha256:{HEX}","size":1{kind}}}"#);
        let text = format!(
            r#"{{"manifests":[{},{},{}]}}"#,
            entry(""),
            entry(&format!(r#","artifactType":"{SIGSTORE_ARTIFACT}""#)),
            entry(r#","artifactType":"application/spdx+json""#)
        );
        assert_eq!(referrers(text.as_bytes(), "here").unwrap().len(), 2);
    }

    #[test]
    fn there_is_an_end_to_signatures() {
        let mut collected = Collected::default();
        let one = |number: usize| StoredSignature {
            place: "here".into(),
            content: SignatureContent::File(number.to_le_bytes().into()),
        };
        for number in 0..MAX_SIGNATURES {
            collected.push(one(number)).unwrap();
            collected.push(one(number)).unwrap();
        }
        assert_eq!(collected.found.len(), MAX_SIGNATURES);
        assert!(collected.push(one(MAX_SIGNATURES)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Attachment::parse(&bytes, "here");
            let _ = referrers(&bytes, "here");
        }
    }
}
