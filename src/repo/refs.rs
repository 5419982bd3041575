//! Names of refs in the image store, and the escaping that makes any text a ref name. Text in,
//! text out; pure. The rules are those of ostree-ext, so that both find each other's images.

use thiserror::Error;

use crate::image::{Digest, ImageReference};

/// Refs of layers: one per blob digest, and one per diff_id that was computed here. Other readers
/// prune those of the second kind, since no manifest has their names.
pub const BLOB_PREFIX: &str = "ostree/container/blob";
/// Refs of images, one per reference.
pub const IMAGE_PREFIX: &str = "ostree/container/image";
/// Refs that keep the bases of locally derived commits.
pub const BASE_IMAGE_PREFIX: &str = "ostree/container/baseimage";

/// Why a text cannot be escaped or unescaped.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EscapeError {
    /// The text is empty.
    #[error("an empty text cannot be a ref name")]
    Empty,
    /// The text has a NUL.
    #[error("a text with a NUL cannot be a ref name")]
    Nul,
    /// The ref name was not made by this escaping.
    #[error("{0:?} is not an escaped ref name")]
    Invalid(String),
}

/// Escapes any text into a ref name: letters, digits and `-` stay, `_` doubles, `/` stays after a
/// letter or digit unless it ends the text, everything else becomes `_HEX_`.
pub fn escape(text: &str) -> Result<String, EscapeError> {
    if text.is_empty() {
        return Err(EscapeError::Empty);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut after_word = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\0' => return Err(EscapeError::Nul),
            '-' => out.push(c),
            c if c.is_ascii_alphanumeric() => out.push(c),
            '_' => out.push_str("__"),
            '/' if after_word && chars.peek().is_some() => out.push(c),
            c => out.push_str(&format!("_{:02X}_", u32::from(c))),
        }
        after_word = c.is_ascii_alphanumeric();
    }
    Ok(out)
}

/// The text that [`escape`] made this of.
pub fn unescape(name: &str) -> Result<String, EscapeError> {
    let invalid = || EscapeError::Invalid(name.into());
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '-' | '/' => out.push(c),
            c if c.is_ascii_alphanumeric() => out.push(c),
            '_' => {
                let (hex, after) = rest.split_once('_').ok_or_else(invalid)?;
                rest = after;
                out.push(if hex.is_empty() {
                    '_'
                } else {
                    code_point(hex).ok_or_else(invalid)?
                });
            }
            _ => return Err(invalid()),
        }
    }
    if out.is_empty() {
        Err(EscapeError::Empty)
    } else {
        Ok(out)
    }
}

fn code_point(hex: &str) -> Option<char> {
    let digits = hex.len() >= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    digits
        .then(|| u32::from_str_radix(hex, 16).ok().and_then(char::from_u32))
        .flatten()
}

/// The ref that points to a layer's commit.
pub fn of_blob(digest: &Digest) -> String {
    format!("{BLOB_PREFIX}/sha256_3A_{}", digest.hex())
}

/// The ref that points to the commit of a layer whose uncompressed digest was computed here.
pub fn of_diff_id(diff_id: &Digest) -> String {
    format!("{BLOB_PREFIX}/diffid_3A_{}", diff_id.hex())
}

/// What the name of a layer's ref, unescaped, says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerName {
    /// Digest of its blob.
    Blob(Digest),
    /// Digest of its tar stream.
    DiffId(Digest),
}

impl LayerName {
    /// Reads the part of a ref name behind [`BLOB_PREFIX`].
    pub fn parse(name: &str) -> Option<Self> {
        let text = unescape(name).ok()?;
        match text.strip_prefix("diffid:") {
            Some(hex) => Digest::from_hex(hex).ok().map(Self::DiffId),
            None => text.parse().ok().map(Self::Blob),
        }
    }
}

/// The ref that points to an image's merge commit.
pub fn of_image(imgref: &ImageReference) -> Result<String, EscapeError> {
    Ok(format!("{IMAGE_PREFIX}/{}", escape(&imgref.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_ostree_ext() {
        let cases = [
            (
                "localhost:5000/foo:latest",
                "localhost_3A_5000/foo_3A_latest",
            ),
            (
                "docker://quay.io/fedora/fedora-bootc:latest",
                "docker_3A__2F__2F_quay_2E_io/fedora/fedora-bootc_3A_latest",
            ),
            ("oci:/srv/rt/img", "oci_3A__2F_srv/rt/img"),
            ("sha256:abc", "sha256_3A_abc"),
            ("a_b/", "a__b_2F_"),
            ("é", "_E9_"),
        ];
        for (text, name) in cases {
            assert_eq!(escape(text).unwrap(), name);
            assert_eq!(unescape(name).unwrap(), text);
        }
        assert_eq!(escape(""), Err(EscapeError::Empty));
        assert_eq!(escape("a\0"), Err(EscapeError::Nul));
        for name in ["", "_", "_4", "_4_", "_ZZ_", "a.b", "_110000_", "_+41_"] {
            assert!(unescape(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn layers_have_two_kinds_of_name() {
        let digest = Digest::of(b"x");
        let name = |full: String| LayerName::parse(full.strip_prefix("ostree/container/blob/")?);
        assert_eq!(name(of_blob(&digest)), Some(LayerName::Blob(digest)));
        assert_eq!(name(of_diff_id(&digest)), Some(LayerName::DiffId(digest)));
        for other in ["diffid_3A_00", "sha256_3A_00", "x", "_"] {
            assert_eq!(LayerName::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn unescape_is_the_inverse(text in "[^\0]{1,40}") {
            prop_assert_eq!(unescape(&escape(&text).unwrap()).unwrap(), text);
        }

        #[test]
        fn unescape_never_panics(text in ".{0,40}") {
            let _ = unescape(&text);
        }
    }
}
