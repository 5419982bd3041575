//! An archive with an image on the web: a URL and a sha256 come in, a source of the image goes out. The
//! archive is fetched to a file without a name and is used only if its digest is the one that was asked
//! for. Never sends credentials.

use std::fs::File;
use std::io::Write as _;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::docker_archive::DockerArchive;
use super::files::Files as _;
use super::oci_layout::OciLayout;
use super::registry::{self, Budget, Peer, failure};
use super::tar_index::TarIndex;
use super::{Error, ImageSource, SourceOptions};
use crate::image::Digest;

/// Fetches the archive at `url` into `file` and opens the image in it, whichever kind of archive it is.
pub async fn open_url(
    url: &str,
    sha256: &Digest,
    file: File,
    options: &SourceOptions,
) -> Result<Box<dyn ImageSource>, Error> {
    let parsed = Url::parse(url).map_err(|why| Error::Config(format!("{url} is no URL: {why}")))?;
    let host = parsed.host_str().unwrap_or_default();
    let safe = match parsed.scheme() {
        "https" => true,
        scheme => scheme == "http" && registry::is_loopback(host),
    };
    if !safe {
        return Err(Error::Config(format!(
            "{} is not an https URL",
            registry::place(&parsed)
        )));
    }
    let mut download = Download::new(parsed, file, options)?;
    let mut budget = Budget::new(options);
    while let Err(error) = download.go_on().await {
        budget.pause(error).await?;
    }
    let (file, length, place) = download.finish(sha256)?;
    let opened = tokio::task::spawn_blocking(move || open(file, length, &place)).await;
    opened.unwrap_or_else(|died| Err(Error::Config(died.to_string())))
}

/// An OCI archive has an `index.json`.
fn open(file: File, length: u64, place: &str) -> Result<Box<dyn ImageSource>, Error> {
    let index = TarIndex::of(file, length, place)?;
    Ok(match index.open("index.json") {
        Ok(_) => Box::new(OciLayout::open(index, None)?),
        Err(_) => Box::new(DockerArchive::open(index, None)?),
    })
}

/// A file on its way.
struct Download {
    client: Client,
    peer: Peer,
    url: Url,
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Download {
    fn new(url: Url, file: File, options: &SourceOptions) -> Result<Self, Error> {
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            client: registry::client(&host, false, options, Some(options.idle_timeout))?,
            peer: Peer {
                host,
                idle: options.idle_timeout,
            },
            url,
            file,
            hasher: Sha256::new(),
            length: 0,
        })
    }

    /// Fetches what is missing.
    async fn go_on(&mut self) -> Result<(), Error> {
        let place = registry::place(&self.url);
        let mut request = self.client.get(self.url.clone());
        if self.length > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.length));
        }
        let broken = |peer: &Peer, error: &reqwest::Error| peer.broken(error, place.clone());
        let sent = request.send().await;
        let mut response = sent.map_err(|error| broken(&self.peer, &error))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.goes_on(&response) => {}
            StatusCode::OK => self.begin_anew(&place)?,
            _ => return Err(failure(response, place, "none is sent to a URL").await),
        }
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| broken(&self.peer, &error))? {
                None => return Ok(()),
                Some(chunk) => self.take(&chunk, &place)?,
            }
        }
    }

    /// Whether an answer has what comes next.
    fn goes_on(&self, response: &Response) -> bool {
        let range = response.headers().get(CONTENT_RANGE);
        let range = range
            .and_then(|range| range.to_str().ok())
            .unwrap_or_default();
        self.length > 0 && range.starts_with(&format!("bytes {}-", self.length))
    }

    fn begin_anew(&mut self, place: &str) -> Result<(), Error> {
        use std::io::Seek as _;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|source| write_error(place, source))?;
        (self.hasher, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    fn take(&mut self, chunk: &[u8], place: &str) -> Result<(), Error> {
        let written = self.file.write_all(chunk);
        written.map_err(|source| write_error(place, source))?;
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }

    fn finish(self, sha256: &Digest) -> Result<(File, u64, String), Error> {
        let place = registry::place(&self.url);
        let found = Digest::from_bytes(self.hasher.finalize().into());
        if found != *sha256 {
            return Err(Error::Mismatch {
                place,
                expected: sha256.to_string(),
                found: found.to_string(),
            });
        }
        Ok((self.file, self.length, place))
    }
}

fn write_error(place: &str, source: std::io::Error) -> Error {
    Error::Write {
        place: format!("what comes from {place}"),
        source,
    }
}
