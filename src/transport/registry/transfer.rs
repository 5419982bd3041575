//! A blob on its way: a stream of bytes that goes on where it stopped when a connection breaks.
//! Never yields more bytes than were promised; never checks a digest, which is for whoever takes
//! the bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::answer;
use super::endpoint::{Ask, Doubt, Endpoint};
use super::log_fallback;
use super::retry::Budget;
use crate::image::Descriptor;
use crate::transport::Error;

/// A transfer between two chunks.
#[derive(Debug)]
struct Transfer {
    endpoint: Arc<Endpoint>,
    /// Who else may have the blob.
    others: VecDeque<Arc<Endpoint>>,
    path: String,
    size: Option<u64>,
    /// Bytes yielded so far.
    at: u64,
    /// Bytes of the present answer that were yielded before.
    skip: u64,
    body: Option<Response>,
    /// Retries since bytes last came; with this endpoint at all, where there are others.
    retries: u32,
}

/// Opens a blob. Comes back when `endpoint` or one of `others` has agreed to send it; the others
/// also step in where a transfer cannot go on.
pub(super) async fn open(
    endpoint: Arc<Endpoint>,
    others: VecDeque<Arc<Endpoint>>,
    blob: &Descriptor,
) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
    let mut transfer = Transfer {
        endpoint,
        others,
        path: format!("blobs/{}", blob.digest),
        size: blob.size,
        at: 0,
        skip: 0,
        body: None,
        retries: 0,
    };
    transfer.connect().await?;
    Ok(stream::try_unfold(transfer, Transfer::next).boxed())
}

impl Transfer {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            self.connect().await?;
            match self.chunk().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Ok(Some((bytes, self))),
                Ok(None) => return Ok(None),
                Err(_) if self.size == Some(self.at) => return Ok(None),
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// Gets ready for the next try: after a pause, or with the next endpoint.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        self.body = None;
        let mut budget = Budget::resume(&self.endpoint.options, self.retries);
        let Err(error) = budget.pause(error).await else {
            self.retries = budget.used();
            return Ok(());
        };
        let Some(next) = self.others.pop_front() else {
            return Err(error);
        };
        log_fallback(&error);
        if error.is_temporary() {
            self.endpoint.give_up(Doubt::Slow);
        }
        self.endpoint = next;
        self.retries = 0;
        Ok(())
    }

    /// The next bytes of the present answer; `None` is its good end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        let chunk = self.endpoint.chunk(body).await.map_err(|error| {
            let place = self.endpoint.place(&self.path);
            self.endpoint.peer.broken(&error, place)
        })?;
        let Some(mut bytes) = chunk else {
            return match self.size {
                Some(size) if self.at != size => Err(self.wrong_size(format!("{} bytes", self.at))),
                _ => Ok(None),
            };
        };
        let old = self.skip.min(bytes.len() as u64);
        self.skip -= old;
        let new = bytes.split_off(usize::try_from(old).unwrap_or(bytes.len()));
        self.at += new.len() as u64;
        match self.size {
            Some(size) if self.at > size => Err(self.wrong_size("more".into())),
            _ if new.is_empty() => Ok(Some(new)),
            _ => {
                // A mirror that hangs after every few bytes has its time, and no more.
                if self.others.is_empty() {
                    self.retries = 0;
                }
                Ok(Some(new))
            }
        }
    }

    fn wrong_size(&self, found: String) -> Error {
        Error::Mismatch {
            place: self.endpoint.place(&self.path),
            expected: format!("{} bytes", self.size.unwrap_or_default()),
            found,
        }
    }

    /// Makes sure that there is an answer to read from, starting where the last one stopped.
    async fn connect(&mut self) -> Result<(), Error> {
        while self.body.is_none() {
            match self.try_connect().await {
                Ok(response) => self.body = Some(response),
                Err(error) => self.pause(error).await?,
            }
        }
        Ok(())
    }

    async fn try_connect(&mut self) -> Result<Response, Error> {
        let ask = Ask {
            path: self.path.clone(),
            from: self.at,
            ..Ask::default()
        };
        let response = self.endpoint.call(&ask).await?;
        match response.status() {
            StatusCode::OK => self.skip = self.at,
            StatusCode::PARTIAL_CONTENT if self.at > 0 => {
                self.check_range(&response)?;
                self.skip = 0;
                return Ok(response);
            }
            status => {
                return Err(Error::Refused {
                    place: self.endpoint.place(&self.path),
                    detail: format!("HTTP status {status} is no answer to what was asked"),
                });
            }
        }
        match (self.size, response.content_length()) {
            (Some(size), Some(length)) if size != length => {
                return Err(self.wrong_size(format!("{length} bytes")));
            }
            (size, length) => self.size = size.or(length),
        }
        Ok(response)
    }

    /// A 206 must start where we stopped, in a blob of the size that was promised.
    fn check_range(&self, response: &Response) -> Result<(), Error> {
        let header = response.headers().get(CONTENT_RANGE);
        let text = header.and_then(|h| h.to_str().ok()).unwrap_or_default();
        let (start, total) = parse_range(text).unwrap_or((u64::MAX, None));
        let size_fits = match (self.size, total) {
            (Some(size), Some(total)) => size == total,
            _ => true,
        };
        match start == self.at && size_fits {
            true => Ok(()),
            false => Err(Error::Refused {
                place: self.endpoint.place(&self.path),
                detail: format!(
                    "asked to go on at byte {}, it sends the range {:?}",
                    self.at,
                    answer::plain(text)
                ),
            }),
        }
    }
}

/// First byte and total of `bytes START-END/TOTAL` (RFC 9110, 14.4); the total may be `*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_content_ranges() {
        let table = [
            ("bytes 3-9/10", Some((3, Some(10)))),
            ("bytes 3-9/*", Some((3, None))),
            ("bytes */10", None),
            ("bytes 3-9/x", None),
            ("3-9/10", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_is_read_or_refused(text in "(bytes |[0-9]|-|/|\\*|\\PC){0,12}") {
            // Only a panic would be wrong.
            let _ = parse_range(&text);
        }
    }
}
