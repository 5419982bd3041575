//! How to speak to a host at all: its name and the options come in, the schemes to try and an HTTP client
//! go out. Redirections never lose TLS. Asks nothing by itself.

use std::time::Duration;

use reqwest::{Client, Url, redirect};

use super::{proxy, tls, token};
use crate::transport::{Error, SourceOptions};

const USER_AGENT: &str = concat!("bowline/", env!("CARGO_PKG_VERSION"));

/// How many redirections are followed.
const MAX_REDIRECTS: usize = 10;

/// Plain http is for loopback, where it is tried first, and for registries marked insecure, where
/// it is tried last.
pub(super) fn schemes(host: &str, insecure: bool) -> &'static [&'static str] {
    match (is_loopback(host), host.ends_with(":443")) {
        (true, false) => &["http", "https"],
        (true, true) => &["https", "http"],
        (false, _) if insecure => &["https", "http"],
        (false, _) => &["https"],
    }
}

pub(in crate::transport) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = bare.parse::<std::net::IpAddr>();
    bare == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An HTTP client for `host`, with the certificates that are kept for it. `idle`: how long an answer may
/// be silent, and how long it may take to begin.
pub(in crate::transport) fn client(
    host: &str,
    insecure: bool,
    options: &SourceOptions,
    idle: Option<Duration>,
) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls::config(host, insecure, options)?)
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .redirect(redirect::Policy::custom(follow))
        .referer(false)
        .http1_only();
    if let Some(idle) = idle {
        builder = builder.read_timeout(idle);
    }
    let list = options.no_proxy.as_deref().unwrap_or_default();
    if is_loopback(host) || proxy::is_exempt(list, host) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| Error::Config(format!("cannot set up the HTTP client: {error}")))
}

/// The client itself takes the Authorization header off where the host changes.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    match objection(attempt.previous(), attempt.url()) {
        Some(objection) => attempt.error(objection),
        None => attempt.follow(),
    }
}

/// Why a redirection is not followed: it leads from https to plain http, or is one too many.
fn objection(previous: &[Url], next: &Url) -> Option<String> {
    let secure = previous.last().is_some_and(|url| url.scheme() == "https");
    if secure && next.scheme() != "https" {
        return Some(format!("it leads from https to {}", token::place(next)));
    }
    let too_many = previous.len() > MAX_REDIRECTS;
    too_many.then(|| format!("there are more than {MAX_REDIRECTS} of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_the_insecure() {
        let table: [(&str, bool, &[&str]); 9] = [
            ("localhost:5000", false, &["http", "https"]),
            ("127.9.9.9", false, &["http", "https"]),
            ("[::1]:5000", false, &["http", "https"]),
            ("localhost:443", false, &["https", "http"]),
            ("quay.io", false, &["https"]),
            ("quay.io", true, &["https", "http"]),
            ("localhost.example:5000", false, &["https"]),
            ("128.0.0.1:5000", false, &["https"]),
            ("[::2]:5000", false, &["https"]),
        ];
        for (host, insecure, expected) in table {
            assert_eq!(schemes(host, insecure), expected, "{host} {insecure}");
        }
    }

    #[test]
    fn redirections_never_lose_tls() {
        let url = |text: &str| Url::parse(text).unwrap();
        let table = [
            ("https://a/x", "https://b/y", None),
            ("http://a/x", "http://b/y", None),
            ("http://a/x", "https://b/y", None),
            (
                "https://a/x",
                "http://u:p@a/x?sig=1",
                Some("it leads from https to http://a/x"),
            ),
        ];
        for (from, to, expected) in table {
            let found = objection(&[url(from)], &url(to));
            assert_eq!(found.as_deref(), expected, "{from} {to}");
        }
        let many = vec![url("http://a/x"); MAX_REDIRECTS + 1];
        assert!(objection(&many[1..], &many[0]).is_none());
        assert!(objection(&many, &many[0]).is_some());
    }
}
