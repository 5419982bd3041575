//! Pushing to a registry (distribution-spec, "Push"): blobs and manifests come in, an image under a
//! name goes out. What the registry has is not sent; what another repository of it has is taken
//! over from there. A blob that breaks off is sent again from its beginning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Client, Method, Response, StatusCode, Url};

use super::super::registries_conf::RegistriesConf;
use super::endpoint::{Ask, Endpoint};
use super::retry::Budget;
use crate::image::{Digest, RegistryName};
use crate::transport::Error;
use crate::transport::push::{Check, Content, PushOptions, PushedManifest, Sink, chunks};

/// How long a registry may take for a blob after its last byte: some copy it once more then.
const PATIENCE: Duration = Duration::from_secs(600);

/// One image name in a registry that is written to.
#[derive(Debug)]
pub(in crate::transport) struct RegistrySink {
    name: RegistryName,
    endpoint: Arc<Endpoint>,
    uploads: Client,
    /// Repositories of this registry that may have a blob.
    mount_from: Vec<String>,
}

impl RegistrySink {
    /// Prepares access: reads registries.conf, certificates and credentials, and contacts nothing.
    pub(in crate::transport) fn new(
        name: RegistryName,
        options: &PushOptions,
    ) -> Result<Self, Error> {
        let conf = RegistriesConf::load(&options.source.host)?;
        let target = conf.push_target(&name)?;
        let others = options.mount_from.iter();
        let others = others.filter(|o| o.host == name.host && o.repository != name.repository);
        let mut mount_from: Vec<_> = others.map(|other| other.repository.clone()).collect();
        mount_from.sort();
        mount_from.dedup();
        let helpers = conf.credential_helpers();
        let endpoint = Endpoint::for_push(&target, &mount_from, helpers, &options.source)?;
        Ok(Self {
            uploads: endpoint.patient_client()?,
            name,
            endpoint,
            mount_from,
        })
    }

    /// Makes a request until it succeeds or will not.
    async fn call(&self, ask: &Ask) -> Result<Response, Error> {
        let mut budget = Budget::new(&self.endpoint.options);
        loop {
            match self.endpoint.call(ask).await {
                Err(error) => budget.pause(error).await?,
                Ok(response) => return Ok(response),
            }
        }
    }

    async fn is_there(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let ask = Ask {
            method: Method::HEAD,
            path: format!("blobs/{digest}"),
            ..Ask::default()
        };
        match self.call(&ask).await {
            Ok(response) => {
                let length = response.headers().get(CONTENT_LENGTH);
                let length = length.and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
                Ok(length.is_none_or(|length| length == size))
            }
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for a blob of another repository; what does not succeed is uploaded like any other.
    async fn mount(&self, digest: &Digest, from: &str) -> bool {
        let ask = Ask {
            method: Method::POST,
            path: format!("blobs/uploads/?mount={digest}&from={from}"),
            body: Some(no_body()),
            ..Ask::default()
        };
        match self.endpoint.call(&ask).await {
            Ok(response) if response.status() == StatusCode::CREATED => true,
            Ok(response) => {
                // The registry began an upload instead.
                self.give_up(&response).await;
                false
            }
            Err(error) => {
                tracing::debug!("{digest} is not taken over from {from}: {error}");
                false
            }
        }
    }

    /// Ends an upload that is not needed.
    async fn give_up(&self, response: &Response) {
        let Ok(url) = self.endpoint.location(response) else {
            return;
        };
        let ask = Ask {
            method: Method::DELETE,
            url: Some(url),
            ..Ask::default()
        };
        if let Err(error) = self.endpoint.call(&ask).await {
            tracing::debug!("an upload that is not needed stays: {error}");
        }
    }

    async fn upload(&self, digest: &Digest, size: u64, content: &dyn Content) -> Result<(), Error> {
        let begin = Ask {
            method: Method::POST,
            path: "blobs/uploads/".into(),
            body: Some(no_body()),
            ..Ask::default()
        };
        let url = self.endpoint.location(&self.endpoint.call(&begin).await?)?;
        let response = self.send(&url, (digest, size), content).await?;
        let mut url = self.endpoint.location(&response)?;
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let end = Ask {
            method: Method::PUT,
            url: Some(url),
            body: Some(no_body()),
            ..Ask::default()
        };
        self.endpoint.call(&end).await.map(|_| ())
    }

    /// Sends all bytes in one request, and watches that they move.
    async fn send(
        &self,
        url: &Url,
        (digest, size): (&Digest, u64),
        content: &dyn Content,
    ) -> Result<Response, Error> {
        let place = format!("blob {digest} for {}", self.name);
        let blob = content.open().await?;
        let stream = chunks(blob, place.clone());
        let failure = Failure::default();
        let moved = Arc::new(AtomicU64::new(0));
        let check = Check::new(digest, size, place.clone());
        let body = checked(stream, check, failure.clone(), moved.clone());
        let sending =
            self.endpoint
                .send_stream(&self.uploads, url, (size, Body::wrap_stream(body)));
        let answer = tokio::select! {
            answer = sending => answer,
            error = self.silence(&moved, size, place) => Err(error),
        };
        // What failed on our side says more than the connection that it broke.
        if let Some(error) = failure.take() {
            return Err(error);
        }
        let response = answer?;
        match response.status().is_success() {
            true => Ok(response),
            false => {
                let place = super::token::place(url);
                let error = self.endpoint.failure(response, place).await;
                Err(expired(error))
            }
        }
    }

    /// Ends when nothing has moved for too long.
    async fn silence(&self, moved: &AtomicU64, size: u64, place: String) -> Error {
        let idle = self.endpoint.options.idle_timeout;
        let mut before = 0;
        loop {
            let limit = match before == size {
                true => idle.max(PATIENCE),
                false => idle,
            };
            tokio::time::sleep(limit).await;
            let now = moved.load(Ordering::Relaxed);
            if now == before {
                return Error::Temporary {
                    place,
                    detail: format!("nothing was taken for {limit:?}"),
                    retry_after: None,
                };
            }
            before = now;
        }
    }

    async fn put_manifest(
        &self,
        manifest: &PushedManifest<'_>,
        reference: &str,
    ) -> Result<(), Error> {
        let bytes = Bytes::copy_from_slice(manifest.bytes);
        let ask = Ask {
            method: Method::PUT,
            path: format!("manifests/{reference}"),
            body: Some((bytes, manifest.media_type.to_owned())),
            ..Ask::default()
        };
        let response = self.call(&ask).await?;
        let said = response.headers().get("docker-content-digest");
        let said = said.and_then(|d| d.to_str().ok()?.parse::<Digest>().ok());
        match said {
            Some(said) if said != *manifest.digest => Err(Error::Mismatch {
                place: self.endpoint.place(&ask.path),
                expected: manifest.digest.to_string(),
                found: said.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// Proxies and registries want a length on requests that could have a body.
fn no_body() -> (Bytes, String) {
    (Bytes::new(), "application/octet-stream".into())
}

/// A token that ran out while bytes were sent is a reason to send them again.
fn expired(error: Error) -> Error {
    match error {
        Error::Denied { place, detail } => Error::Temporary {
            place,
            detail,
            retry_after: None,
        },
        other => other,
    }
}

/// Why a body ended early: the client can only say that it did.
#[derive(Debug, Clone, Default)]
struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    fn set(&self, error: Error) -> std::io::Error {
        let text = error.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        std::io::Error::other(text)
    }

    fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

type Chunks = futures_util::stream::BoxStream<'static, Result<Bytes, Error>>;

/// The same chunks. The last one goes out only when all have been checked, so that a registry never
/// has a whole blob that is another one.
fn checked(
    stream: Chunks,
    check: Check,
    failure: Failure,
    moved: Arc<AtomicU64>,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let state = Some((stream, check, None::<Bytes>));
    futures_util::stream::unfold(state, move |state| {
        let (failure, moved) = (failure.clone(), moved.clone());
        async move {
            let (mut stream, mut check, mut held) = state?;
            loop {
                let next = stream.next().await;
                let step = match next {
                    Some(Ok(chunk)) => check.update(&chunk).map(|()| Some(chunk)),
                    Some(Err(error)) => Err(error),
                    None => Ok(None),
                };
                match step {
                    Err(error) => return Some((Err(failure.set(error)), None)),
                    Ok(Some(chunk)) => {
                        if let Some(out) = held.replace(chunk) {
                            moved.fetch_add(out.len() as u64, Ordering::Relaxed);
                            return Some((Ok(out), Some((stream, check, held))));
                        }
                    }
                    Ok(None) => {
                        if let Err(error) = check.finish() {
                            return Some((Err(failure.set(error)), None));
                        }
                        let out = held?;
                        moved.fetch_add(out.len() as u64, Ordering::Relaxed);
                        return Some((Ok(out), None));
                    }
                }
            }
        }
    })
}

#[async_trait]
impl Sink for RegistrySink {
    async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        if self.is_there(digest, size).await? {
            return Ok(true);
        }
        for from in &self.mount_from {
            if self.mount(digest, from).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &dyn Content,
    ) -> Result<(), Error> {
        let mut budget = Budget::new(&self.endpoint.options);
        loop {
            match self.upload(digest, size, content).await {
                Err(error) => budget.pause(error).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn put_instance(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        self.put_manifest(manifest, &manifest.digest.to_string())
            .await
    }

    async fn put_named(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        if let Some(digest) = self.name.digest.filter(|digest| digest != manifest.digest) {
            return Err(Error::Config(format!(
                "an image with digest {} cannot be written to {}: its name has the digest {digest}",
                manifest.digest, self.name
            )));
        }
        self.put_manifest(manifest, &self.name.manifest_reference())
            .await
    }
}
