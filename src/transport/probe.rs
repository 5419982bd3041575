//! This room's parsers of outside bytes, for tests that feed them anything. Bytes come in; only a
//! panic would be wrong.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::{attachments, auth, helper, registries_conf, registries_d, registry};

/// A registries.conf.
pub fn registries_conf(data: &[u8]) {
    registries_conf::probe(data);
}

/// A file of registries.d.
pub fn registries_d(data: &[u8]) {
    registries_d::probe(data);
}

/// A manifest with signatures, and a list of what refers to an image.
pub fn attachments(data: &[u8]) {
    drop(attachments::Attachment::parse(data, "here"));
    drop(attachments::referrers(data, "here"));
}

/// A credentials file, and the answer of a credential helper.
pub fn credentials(data: &[u8]) {
    auth::probe(data);
    helper::probe(data);
}

/// A challenge of a registry.
pub fn challenge(data: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        registry::probe_challenge(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
    }
}

/// An answer with several ranges: its content type, a newline, its body.
pub fn multipart(data: &[u8]) {
    let text = data.split(|b| *b == b'\n').next().unwrap_or_default();
    let body = data.get(text.len() + 1..).unwrap_or_default();
    registry::probe_multipart(&String::from_utf8_lossy(text), body);
}
