//! Signatures as the places of signatures store them: bytes or an attachment, and where they came
//! from. Never looks inside: whether one is worth anything is for `trust/` to say.

use std::collections::BTreeMap;

/// One signature, found somewhere, not verified and not even parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSignature {
    /// Where it was found, for messages; without credentials.
    pub place: String,
    /// What was found.
    pub content: SignatureContent,
}

/// The forms in which signatures are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureContent {
    /// A signature file of the `dir:` transport or of a lookaside server: an OpenPGP message, or one
    /// of the formats with a name in front.
    File(Vec<u8>),
    /// A layer of a sigstore attachment: its media type, its bytes, and the descriptor's annotations.
    Attachment {
        /// Media type of the layer.
        media_type: String,
        /// The signed bytes.
        payload: Vec<u8>,
        /// Annotations of the layer's descriptor; the signature itself is one of them.
        annotations: BTreeMap<String, String>,
    },
}
