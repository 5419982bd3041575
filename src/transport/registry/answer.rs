//! What an HTTP answer, or the lack of one, means: status codes, error bodies and broken
//! connections come in, [`Error`]s in words of a person go out. Never lets a credential, a query
//! string or a control character into a message.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use rustls::CertificateError;
use serde::Deserialize;

use crate::transport::Error;

/// How much of an error answer is read.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// How much of a registry's words is shown, in characters.
const MAX_WORDS: usize = 300;

/// Reads a body to its end, at most `limit` bytes. `Ok(None)`: it is longer.
pub(super) async fn read_body(
    response: &mut Response,
    limit: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// The failure behind an answer that is no success. `access` says which credentials were used.
pub(in crate::transport) async fn failure(
    mut response: Response,
    place: String,
    access: &str,
) -> Error {
    let status = response.status();
    let retry_after = retry_after(&response);
    // What the registry says beside the status is a help, not a need: an unreadable body counts
    // as an empty one.
    let body = read_body(&mut response, MAX_ERROR_BYTES).await;
    let words = words(&body.ok().flatten().unwrap_or_default());
    let says = match words.is_empty() {
        true => String::new(),
        false => format!("; the registry says: {words}"),
    };
    let detail = format!("HTTP status {status}{says}");
    match status {
        StatusCode::NOT_FOUND if words.is_empty() => Error::NotFound { place },
        StatusCode::NOT_FOUND => Error::NotFound {
            place: format!("{place} (the registry says: {words})"),
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
            place,
            detail: format!("{detail}; {access}"),
        },
        _ if is_temporary(status) => Error::Temporary {
            place,
            detail,
            retry_after,
        },
        _ => Error::Refused { place, detail },
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, chrono::Utc::now())
}

fn parse_retry_after(value: &str, now: chrono::DateTime<chrono::Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    (date.to_utc() - now).to_std().ok()
}

/// The message of a registry's error body (distribution-spec, "Error Codes"), or a short text.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let texts = |entry: &Entry| match entry.message.is_empty() {
        true => entry.code.clone(),
        false => entry.message.clone(),
    };
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => body.errors.iter().map(texts).collect::<Vec<_>>().join("; "),
        Err(_) if body.starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    plain(&text)
}

/// One line without control characters, of bounded length.
pub(super) fn plain(text: &str) -> String {
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let visible = |c: &char| !c.is_control();
    let mut short: String = spaced.chars().filter(visible).take(MAX_WORDS + 1).collect();
    if short.chars().count() > MAX_WORDS {
        short.pop();
        short.push('…');
    }
    short
}

/// Whom a connection is for, and how long it may be silent: what its failures are told with.
#[derive(Debug)]
pub(in crate::transport) struct Peer {
    /// The registry's host and port, which its certificate directory is named after.
    pub(in crate::transport) host: String,
    pub(in crate::transport) idle: Duration,
}

impl Peer {
    /// A failure of the connection.
    pub(in crate::transport) fn broken(&self, error: &reqwest::Error, place: String) -> Error {
        if let Some(error) = tls_error(error) {
            return Error::Refused {
                detail: self.tls_words(error),
                place,
            };
        }
        if error.is_redirect() {
            return Error::Refused {
                place,
                detail: format!("the redirection is not followed: {}", root_cause(error)),
            };
        }
        let detail = if error.is_timeout() && error.is_connect() {
            "the connection took too long".into()
        } else if error.is_timeout() {
            format!("nothing came for {:?}", self.idle)
        } else if error.is_connect() {
            format!("cannot connect: {}", root_cause(error))
        } else {
            format!("the connection broke: {}", root_cause(error))
        };
        Error::Temporary {
            place,
            detail,
            retry_after: None,
        }
    }

    fn tls_words(&self, error: &rustls::Error) -> String {
        use CertificateError as C;
        let dir = format!("/etc/containers/certs.d/{}", self.host);
        let advice = match error {
            rustls::Error::InvalidCertificate(C::UnknownIssuer) => {
                format!("; if its CA is to be trusted, put it into {dir}/ca.crt")
            }
            rustls::Error::InvalidCertificate(
                C::Expired
                | C::ExpiredContext { .. }
                | C::NotValidYet
                | C::NotValidYetContext { .. },
            ) => {
                let now = chrono::Utc::now().format("%Y-%m-%d %H:%M UTC");
                format!("; by the clock of this machine it is {now}: is that right?")
            }
            rustls::Error::AlertReceived(_) => {
                format!("; it may want a client certificate: put .cert and .key into {dir}")
            }
            _ => String::new(),
        };
        format!("no TLS connection: {error}{advice}")
    }
}

/// A TLS failure that will be the same next time, if there is one in the chain.
pub(super) fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(inside)
}

/// An I/O error hides what it wraps from the chain of causes, several times over.
fn inside<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    let wrapped = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    inside(wrapped)
}

fn root_cause(error: &reqwest::Error) -> String {
    let last = causes(error).last();
    plain(&last.map_or_else(|| "no reason given".into(), ToString::to_string))
}

/// The causes below a client error; its own text, which may hold a URL with a query, is left out.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_words_of_registries() {
        let table = [
            (
                r#"{"errors":[{"code":"A","message":"a b"},{"code":"C"}]}"#,
                "a b; C",
            ),
            (r#"{"errors":[]}"#, ""),
            ("<html>x</html>", ""),
            ("  go\taway\x1b[31m\n", "go away[31m"),
            ("", ""),
        ];
        for (body, expected) in table {
            assert_eq!(words(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(words(&[b'x'; 5000]).chars().count(), MAX_WORDS + 1);
    }

    #[test]
    fn a_certificate_that_is_refused_comes_with_what_may_help() {
        let peer = Peer {
            host: "reg:5000".into(),
            idle: Duration::from_secs(1),
        };
        let said = |why| peer.tls_words(&rustls::Error::InvalidCertificate(why));
        let ca = said(CertificateError::UnknownIssuer);
        assert!(
            ca.contains("into /etc/containers/certs.d/reg:5000/ca.crt"),
            "{ca}"
        );
        for why in [CertificateError::NotValidYet, CertificateError::Expired] {
            let clock = said(why);
            assert!(
                clock.contains("; by the clock of this machine it is 20"),
                "{clock}"
            );
            assert!(!clock.contains("ca.crt"), "{clock}");
        }
        let name = said(CertificateError::NotValidForName);
        assert!(!name.contains(';'), "{name}");
    }

    #[test]
    fn reads_retry_after() {
        let now = chrono::DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let parse = |text| parse_retry_after(text, now.to_utc());
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        let date = "Thu, 01 Jan 2026 00:00:09 GMT";
        assert_eq!(parse(date), Some(Duration::from_secs(9)));
        assert_eq!(parse("Wed, 31 Dec 2025 00:00:00 GMT"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
    }

    proptest! {
        #[test]
        fn words_are_one_short_visible_line(body: Vec<u8>) {
            let words = words(&body);
            prop_assert!(words.chars().count() <= MAX_WORDS + 1);
            prop_assert!(!words.contains(char::is_control));
        }

        #[test]
        fn any_retry_after_is_read_or_not(value: String) {
            // Only a panic would be wrong.
            let _ = parse_retry_after(&value, chrono::Utc::now());
        }
    }
}
