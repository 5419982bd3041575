//! Answers to a registry's challenge (RFC 9110 11.6.1; distribution's token and OAuth 2 specs):
//! `WWW-Authenticate` and credentials come in, an `Authorization` header goes out. Keeps tokens
//! in memory only, and never puts one, or a password, into a message.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Deserialize;

use super::answer::{self, Peer};
use crate::transport::Error;
use crate::transport::auth::Credentials;

/// The largest answer of a token service that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 1 << 20;

/// How long a token lives if its service does not say (distribution, "Token Authentication").
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// What a registry asks for and we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The strongest challenge of an answer that can be met: a token before a password.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        // A header that is not in the grammar offers nothing that could be answered.
        let parsed = texts.filter_map(|text| http_auth::parse_challenges(text).ok());
        let mut all: Vec<_> = parsed
            .flatten()
            .filter_map(|c| Self::from_parsed(&c))
            .collect();
        let bearer = all.iter().position(|c| *c != Self::Basic);
        match bearer {
            Some(index) => Some(all.swap_remove(index)),
            None => all.pop(),
        }
    }

    fn from_parsed(challenge: &http_auth::ChallengeRef<'_>) -> Option<Self> {
        let param = |name: &str| {
            let found = challenge.params.iter();
            let mut found = found.filter(|(n, _)| n.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_unescaped())
        };
        match challenge.scheme {
            scheme if scheme.eq_ignore_ascii_case("basic") => Some(Self::Basic),
            scheme if scheme.eq_ignore_ascii_case("bearer") => Some(Self::Bearer {
                realm: param("realm")?,
                service: param("service"),
            }),
            _ => None,
        }
    }
}

/// An `Authorization` header and how long it is good for.
#[derive(Debug, Clone)]
pub(super) struct Authorization {
    /// The header, marked as sensitive.
    pub(super) header: HeaderValue,
    until: Option<Instant>,
}

impl Authorization {
    /// Whether it may still be used.
    pub(super) fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    fn new(text: String, until: Option<Instant>) -> Option<Self> {
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(Self { header, until })
    }
}

/// Whom tokens are fetched for.
#[derive(Debug)]
pub(super) struct Applicant<'a> {
    pub(super) client: &'a Client,
    pub(super) peer: &'a Peer,
    pub(super) credentials: Option<&'a Credentials>,
    /// What is asked for: `repository:NAME:pull`. All but the first can be done without.
    pub(super) scopes: &'a [String],
    /// Whether the registry itself speaks plain http, so that its token service may as well.
    pub(super) plain_http: bool,
    /// Which credentials are used, for messages.
    pub(super) access: String,
}

impl Applicant<'_> {
    /// Answers a challenge. `Ok(None)`: there is nothing to answer it with.
    pub(super) async fn answer(
        &self,
        challenge: &Challenge,
    ) -> Result<Option<Authorization>, Error> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.and_then(|c| {
                let pair = STANDARD.encode(format!("{}:{}", c.user, c.password));
                Authorization::new(format!("Basic {pair}"), None)
            })),
            Challenge::Bearer { realm, service } => {
                let service = service.as_deref();
                let realm = realm_url(realm, self.plain_http)?;
                match self.fetch(realm.clone(), service, self.scopes).await {
                    Err(Error::Denied { .. }) if self.scopes.len() > 1 => {
                        self.fetch(realm, service, &self.scopes[..1]).await
                    }
                    result => result,
                }
                .map(Some)
            }
        }
    }

    async fn fetch(
        &self,
        realm: Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<Authorization, Error> {
        let place = place(&realm);
        let broken = |error| self.peer.broken(&error, place.clone());
        let asked = Instant::now();
        let request = self.request(realm, service, scopes);
        let response = request.send().await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(answer::failure(response, place, &self.access).await);
        }
        self.read(response, place, asked).await
    }

    fn request(&self, mut realm: Url, service: Option<&str>, scopes: &[String]) -> RequestBuilder {
        let service = service.into_iter().map(|service| ("service", service));
        let identity = self.credentials.and_then(|c| c.identity_token.as_deref());
        if let Some(token) = identity {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", "bowline"),
                ("refresh_token", token),
            ];
            // OAuth 2 has one list, the older way one parameter for each.
            let scopes = scopes.join(" ");
            let scope = [("scope", scopes.as_str())];
            let body = form_body(service.chain(scope).chain(form));
            let request = self.client.post(realm).body(body);
            return request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let scopes = scopes.iter().map(|scope| ("scope", scope.as_str()));
        realm.query_pairs_mut().extend_pairs(service.chain(scopes));
        let Some(credentials) = self.credentials else {
            return self.client.get(realm);
        };
        realm
            .query_pairs_mut()
            .append_pair("account", &credentials.user);
        let pair = STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
        let request = self.client.get(realm);
        match Authorization::new(format!("Basic {pair}"), None) {
            Some(basic) => request.header(AUTHORIZATION, basic.header),
            None => request,
        }
    }

    async fn read(
        &self,
        mut response: Response,
        place: String,
        asked: Instant,
    ) -> Result<Authorization, Error> {
        let body = answer::read_body(&mut response, MAX_TOKEN_BYTES).await;
        let body = body.map_err(|error| self.peer.broken(&error, place.clone()))?;
        let refused = |detail: &str| Error::Refused {
            place: place.clone(),
            detail: detail.into(),
        };
        let body = body.ok_or_else(|| refused("the token service's answer is too long"))?;
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| refused("the token service's answer is not JSON of a token"))?;
        let text = token.token.or(token.access_token);
        let text = text.filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| refused("the token service's answer has no token"))?;
        let life = token.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        Authorization::new(
            format!("Bearer {text}"),
            asked.checked_add(life - life / 10),
        )
        .ok_or_else(|| refused("the token service's token cannot be sent"))
    }
}

/// A token service must be reached over https, unless the registry itself is not.
fn realm_url(realm: &str, plain_http: bool) -> Result<Url, Error> {
    let refused = |detail: &str| Error::Refused {
        place: answer::plain(realm.split(['?', '#']).next().unwrap_or_default()),
        detail: detail.into(),
    };
    let url = Url::parse(realm);
    let url = url.map_err(|_| refused("the registry's token service is not a URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain_http => Ok(url),
        _ => Err(refused(
            "the registry's token service is not reached over https",
        )),
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn form_body<'a>(pairs: impl Iterator<Item = (&'static str, &'a str)>) -> String {
    let mut url = Url::parse("form:").expect("a constant that parses");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// A URL for messages: no user, no password, no query.
pub(in crate::transport) fn place(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        })
    }

    #[test]
    fn chooses_the_challenge_to_answer() {
        let table: [(&[&str], _); 7] = [
            (&[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull""#],
                bearer("https://a/t", Some("s")),
            ),
            (
                &[r#"Basic realm="x", bearer Realm="https://a/t""#],
                bearer("https://a/t", None),
            ),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#],
                bearer("https://a/t", None),
            ),
            (&[r#"Bearer service="s""#], None),
            (&["Negotiate", "!!"], None),
            (&[], None),
        ];
        for (values, expected) in table {
            assert_eq!(challenge(values), expected, "{values:?}");
        }
    }

    #[test]
    fn places_hold_no_secrets() {
        let url = Url::parse("https://user:secret@a.example:8443/t?sig=secret#x").unwrap();
        assert_eq!(place(&url), "https://a.example:8443/t");
    }

    #[test]
    fn forms_are_escaped() {
        let pairs = [("a", "x&y=z +"), ("b", "ü")];
        assert_eq!(form_body(pairs.into_iter()), "a=x%26y%3Dz+%2B&b=%C3%BC");
    }

    #[test]
    fn token_services_are_as_safe_as_the_registry() {
        let table = [
            ("https://a/t", false, true),
            ("http://a/t", true, true),
            ("http://a/t", false, false),
            ("ftp://a/t", true, false),
            ("file:///etc/passwd", true, false),
            ("/token", true, false),
        ];
        for (realm, plain_http, fine) in table {
            let found = realm_url(realm, plain_http);
            assert_eq!(found.is_ok(), fine, "{realm} {plain_http}");
        }
    }

    proptest! {
        #[test]
        fn any_challenge_is_answered_or_not(text in "(Basic|Bearer|,|=|\"|realm|\\PC){0,8}") {
            if let Ok(value) = HeaderValue::from_str(&text) {
                let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
                // Only a panic would be wrong.
                let _ = Challenge::of(&headers);
            }
        }
    }
}
