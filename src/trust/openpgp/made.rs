//! "Did this key make this signature over these bytes?" (RFC 9580, 5.2.4). Packets that rPGP has parsed come in,
//! yes or no goes out. What is hashed, and how it is verified, is rPGP's; its `Signature::verify` does the same, but
//! finds the line ends of texts with regular expressions, which were the largest part of OpenPGP in the program.

use std::borrow::Cow;

use pgp::packet::{Signature, SignatureType, SignatureVersion, SignatureVersionSpecific};
use pgp::types::{KeyVersion, PublicKeyTrait};

/// Whether `key` made `signature` over `content`. Whether it may is another question.
pub(super) fn made(signature: &Signature, key: &impl PublicKeyTrait, content: &[u8]) -> bool {
    verify(signature, key, content).is_some()
}

fn verify(signature: &Signature, key: &impl PublicKeyTrait, content: &[u8]) -> Option<()> {
    let config = signature.config()?;
    // Keys of version 6 make signatures of version 6, and no others do.
    let (new_key, new) = (
        key.version() == KeyVersion::V6,
        config.version() == SignatureVersion::V6,
    );
    (new_key == new && super::keyring::is_by(signature, key)).then_some(())?;
    let mut hasher = config.hash_alg.new_hasher().ok()?;
    if let SignatureVersionSpecific::V6 { salt } = &config.version_specific {
        (config.hash_alg.salt_len() == Some(salt.len())).then_some(())?;
        hasher.update(salt);
    }
    let content = match config.typ {
        SignatureType::Binary => Cow::Borrowed(content),
        SignatureType::Text => Cow::Owned(network_lines(content)),
        _ => return None,
    };
    config.hash_data_to_sign(&mut hasher, &*content).ok()?;
    let length = config.hash_signature_data(&mut hasher).ok()?;
    hasher.update(&config.trailer(length).ok()?);
    let hash = hasher.finalize();
    // The first bytes of the hash are in the signature; those of version 6 must be right.
    (hash.get(..2)? == signature.signed_hash_value()?).then_some(())?;
    key.verify_signature(config.hash_alg, &hash, signature.signature()?)
        .ok()
}

/// A text with CR LF after each line, whatever its lines end with (RFC 9580, 5.2.1.2).
fn network_lines(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    bytes.next_if_eq(&b'\n');
                }
                lines.extend(b"\r\n");
            }
            _ => lines.push(byte),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use pgp::line_writer::LineBreak;
    use pgp::normalize_lines::NormalizedReader;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_with_cr_and_lf() {
        let text = b"a\nb\r\nc\rd\n\r\n\r\r\n";
        assert_eq!(network_lines(text), b"a\r\nb\r\nc\r\nd\r\n\r\n\r\n\r\n");
        assert_eq!(network_lines(b""), b"");
    }

    proptest! {
        #[test]
        fn lines_are_those_of_rpgp(text in "[\r\na]{0,40}") {
            let mut reader = NormalizedReader::new(text.as_bytes(), LineBreak::Crlf);
            let mut theirs = Vec::new();
            reader.read_to_end(&mut theirs).unwrap();
            prop_assert_eq!(network_lines(text.as_bytes()), theirs);
        }
    }
}
