//! Text armor around keys and certificates (RFC 7468, read as leniently as OpenSSL and Go do): text
//! comes in; blocks of bytes with their labels go out.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::json::Problem;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What stands between a pair of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What kind of thing it is.
    pub label: String,
    /// The bytes.
    pub der: Vec<u8>,
}

/// The first block of a text and what follows it; `None` where there is no whole block.
pub fn first(text: &str) -> Option<(Block, &str)> {
    let start = text.find(BEGIN)?;
    if start > 0 && !text[..start].ends_with('\n') {
        return None;
    }
    let (label, rest) = text[start + BEGIN.len()..].split_once(DASHES)?;
    if label.contains('\n') {
        return None;
    }
    let (_, rest) = rest.split_once('\n')?;
    let (body, rest) = rest.split_once(&format!("{END}{label}{DASHES}"))?;
    let text: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(text).ok()?;
    let block = Block {
        label: label.into(),
        der,
    };
    let rest = rest.trim_start_matches([' ', '\t', '\r']);
    Some((block, rest.strip_prefix('\n').unwrap_or(rest)))
}

/// The one block that `what` consists of.
pub(super) fn only(bytes: &[u8], what: &str) -> Result<Block, Problem> {
    let found = std::str::from_utf8(bytes).ok().and_then(first);
    match found {
        None => Err(format!("{what} is not in PEM format")),
        Some((_, rest)) if !rest.is_empty() => Err(format!("{what} has more than one PEM block")),
        Some((block, _)) => Ok(block),
    }
}

/// All certificates of a text; anything else in it is an error.
pub(super) fn certificates(bytes: &[u8], what: &str) -> Result<Vec<Vec<u8>>, Problem> {
    let not_pem = || format!("{what} is not in PEM format");
    let mut rest = std::str::from_utf8(bytes).map_err(|_| not_pem())?;
    let mut found = Vec::new();
    while !rest.trim().is_empty() {
        let (block, after) = first(rest).ok_or_else(not_pem)?;
        if block.label != "CERTIFICATE" {
            return Err(format!("{what} has a block {:?}", block.label));
        }
        found.push(block.der);
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "-----BEGIN X-----\nAQID\n-----END X-----\n";

    fn block(der: &[u8]) -> Block {
        Block {
            label: "X".into(),
            der: der.into(),
        }
    }

    #[test]
    fn blocks_are_taken_one_by_one() {
        let two = format!("before\n{ONE}{}", ONE.replace("AQID", "A\r\nQI=\r\n"));
        let (found, rest) = first(&two).unwrap();
        assert_eq!(found, block(&[1, 2, 3]));
        assert_eq!(first(rest), Some((block(&[1, 2]), "")));
    }

    #[test]
    fn what_is_no_block_is_none() {
        for text in [
            "",
            "AQID",
            "-----BEGIN X-----\nAQID\n-----END Y-----\n",
            "-----BEGIN X-----\n&\n-----END X-----\n",
            "-----BEGIN X-----",
            "x-----BEGIN X-----\nAQID\n-----END X-----\n",
        ] {
            assert_eq!(first(text), None, "{text:?}");
            assert!(only(text.as_bytes(), "it").is_err());
        }
        assert_eq!(only(ONE.as_bytes(), "it"), Ok(block(&[1, 2, 3])));
        let twice = only(ONE.repeat(2).as_bytes(), "it");
        assert_eq!(twice, Err("it has more than one PEM block".into()));
        let other = certificates(ONE.as_bytes(), "it");
        assert_eq!(other, Err("it has a block \"X\"".into()));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(-----(BEGIN|END) X-----|\n|[a-zA-Z=\r -]){0,20}") {
            let _ = first(&text);
            let _ = certificates(text.as_bytes(), "it");
        }
    }
}
