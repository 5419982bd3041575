//! One repository in one registry over HTTP: a path comes in, a successful answer goes out, with
//! the scheme found out, challenges answered and redirections followed. One call makes one
//! attempt: it never retries, except once with (other) credentials.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Client, Method, Response, StatusCode, Url};
use tokio::sync::{Mutex, OnceCell};

use super::answer::{self, Peer};
use super::client::{client, schemes};
use super::token::{self, Applicant, Authorization, Challenge};
use crate::image::RegistryName;
use crate::transport::auth::{self, Candidate, Found};
use crate::transport::registries_conf::PullSource;
use crate::transport::{Error, SourceOptions};

/// What is asked of a repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    /// What is done; GET unless something else is said.
    pub(super) method: Method,
    /// What stands behind `/v2/NAME/`.
    pub(super) path: String,
    /// Where the registry said to go on, instead of a path of ours.
    pub(super) url: Option<Url>,
    /// What is sent, and its media type.
    pub(super) body: Option<(Bytes, String)>,
    /// Media types that are taken.
    pub(super) accept: Option<&'static str>,
    /// The first byte that is wanted.
    pub(super) from: u64,
    /// The only bytes that are wanted, unless there are none; `from` means nothing then.
    pub(super) ranges: Vec<Range<u64>>,
}

/// What speaks against asking an endpoint again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Nothing.
    None,
    /// It did not answer in time, or its connections broke: others are asked before it.
    Slow,
    /// It gave bytes that are not what their digest promises.
    Wrong,
}

/// A repository in a registry, with what is known about talking to it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The name as this place knows it.
    pub(super) name: RegistryName,
    host: String,
    repository: String,
    /// What tokens are asked for.
    scopes: Vec<String>,
    client: Client,
    insecure: bool,
    /// Schemes to try, the first one first.
    schemes: &'static [&'static str],
    scheme: OnceLock<&'static str>,
    /// Who may have credentials, and what they had once it was needed.
    candidates: Vec<Candidate>,
    found: OnceCell<Option<Found>>,
    session: Mutex<Session>,
    doubt: AtomicU8,
    pub(super) peer: Peer,
    pub(super) options: SourceOptions,
}

#[derive(Debug, Default)]
struct Session {
    challenge: Option<Challenge>,
    current: Option<Authorization>,
}

impl Endpoint {
    /// A repository that is read.
    pub(super) fn new(
        source: &PullSource,
        helpers: &(Vec<String>, PathBuf),
        options: &SourceOptions,
    ) -> Result<Arc<Self>, Error> {
        let scopes = vec![format!("repository:{}:pull", source.name.repository)];
        Self::with_scopes(source, scopes, helpers, options)
    }

    /// A repository that is written, perhaps with blobs of other repositories of its registry.
    pub(super) fn for_push(
        target: &PullSource,
        mount_from: &[String],
        helpers: &(Vec<String>, PathBuf),
        options: &SourceOptions,
    ) -> Result<Arc<Self>, Error> {
        let own = format!("repository:{}:pull,push", target.name.repository);
        let others = mount_from.iter().map(|r| format!("repository:{r}:pull"));
        let scopes = [own].into_iter().chain(others).collect();
        Self::with_scopes(target, scopes, helpers, options)
    }

    fn with_scopes(
        source: &PullSource,
        scopes: Vec<String>,
        helpers: &(Vec<String>, PathBuf),
        options: &SourceOptions,
    ) -> Result<Arc<Self>, Error> {
        let name = &source.name;
        let key = format!("{}/{}", name.host, name.repository);
        Url::parse(&format!("https://{}/", name.host))
            .map_err(|why| Error::Config(format!("{:?} is no host: {why}", name.host)))?;
        Ok(Arc::new(Self {
            name: name.clone(),
            host: name.host.clone(),
            repository: name.repository.clone(),
            scopes,
            client: client(
                &name.host,
                source.insecure,
                options,
                Some(options.idle_timeout),
            )?,
            insecure: source.insecure,
            schemes: schemes(&name.host, source.insecure),
            scheme: OnceLock::new(),
            candidates: auth::find(&key, helpers, options)?,
            found: OnceCell::new(),
            session: Mutex::default(),
            doubt: AtomicU8::new(0),
            peer: Peer {
                host: name.host.clone(),
                idle: options.idle_timeout,
            },
            options: options.clone(),
        }))
    }

    /// The URL of a path, for messages.
    pub(super) fn place(&self, path: &str) -> String {
        let scheme = self.scheme.get().unwrap_or(&self.schemes[0]);
        self.url(scheme, path)
    }

    fn place_of(&self, ask: &Ask) -> String {
        match &ask.url {
            Some(url) => token::place(url),
            None => self.place(&ask.path),
        }
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        let host = match self.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        format!("{scheme}://{host}/v2/{}/{path}", self.repository)
    }

    /// Gets an answer with a 2xx status. Errors are sorted as [`Error`] says.
    pub(super) async fn call(&self, ask: &Ask) -> Result<Response, Error> {
        let used = self.standing().await?;
        let mut response = self.send(ask, used.as_ref()).await?;
        if let Some(challenge) = self.challenge(&response) {
            if let Some(fresh) = self.authorize(challenge, used).await? {
                response = self.send(ask, Some(&fresh)).await?;
            }
        }
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.failure(response, self.place_of(ask)).await),
        }
    }

    /// Sends a stream of `size` bytes to a place that the registry named. The answer may say
    /// anything. Never answers a challenge: what was sent is gone. Never times out either, since a
    /// client counts the time for sending as silence.
    pub(super) async fn send_stream(
        &self,
        client: &Client,
        url: &Url,
        (size, body): (u64, Body),
    ) -> Result<Response, Error> {
        let mut request = client.patch(url.clone());
        request = request.header(CONTENT_TYPE, "application/octet-stream");
        request = request.header(CONTENT_LENGTH, size).body(body);
        if let Some(auth) = self.standing().await?.filter(|_| self.is_own(url)) {
            request = request.header(AUTHORIZATION, auth.header);
        }
        let answer = request.send().await;
        answer.map_err(|error| self.peer.broken(&error, token::place(url)))
    }

    /// The failure behind an answer that is no success.
    pub(super) async fn failure(&self, response: Response, place: String) -> Error {
        answer::failure(response, place, &self.access()).await
    }

    /// A client without a limit for silence.
    pub(super) fn patient_client(&self) -> Result<Client, Error> {
        client(&self.host, self.insecure, &self.options, None)
    }

    /// Where an answer sends us on: relative to where it came from. A registry behind a proxy that
    /// ends TLS may name itself with plain http, so that its own scheme is kept.
    pub(super) fn location(&self, response: &Response) -> Result<Url, Error> {
        let place = token::place(response.url());
        let refused = |detail: &str| Error::Refused {
            place: place.clone(),
            detail: detail.into(),
        };
        let header = response.headers().get(LOCATION);
        let text = header.and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| refused("the registry does not say where to upload to"))?;
        let from = response.url();
        let mut url = from
            .join(text)
            .map_err(|_| refused("the place to upload to is no URL"))?;
        let here = (from.host_str(), from.port());
        if (url.host_str(), url.port()) == here && url.set_scheme(from.scheme()).is_err() {
            return Err(refused("the place to upload to is not on the web"));
        }
        match (from.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => Ok(url),
            _ => Err(refused("the place to upload to is not reached over https")),
        }
    }

    /// The next bytes of an answer, no faster than is allowed.
    pub(super) async fn chunk(&self, body: &mut Response) -> Result<Option<Bytes>, reqwest::Error> {
        let chunk = body.chunk().await?;
        if let (Some(limit), Some(bytes)) = (&self.options.limit, &chunk) {
            limit.pay(bytes.len()).await;
        }
        Ok(chunk)
    }

    /// Whether it has been given up before, and how.
    pub(super) fn doubt(&self) -> Doubt {
        match self.doubt.load(Ordering::Relaxed) {
            0 => Doubt::None,
            1 => Doubt::Slow,
            _ => Doubt::Wrong,
        }
    }

    /// Remembers why it was given up.
    pub(super) fn give_up(&self, doubt: Doubt) {
        self.doubt.fetch_max(doubt as u8, Ordering::Relaxed);
    }

    /// The challenge of a 401 of the registry itself; who it redirects to gets no answer.
    fn challenge(&self, response: &Response) -> Option<Challenge> {
        let own = self.is_own(response.url());
        let asked = response.status() == StatusCode::UNAUTHORIZED && own;
        asked.then(|| Challenge::of(response.headers())).flatten()
    }

    /// The authorization of earlier requests, renewed if it has run out.
    async fn standing(&self) -> Result<Option<Authorization>, Error> {
        let mut session = self.session.lock().await;
        if let (Some(challenge), Some(current)) = (&session.challenge, &session.current) {
            if !current.is_fresh() {
                session.current = self.applicant().await?.answer(challenge).await?;
            }
        }
        Ok(session.current.clone())
    }

    /// Answers a challenge to a request that was sent with `used`; `None` if that is hopeless.
    /// Of many requests that are challenged at once, one fetches a token for all.
    async fn authorize(
        &self,
        challenge: Challenge,
        used: Option<Authorization>,
    ) -> Result<Option<Authorization>, Error> {
        let mut session = self.session.lock().await;
        let header = |a: &Option<Authorization>| a.as_ref().map(|a| a.header.clone());
        if header(&session.current) != header(&used) {
            return Ok(session.current.clone());
        }
        let fresh = self.applicant().await?.answer(&challenge).await?;
        if header(&fresh) == header(&used) {
            return Ok(None);
        }
        *session = Session {
            challenge: Some(challenge),
            current: fresh.clone(),
        };
        Ok(fresh)
    }

    async fn applicant(&self) -> Result<Applicant<'_>, Error> {
        let found = self.found.get_or_try_init(|| self.choose()).await?;
        Ok(Applicant {
            client: &self.client,
            peer: &self.peer,
            credentials: found.as_ref().map(|f| &f.credentials),
            scopes: &self.scopes,
            plain_http: self.scheme.get() == Some(&"http"),
            access: self.access(),
        })
    }

    /// Asks who may have credentials; a helper may take its time, but not that of others.
    async fn choose(&self) -> Result<Option<Found>, Error> {
        let (candidates, host) = (self.candidates.clone(), self.options.host.clone());
        let chosen = tokio::task::spawn_blocking(move || auth::choose(&candidates, &host)).await;
        chosen.unwrap_or_else(|died| Err(Error::Config(format!("asking for credentials: {died}"))))
    }

    /// Which credentials were used, and what to do if they do not suffice.
    fn access(&self) -> String {
        match self.found.get() {
            Some(Some(found)) => format!("credentials from {} were used", found.origin),
            None if !self.candidates.is_empty() => "credentials were not asked for".into(),
            _ => format!(
                "no credentials were found for {}/{}: log in (podman login {}) or name a \
                 credentials file with --authfile",
                self.host, self.repository, self.host
            ),
        }
    }

    /// Sends over the scheme that is known to work, or finds it out: no request of its own, the
    /// first scheme that answers is kept.
    async fn send(&self, ask: &Ask, auth: Option<&Authorization>) -> Result<Response, Error> {
        let broken = |scheme: &str, error| {
            let place = match &ask.url {
                Some(url) => token::place(url),
                None => self.url(scheme, &ask.path),
            };
            self.peer.broken(&error, place)
        };
        if let Some(scheme) = self.scheme.get() {
            let answer = self.send_over(scheme, ask, auth).await;
            return answer.map_err(|error| broken(scheme, error));
        }
        let first = self.send_over(self.schemes[0], ask, auth).await;
        let mut chosen = (self.schemes[0], first);
        if let Some(other) = self.schemes.get(1).filter(|_| is_other_scheme(&chosen)) {
            let second = self.send_over(other, ask, auth).await;
            let untrusted = |e: &reqwest::Error| answer::tls_error(e).is_some_and(is_certificate);
            if second.is_ok() || second.as_ref().is_err_and(untrusted) {
                chosen = (other, second);
            }
        }
        let (scheme, answer) = chosen;
        if answer.is_ok() {
            // Requests that start together may both get here; they have found the same.
            let _ = self.scheme.set(scheme);
        }
        answer.map_err(|error| broken(scheme, error))
    }

    async fn send_over(
        &self,
        scheme: &str,
        ask: &Ask,
        auth: Option<&Authorization>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = match &ask.url {
            Some(url) => self.client.request(ask.method.clone(), url.clone()),
            None => {
                let url = self.url(scheme, &ask.path);
                self.client.request(ask.method.clone(), url)
            }
        };
        if let Some((body, media_type)) = &ask.body {
            request = request.header(CONTENT_TYPE, media_type).body(body.clone());
        }
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if !ask.ranges.is_empty() {
            request = request.header(RANGE, range_header(&ask.ranges));
        } else if ask.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", ask.from));
        }
        let own = ask.url.as_ref().is_none_or(|url| self.is_own(url));
        if let Some(auth) = auth.filter(|_| own) {
            request = request.header(AUTHORIZATION, auth.header.clone());
        }
        request.send().await
    }

    /// Whether a URL leads to the registry itself, which alone is shown credentials.
    fn is_own(&self, url: &Url) -> bool {
        Url::parse(&self.place("")).is_ok_and(|own| own.origin() == url.origin())
    }
}

/// The bytes that are wanted (RFC 9110, 14.1.2); ends are inclusive there.
fn range_header(ranges: &[Range<u64>]) -> String {
    let range = |range: &Range<u64>| format!("{}-{}", range.start, range.end.saturating_sub(1));
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    format!("bytes={}", ranges.join(","))
}

/// Whether what came back over one scheme looks like a server that speaks the other: a TLS
/// server answers plain http with 400 or with bytes that are no HTTP.
fn is_other_scheme((scheme, result): &(&str, Result<Response, reqwest::Error>)) -> bool {
    match (*scheme, result) {
        ("http", Ok(response)) => {
            let registry = response
                .headers()
                .contains_key("docker-distribution-api-version");
            response.status() == StatusCode::BAD_REQUEST && !registry
        }
        ("http", Err(error)) => error.is_request() && !error.is_timeout() && !error.is_connect(),
        (_, Err(error)) => error.is_connect() && !error.is_timeout(),
        (_, Ok(_)) => false,
    }
}

const fn is_certificate(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)
    )
}
