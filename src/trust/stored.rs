//! From what a place of signatures holds to one of the two kinds there are: bytes come in, an OpenPGP
//! message or a sigstore attachment goes out. Believes nothing of what it reads.
//!
//! A signature file is an OpenPGP message, or a zero byte, the name of a format, a newline, and data
//! (containers/image, docs/signature-protocols.md).

use std::collections::BTreeMap;

use super::json::{Json, Problem};
use crate::image::SignatureContent;

/// Media type of the layers of an attachment that are signatures.
pub(super) const SIGSTORE_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What the media types of sigstore bundles begin with.
const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// One signature by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signature {
    /// An OpenPGP message, signed data inside.
    SimpleSigning(Vec<u8>),
    /// A layer of a sigstore attachment, which may be something other than a signature.
    Sigstore(Attachment),
}

/// A layer of a sigstore attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) media_type: String,
    pub(super) payload: Vec<u8>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Signature {
    pub(super) fn of(content: &SignatureContent) -> Result<Self, Problem> {
        match content {
            SignatureContent::File(bytes) => Self::of_file(bytes),
            SignatureContent::Attachment {
                media_type,
                payload,
                annotations,
            } => Ok(Self::Sigstore(Attachment {
                media_type: media_type.clone(),
                payload: payload.clone(),
                annotations: annotations.clone(),
            })),
        }
    }

    pub(super) fn of_file(bytes: &[u8]) -> Result<Self, Problem> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Err("the signature is empty".into());
        };
        if is_openpgp(first) {
            return Ok(Self::SimpleSigning(bytes.to_vec()));
        }
        if first != 0 {
            return Err("the signature is in no format that is known".into());
        }
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or("the signature has a format name without an end")?;
        match (&rest[..end], &rest[end + 1..]) {
            (b"simple-signing", data) => Ok(Self::SimpleSigning(data.to_vec())),
            (b"sigstore-json", data) => Ok(Self::Sigstore(Attachment::parse(data)?)),
            (name, _) => Err(format!(
                "the signature is in an unknown format {:?}",
                String::from_utf8_lossy(&name[..name.len().min(80)])
            )),
        }
    }
}

/// The packets that a message with a signature in it can begin with, in the old form of headers.
const fn is_openpgp(first: u8) -> bool {
    let is_packet = first & 0x80 != 0;
    let tag = match first & 0x40 {
        0 => (first & 0x3c) >> 2,
        _ => first & 0x3f,
    };
    // Signature, one-pass signature, compressed data, literal data.
    is_packet && matches!(tag, 2 | 4 | 8 | 11)
}

impl Attachment {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let json = Json::parse(bytes).map_err(|error| format!("it is not valid JSON: {error}"))?;
        let mut object = json.object()?;
        let media_type = object.require_text("mimeType")?;
        let payload = object.require_base64("payload")?;
        let annotations = match object.take("annotations") {
            None | Some(Json::Null) => BTreeMap::new(),
            Some(json) => {
                let members = json.object()?.into_members().into_iter();
                let members = members.map(|(key, value)| Ok((key, value.strict_text()?)));
                members.collect::<Result<_, Problem>>()?
            }
        };
        Ok(Self {
            media_type,
            payload,
            annotations,
        })
    }

    /// Whether it is a bundle, whose statement has a digest and no name: no `signedIdentity` can hold
    /// for it.
    pub(super) fn is_bundle(&self) -> bool {
        self.media_type.starts_with(BUNDLE_MEDIA_TYPE)
    }

    /// Whether it is a signature at all.
    pub(super) fn is_signature(&self) -> bool {
        self.media_type == SIGSTORE_MEDIA_TYPE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::vectors::{list, load, text};

    fn unhex(text: &str) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn formats_agree_with_containers_image() {
        let Some((folder, table)) = load("signatures") else {
            return;
        };
        for case in list(&table["signature_file_formats"], "cases") {
            let mut bytes = unhex(text(case, "prepend_hex"));
            match text(case, "file") {
                "" => bytes.extend(unhex(text(case, "hex"))),
                file => bytes.extend(std::fs::read(folder.join(file)).unwrap()),
            }
            let found = match Signature::of_file(&bytes) {
                Ok(Signature::SimpleSigning(_)) => "simple-signing",
                Ok(Signature::Sigstore(_)) => "sigstore-json",
                Err(_) => "error",
            };
            assert_eq!(found, text(case, "expect"), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Signature::of_file(&bytes);
            let named = [b"\0sigstore-json\n".as_slice(), &bytes].concat();
            let _ = Signature::of_file(&named);
        }
    }
}
