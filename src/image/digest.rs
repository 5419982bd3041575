//! Content digests as OCI writes them (`sha256:<64 hex>`). Comes in as text or bytes, goes out as
//! a validated value. Never holds an algorithm that Bowline cannot verify.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A sha256 content digest (image-spec, descriptor.md, "Digests").
///
/// `Display` and `FromStr` are inverse; the text form is `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// Why a text is not a digest that Bowline accepts.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// The text has no `algorithm:` in front.
    #[error("digest {0:?} has no algorithm (expected sha256:<64 hex digits>)")]
    NoAlgorithm(String),
    /// The algorithm is not sha256.
    #[error("digest algorithm {0:?} is not supported (only sha256 is)")]
    Algorithm(String),
    /// The encoded part is not 64 lower-case hex digits.
    #[error("digest {0:?} is not 64 lower-case hex digits")]
    Encoding(String),
}

impl Digest {
    /// Wraps 32 bytes that a sha256 computation gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes `data` whole.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits without the algorithm: also what ostree calls a checksum.
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Parses 64 lower-case hex digits (an ostree checksum, a blob's file name).
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let bad = || DigestError::Encoding(hex.chars().take(80).collect());
        let text = hex.as_bytes();
        if text.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (nibble(pair[0]), nibble(pair[1]));
            *byte = high.zip(low).map(|(h, l)| (h << 4) | l).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

/// Lower-case hex of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            None => Err(DigestError::NoAlgorithm(text.chars().take(80).collect())),
            Some(("sha256", hex)) => Self::from_hex(hex),
            Some((other, _)) => Err(DigestError::Algorithm(other.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_prints() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
    }

    #[test]
    fn refuses_what_cannot_be_verified() {
        let parse = |text: &str| text.parse::<Digest>().unwrap_err();
        assert_eq!(parse("abc"), DigestError::NoAlgorithm("abc".into()));
        assert_eq!(parse("sha512:00"), DigestError::Algorithm("sha512".into()));
        assert_eq!(parse("sha256:00"), DigestError::Encoding("00".into()));
        let upper = EMPTY[7..].to_uppercase();
        assert_eq!(
            parse(&format!("sha256:{upper}")),
            DigestError::Encoding(upper)
        );
    }

    proptest! {
        #[test]
        fn every_digest_prints_and_parses(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
            prop_assert_eq!(digest.as_bytes(), &bytes);
        }

        #[test]
        fn any_text_is_a_digest_or_an_error(text in "(sha256:)?([0-9a-fA-F]{60,68}|\\PC{0,70})") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
