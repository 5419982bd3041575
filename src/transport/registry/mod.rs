//! Images in registries (distribution-spec, "Pull" and "Push"), in process: an image name comes
//! in, manifests and blob streams go out, or are taken. Never writes a file, and never sends a
//! credential to a host that did not ask for it.
//!
//! A request goes out without credentials first; a challenge is answered once. Loopback hosts
//! are spoken to over plain http first and over https if they turn out to speak TLS, without an
//! extra request in the common case. Proxies are those of `http_proxy`, `https_proxy` and
//! `no_proxy`; loopback never goes through one.

mod answer;
mod client;
mod endpoint;
mod multipart;
mod proxy;
mod ranges;
mod retry;
mod signatures;
mod tls;
mod token;
mod transfer;
mod upload;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;

pub(super) use self::answer::{Peer, failure};
pub(super) use self::client::{client, is_loopback};
use self::endpoint::{Ask, Doubt, Endpoint};
pub(super) use self::retry::Budget;
pub(super) use self::token::place;
pub(super) use self::upload::RegistrySink;
use super::registries_conf::RegistriesConf;
use super::{Blob, Error, ImageSource, RawManifest, SourceOptions};
use crate::image::{
    Descriptor, Digest, MAX_MANIFEST_BYTES, ManifestOrIndex, RegistryName, StoredSignature,
};

/// The manifests we can read (image-spec, media-types.md; Docker's image manifest v2, schema 2).
const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// How often a mirror is tried again before the next place is: it is there to save time.
const MIRROR_RETRIES: u32 = 1;

/// One image name in a registry and its mirrors.
#[derive(Debug)]
pub struct RegistrySource {
    name: RegistryName,
    /// Mirrors first, the registry itself last; never empty.
    endpoints: Vec<Arc<Endpoint>>,
    /// The endpoint that last gave a manifest.
    chosen: AtomicUsize,
    /// Which endpoint was asked for a blob first.
    asked: Mutex<HashMap<Digest, usize>>,
}

impl RegistrySource {
    /// Prepares access to a name: reads registries.conf, certificates and credentials, and
    /// contacts nothing. [`Error::Config`] where one of those files cannot be used.
    pub fn new(name: &RegistryName, options: &SourceOptions) -> Result<Self, Error> {
        let conf = RegistriesConf::load(&options.host)?;
        let sources = conf.pull_sources(name)?;
        let mirror_options = SourceOptions {
            retries: options.retries.min(MIRROR_RETRIES),
            ..options.clone()
        };
        let last = sources.len().saturating_sub(1);
        let endpoints = sources.iter().enumerate().map(|(index, source)| {
            let is_mirror = index < last;
            let options = if is_mirror { &mirror_options } else { options };
            Endpoint::new(source, conf.credential_helpers(), options)
        });
        Ok(Self {
            name: name.clone(),
            endpoints: endpoints.collect::<Result<_, _>>()?,
            chosen: AtomicUsize::new(0),
            asked: Mutex::default(),
        })
    }

    /// Prepares access to the place that a name is pushed to, which is no mirror.
    pub fn itself(name: &RegistryName, options: &SourceOptions) -> Result<Self, Error> {
        let conf = RegistriesConf::load(&options.host)?;
        let target = conf.push_target(name)?;
        let endpoint = Endpoint::new(&target, conf.credential_helpers(), options)?;
        Ok(Self {
            name: name.clone(),
            endpoints: vec![endpoint],
            chosen: AtomicUsize::new(0),
            asked: Mutex::default(),
        })
    }

    /// The endpoint to ask first, by its index, and those that may step in: the one that gave the
    /// manifest before the others, and whoever was given up behind them.
    fn order(&self) -> (usize, VecDeque<usize>) {
        let chosen = self.chosen.load(Ordering::Relaxed);
        let doubt = |index: usize| self.endpoints[index].doubt();
        let all = 0..self.endpoints.len();
        let mut order: Vec<usize> = all.filter(|i| doubt(*i) != Doubt::Wrong).collect();
        order.sort_by_key(|i| (doubt(*i), *i != chosen));
        let mut order = VecDeque::from(order);
        let first = order.pop_front().unwrap_or(self.endpoints.len() - 1);
        (first, order)
    }

    /// The order for a blob, which is remembered.
    fn order_for(&self, blob: &Digest) -> (usize, VecDeque<usize>) {
        let (first, others) = self.order();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(*blob, first);
        (first, others)
    }
}

#[async_trait]
impl ImageSource for RegistrySource {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error> {
        let expected = digest.or(self.name.digest.as_ref());
        let reference = match expected {
            Some(digest) => digest.to_string(),
            None => self.name.manifest_reference(),
        };
        let (mut index, mut others) = self.order();
        loop {
            let endpoint = &self.endpoints[index];
            let found = manifest(endpoint, &reference, expected).await;
            let found = match others.is_empty() {
                true => found,
                // What nobody can read is no reason to ask no one else.
                false => found.and_then(readable(endpoint, &reference)),
            };
            let error = match found {
                Ok(manifest) => {
                    self.chosen.store(index, Ordering::Relaxed);
                    return Ok(manifest);
                }
                Err(error) => error,
            };
            let Some(next) = others.pop_front() else {
                return Err(error);
            };
            log_fallback(&error);
            if error.is_temporary() {
                endpoint.give_up(Doubt::Slow);
            }
            index = next;
        }
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error> {
        let (first, others) = self.order_for(&blob.digest);
        let endpoint = |index: usize| self.endpoints[index].clone();
        let stream = transfer::open(
            endpoint(first),
            others.into_iter().map(endpoint).collect(),
            blob,
        );
        let stream = stream.await?;
        Ok(Blob::Stream(stream))
    }

    async fn ranges(&self, blob: &Descriptor, ranges: &[Range<u64>]) -> Result<Blob, Error> {
        let (first, _) = self.order_for(&blob.digest);
        let stream = ranges::open(self.endpoints[first].clone(), blob, ranges);
        Ok(Blob::Stream(stream.await?))
    }

    /// Mirrors seldom have the signatures of what they have, so every place is asked until one does.
    async fn signatures(&self, manifests: &[Digest]) -> Result<Vec<StoredSignature>, Error> {
        let (first, others) = self.order();
        let endpoints = std::iter::once(first).chain(others);
        let endpoints: Vec<_> = endpoints.map(|index| &self.endpoints[index]).collect();
        let Some(itself) = self.endpoints.last() else {
            return Ok(Vec::new());
        };
        signatures::find(&endpoints, itself, manifests).await
    }

    async fn all_signatures(&self, manifests: &[Digest]) -> Vec<StoredSignature> {
        match &self.endpoints[..] {
            // It has been asked.
            [_] => Vec::new(),
            endpoints => signatures::all(endpoints, manifests).await,
        }
    }

    fn discredit(&self, blob: &Digest) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = asked.remove(blob) else {
            return false;
        };
        self.endpoints[index].give_up(Doubt::Wrong);
        let mut all = self.endpoints.iter();
        all.any(|endpoint| endpoint.doubt() != Doubt::Wrong)
    }

    fn place(&self) -> String {
        let RegistryName {
            host, repository, ..
        } = &self.name;
        match (&self.name.digest, &self.name.tag) {
            (Some(digest), _) => format!("docker://{host}/{repository}@{digest}"),
            (None, tag) => {
                let tag = tag.as_deref().unwrap_or("latest");
                format!("docker://{host}/{repository}:{tag}")
            }
        }
    }
}

/// Refuses a manifest that cannot be read.
fn readable(
    endpoint: &Endpoint,
    reference: &str,
) -> impl FnOnce(RawManifest) -> Result<RawManifest, Error> {
    let place = endpoint.place(&format!("manifests/{reference}"));
    move |raw| match ManifestOrIndex::parse(raw.bytes.clone(), raw.media_type.as_deref()) {
        Ok(_) => Ok(raw),
        Err(source) => Err(Error::Manifest {
            place,
            digest: Digest::of(&raw.bytes),
            source,
        }),
    }
}

fn log_fallback(error: &Error) {
    tracing::warn!("trying the next mirror or the registry itself: {error}");
}

/// Fetches a manifest, retrying temporary failures.
async fn manifest(
    endpoint: &Endpoint,
    reference: &str,
    expected: Option<&Digest>,
) -> Result<RawManifest, Error> {
    let ask = Ask {
        path: format!("manifests/{reference}"),
        accept: Some(ACCEPT_MANIFESTS),
        ..Ask::default()
    };
    fetch(endpoint, &ask, expected).await
}

/// Fetches a manifest or a list of such, retrying temporary failures.
async fn fetch(
    endpoint: &Endpoint,
    ask: &Ask,
    expected: Option<&Digest>,
) -> Result<RawManifest, Error> {
    let mut budget = Budget::new(&endpoint.options);
    loop {
        match manifest_once(endpoint, ask, expected).await {
            Err(error) => budget.pause(error).await?,
            Ok(manifest) => return Ok(manifest),
        }
    }
}

async fn manifest_once(
    endpoint: &Endpoint,
    ask: &Ask,
    expected: Option<&Digest>,
) -> Result<RawManifest, Error> {
    let mut response = endpoint.call(ask).await?;
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let media_type = header(CONTENT_TYPE.as_str());
    let media_type = media_type.map(|m| m.split(';').next().unwrap_or_default().trim().into());
    // A digest by an algorithm that we cannot compute promises nothing that could be checked.
    let said = header("docker-content-digest").and_then(|text| text.parse().ok());
    let place = endpoint.place(&ask.path);
    let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
    let body = answer::read_body(&mut response, limit).await;
    let body = body
        .map_err(|error| endpoint.peer.broken(&error, place.clone()))?
        .ok_or_else(|| Error::Refused {
            place: place.clone(),
            detail: format!("its manifest is larger than {limit} bytes"),
        })?;
    let found = Digest::of(&body);
    for promised in [expected, said.as_ref()].into_iter().flatten() {
        if *promised != found {
            return Err(Error::Mismatch {
                place,
                expected: promised.to_string(),
                found: found.to_string(),
            });
        }
    }
    Ok(RawManifest {
        bytes: body,
        media_type,
    })
}

/// Chooses what to answer to a challenge.
#[cfg(feature = "testing")]
pub(super) fn probe_challenge(headers: &reqwest::header::HeaderMap) {
    // Whatever is said is an answer.
    drop(token::Challenge::of(headers));
}

/// Reads an answer with several parts, in two pieces.
#[cfg(feature = "testing")]
pub(super) fn probe_multipart(content_type: &str, body: &[u8]) {
    let Some(mut parts) = multipart::Multipart::new(content_type) else {
        return;
    };
    let (first, second) = body.split_at(body.len() / 2);
    for piece in [first, second] {
        parts.feed(piece);
        while let Ok(multipart::Next::Part(_) | multipart::Next::Data(_)) = parts.next() {}
    }
}
