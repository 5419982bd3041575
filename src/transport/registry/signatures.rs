//! Signatures of images in registries: digests of manifests come in; what lookaside servers, cosign's
//! tags and lists of referrers have goes out. Nothing that is missing is an error; what cannot be
//! asked is, unless another place has signatures. Never verifies one.

use std::sync::Arc;

use futures_util::TryStreamExt;
use reqwest::header::CONTENT_TYPE;
use reqwest::{StatusCode, Url};

use super::client::client;
use super::endpoint::{Ask, Endpoint};
use super::retry::Budget;
use super::{answer, fetch, log_fallback, manifest, token, transfer};
use crate::image::{Descriptor, Digest, SignatureContent, StoredSignature};
use crate::transport::attachments::{
    self, Attachment, Collected, MAX_SIGNATURE_BYTES, MAX_SIGNATURES,
};
use crate::transport::registries_d::{Lookaside, RegistriesD, signature_path};
use crate::transport::{Error, SourceOptions, config_file};

/// A list of referrers.
const ACCEPT_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The signatures of the first endpoint that has any. Where none has, a mirror that could not be asked
/// does not matter, and `itself`, the registry, does.
pub(super) async fn find(
    endpoints: &[&Arc<Endpoint>],
    itself: &Arc<Endpoint>,
    manifests: &[Digest],
) -> Result<Vec<StoredSignature>, Error> {
    let mut failed = None;
    for endpoint in endpoints {
        match of_endpoint(endpoint, manifests).await {
            Ok(found) if found.is_empty() && Arc::ptr_eq(endpoint, itself) => return Ok(found),
            Ok(found) if found.is_empty() => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                log_fallback(&error);
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or_else(|| Ok(Vec::new()), Err)
}

/// The signatures of all endpoints that can be asked.
pub(super) async fn all(endpoints: &[Arc<Endpoint>], manifests: &[Digest]) -> Vec<StoredSignature> {
    let mut all = Vec::new();
    for endpoint in endpoints {
        match of_endpoint(endpoint, manifests).await {
            Ok(found) => all.extend(found),
            Err(error) => tracing::warn!("what signatures there are: {error}"),
        }
    }
    all
}

async fn of_endpoint(
    endpoint: &Arc<Endpoint>,
    manifests: &[Digest],
) -> Result<Vec<StoredSignature>, Error> {
    let config = RegistriesD::load(&endpoint.options.host)?;
    let mut collected = Collected::default();
    let lookaside = config.lookaside(&endpoint.name)?;
    for digest in manifests {
        from_lookaside(endpoint, &lookaside, digest, &mut collected).await?;
    }
    if config.attachments(&endpoint.name) == Some(false) {
        return Ok(collected.found);
    }
    for digest in manifests {
        let tag = attachments::signature_tag(digest);
        attached(endpoint, &tag, None, &mut collected).await?;
        let found = referring(endpoint, digest, &mut collected).await;
        // Not every registry has a good answer to a question that is this new.
        match found {
            Err(error) if !collected.found.is_empty() => log_fallback(&error),
            found => found?,
        }
    }
    Ok(collected.found)
}

/// The signatures among what says that it belongs to a manifest.
async fn referring(
    endpoint: &Arc<Endpoint>,
    digest: &Digest,
    collected: &mut Collected,
) -> Result<(), Error> {
    for referrer in referrers(endpoint, digest).await? {
        let name = referrer.digest.to_string();
        attached(endpoint, &name, Some(&referrer.digest), collected).await?;
    }
    Ok(())
}

/// `None` for what does not exist.
fn present<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The signatures in the layers of a manifest, if it exists.
async fn attached(
    endpoint: &Arc<Endpoint>,
    reference: &str,
    expected: Option<&Digest>,
    collected: &mut Collected,
) -> Result<(), Error> {
    let Some(raw) = present(manifest(endpoint, reference, expected).await)? else {
        return Ok(());
    };
    let place = endpoint.place(&format!("manifests/{reference}"));
    for layer in Attachment::parse(&raw.bytes, &place)?.layers {
        let place = endpoint.place(&format!("blobs/{}", layer.digest));
        let payload = blob(endpoint, &layer, &place).await?;
        collected.push(attachments::signature(&layer, payload, place)?)?;
    }
    Ok(())
}

async fn blob(endpoint: &Arc<Endpoint>, layer: &Descriptor, place: &str) -> Result<Vec<u8>, Error> {
    let mut stream = transfer::open(endpoint.clone(), Vec::new().into(), layer).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_SIGNATURE_BYTES {
            return Err(too_large(place));
        }
    }
    Ok(bytes)
}

fn too_large(place: &str) -> Error {
    Error::Refused {
        place: place.into(),
        detail: format!("it is larger than {MAX_SIGNATURE_BYTES} bytes, the limit for signatures"),
    }
}

/// What says that it belongs to a manifest: by the registry's own list, or by the tag that stands in
/// for it (distribution-spec, "Referrers Tag Schema").
async fn referrers(endpoint: &Endpoint, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
    let ask = Ask {
        path: format!("referrers/{digest}"),
        accept: Some(ACCEPT_INDEX),
        ..Ask::default()
    };
    let found = match fetch(endpoint, &ask, None).await {
        // Registries that know no such request say so in several ways.
        Err(Error::NotFound { .. } | Error::Refused { .. }) => {
            present(manifest(endpoint, &attachments::referrers_tag(digest), None).await)?
        }
        other => Some(other?),
    };
    match found {
        None => Ok(Vec::new()),
        Some(raw) => attachments::referrers(&raw.bytes, &endpoint.place(&ask.path)),
    }
}

/// Signature files from the first on, up to the first that is missing.
async fn from_lookaside(
    endpoint: &Endpoint,
    lookaside: &Lookaside,
    digest: &Digest,
    collected: &mut Collected,
) -> Result<(), Error> {
    for number in 1..=MAX_SIGNATURES {
        let path = signature_path(&endpoint.name.repository, digest, number);
        let found = match lookaside {
            Lookaside::Directory(dir) => {
                let file = dir.join(&path);
                config_file::read(&file)?.map(|bytes| (file.display().to_string(), bytes))
            }
            Lookaside::Server(base) => {
                let url = below(base, &path);
                let place = token::place(&url);
                let bytes = present(download(&url, &endpoint.options).await)?.flatten();
                bytes.map(|bytes| (place, bytes))
            }
        };
        let Some((place, bytes)) = found else { break };
        let content = SignatureContent::File(bytes);
        collected.push(StoredSignature { place, content })?;
    }
    Ok(())
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// A file of a web server, retrying temporary failures; `None` for a page in its place.
async fn download(url: &Url, options: &SourceOptions) -> Result<Option<Vec<u8>>, Error> {
    let mut budget = Budget::new(options);
    loop {
        match download_once(url, options).await {
            Err(error) => budget.pause(error).await?,
            Ok(bytes) => return Ok(bytes),
        }
    }
}

async fn download_once(url: &Url, options: &SourceOptions) -> Result<Option<Vec<u8>>, Error> {
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let peer = answer::Peer {
        host,
        idle: options.idle_timeout,
    };
    let place = token::place(url);
    let client = client(&peer.host, false, options, Some(options.idle_timeout))?;
    let sent = client.get(url.clone()).send().await;
    let mut response = sent.map_err(|error| peer.broken(&error, place.clone()))?;
    if response.status() != StatusCode::OK {
        let access = "a lookaside server is asked without credentials";
        return Err(answer::failure(response, place, access).await);
    }
    // Some servers have a page for everything that they do not have.
    let kind = response.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        return Ok(None);
    }
    let body = answer::read_body(&mut response, MAX_SIGNATURE_BYTES).await;
    let body = body.map_err(|error| peer.broken(&error, place.clone()))?;
    body.ok_or_else(|| too_large(&place)).map(Some)
}
