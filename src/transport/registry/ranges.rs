//! Parts of a blob on their way: ranges come in, a stream of exactly their bytes goes out, which goes
//! on where it stopped when a connection breaks. Never checks a digest.
//!
//! Many ranges are asked for at once where the registry can do that (RFC 9110, 14.2), and one by one
//! where it cannot. What lies between two ranges is fetched, too, and dropped, where that costs less
//! than another part or another request would.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Response, StatusCode};

use super::answer;
use super::endpoint::{Ask, Endpoint};
use super::multipart::{Multipart, Next, parse_range};
use super::retry::Budget;
use crate::image::Descriptor;
use crate::transport::Error;

/// Ranges of one request. Servers refuse headers of more than 8 KiB, and some more than 200 ranges.
const MAX_RANGES: usize = 128;
/// Bytes that cost less than a part of their own, whose head has some 160.
const GAP_IN_PART: u64 = 256;
/// Bytes that cost less than a request of their own, which costs a round trip.
const GAP_IN_REQUEST: u64 = 64 << 10;

/// Opens ranges of a blob. Comes back when the registry has agreed to send the first ones.
pub(super) async fn open(
    endpoint: Arc<Endpoint>,
    blob: &Descriptor,
    ranges: &[Range<u64>],
) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
    let mut transfer = Ranges {
        endpoint,
        path: format!("blobs/{}", blob.digest),
        wanted: ranges.iter().cloned().collect(),
        single: false,
        body: None,
        retries: 0,
    };
    transfer.connect().await?;
    Ok(stream::try_unfold(transfer, Ranges::next).boxed())
}

#[derive(Debug)]
struct Ranges {
    endpoint: Arc<Endpoint>,
    path: String,
    /// What has not come yet.
    wanted: VecDeque<Range<u64>>,
    /// Whether the registry sends one range at a time only.
    single: bool,
    body: Option<Body>,
    /// Retries since bytes last came.
    retries: u32,
}

#[derive(Debug)]
struct Body {
    response: Response,
    /// Where there are several parts.
    parts: Option<Multipart>,
    /// Parts that are still to begin.
    asked: VecDeque<Range<u64>>,
    /// What of the present part is still to come.
    part: Range<u64>,
    /// Bytes of the present part that have come and have not been looked at.
    rest: Bytes,
}

impl Ranges {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        while !self.wanted.is_empty() {
            self.connect().await?;
            match self.chunk().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => {
                    self.retries = 0;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) => self.body = None,
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(None)
    }

    /// The next bytes that are wanted, which may be none; `None` is the good end of an answer.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        if body.rest.is_empty() {
            let read = body.read(&self.endpoint).await;
            let done = body.asked.is_empty() && body.part.is_empty();
            match read {
                Ok(true) => {}
                Ok(false) | Err(Fault::Broken(_)) if done => return Ok(None),
                Ok(false) => return Err(self.short()),
                Err(Fault::Broken(error)) => {
                    let place = self.endpoint.place(&self.path);
                    return Err(self.endpoint.peer.broken(&error, place));
                }
                Err(Fault::Odd(why)) => return Err(self.odd(why)),
            }
        }
        Ok(Some(self.take()))
    }

    /// Of the bytes that have come: what is wanted, up to the end of one range.
    fn take(&mut self) -> Bytes {
        let (Some(body), Some(wanted)) = (&mut self.body, self.wanted.front_mut()) else {
            return Bytes::new();
        };
        let gap = wanted.start.saturating_sub(body.part.start);
        drop(body.split(gap));
        if body.part.start != wanted.start {
            return Bytes::new();
        }
        let bytes = body.split(wanted.end - wanted.start);
        wanted.start += bytes.len() as u64;
        if wanted.is_empty() {
            self.wanted.pop_front();
        }
        bytes
    }

    /// Gets ready for the next try: after a pause, or by asking for less at a time.
    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        let several = self.body.take().is_none_or(|body| body.parts.is_some());
        if matches!(error, Error::WholeOnly { .. }) && several && !self.single {
            tracing::debug!("asking for one range at a time: {error}");
            self.single = true;
            return Ok(());
        }
        let mut budget = Budget::resume(&self.endpoint.options, self.retries);
        budget.pause(error).await?;
        self.retries = budget.used();
        Ok(())
    }

    fn short(&self) -> Error {
        Error::Temporary {
            place: self.endpoint.place(&self.path),
            detail: "the answer ends too early".into(),
            retry_after: None,
        }
    }

    fn odd(&self, why: String) -> Error {
        let place = self.endpoint.place(&self.path);
        let place = format!("{place} (asked for parts of it, the answer {why})");
        Error::WholeOnly { place }
    }

    /// Makes sure that there is an answer to read from.
    async fn connect(&mut self) -> Result<(), Error> {
        while self.body.is_none() {
            match self.try_connect().await {
                Ok(body) => self.body = Some(body),
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(())
    }

    async fn try_connect(&mut self) -> Result<Body, Error> {
        let asked = request(&self.wanted, self.single);
        if asked.len() == 1 {
            // Nothing to be gained by asking once more.
            self.single = true;
        }
        let ask = Ask {
            path: self.path.clone(),
            ranges: asked.clone().into(),
            ..Ask::default()
        };
        let response = self.endpoint.call(&ask).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(self.odd(format!("has HTTP status {}", response.status())));
        }
        let header = |name| {
            let value = response.headers().get(name).and_then(|h| h.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (parts, range) = (header(CONTENT_TYPE), header(CONTENT_RANGE));
        let parts = Multipart::new(&parts);
        let mut body = Body {
            response,
            asked,
            part: 0..0,
            rest: Bytes::new(),
            parts,
        };
        if body.parts.is_none() {
            let found = parse_range(&range);
            let odd = || self.odd(format!("has the range {:?}", answer::plain(&range)));
            body.begin(found.ok_or_else(odd)?).map_err(|_| odd())?;
        }
        Ok(body)
    }
}

/// Why a body cannot be read on.
#[derive(Debug)]
enum Fault {
    Broken(reqwest::Error),
    Odd(String),
}

impl Body {
    /// Waits for bytes of the present part; false at the end of the answer.
    async fn read(&mut self, endpoint: &Endpoint) -> Result<bool, Fault> {
        loop {
            let next = self.parts.as_mut().map(Multipart::next).transpose();
            match next.map_err(|broken| Fault::Odd(broken.to_string()))? {
                Some(Next::Part(range)) => self.begin(range)?,
                Some(Next::Data(bytes)) => return Ok(self.keep(bytes)),
                Some(Next::End) => return Ok(false),
                Some(Next::More) | None => {
                    let chunk = endpoint.chunk(&mut self.response).await;
                    let chunk = chunk.map_err(Fault::Broken)?;
                    match (chunk, &mut self.parts) {
                        (None, _) => return Ok(false),
                        (Some(chunk), Some(parts)) => parts.feed(&chunk),
                        (Some(chunk), None) => return Ok(self.keep(chunk)),
                    }
                }
            }
        }
    }

    /// A part must be the one that was asked for next.
    fn begin(&mut self, range: Range<u64>) -> Result<(), Fault> {
        if self.asked.pop_front() != Some(range.clone()) {
            return Err(Fault::Odd(format!("has a part {range:?}")));
        }
        self.part = range;
        Ok(())
    }

    /// Keeps bytes of the present part; more than it has are not looked at.
    fn keep(&mut self, mut bytes: Bytes) -> bool {
        let left = usize::try_from(self.part.end - self.part.start).unwrap_or(usize::MAX);
        bytes.truncate(left);
        self.rest = bytes;
        true
    }

    /// Takes up to `length` of the bytes that have come.
    fn split(&mut self, length: u64) -> Bytes {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = self.rest.split_to(length.min(self.rest.len()));
        self.part.start += bytes.len() as u64;
        bytes
    }
}

/// What to ask for next: the first of the ranges, those that are close to each other as one.
fn request(wanted: &VecDeque<Range<u64>>, single: bool) -> VecDeque<Range<u64>> {
    let (most, gap) = match single {
        true => (1, GAP_IN_REQUEST),
        false => (MAX_RANGES, GAP_IN_PART),
    };
    let mut asked: VecDeque<Range<u64>> = VecDeque::new();
    for range in wanted {
        let count = asked.len();
        match asked.back_mut() {
            Some(last) if range.start.saturating_sub(last.end) <= gap => last.end = range.end,
            _ if count == most => break,
            _ => asked.push_back(range.clone()),
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_close_is_asked_for_as_one() {
        let wanted = [
            0..10,
            20..30,
            300..400,
            700..800,
            70_000..70_001,
            200_000..200_001,
        ];
        let wanted = VecDeque::from(wanted);
        let parts = [0..30, 300..400, 700..800, 70_000..70_001, 200_000..200_001];
        assert_eq!(request(&wanted, false), parts);
        let one = request(&wanted, true);
        assert_eq!((one.len(), &one[0]), (1, &(0..800)));
        let many: VecDeque<_> = (0..1000).map(|n| n * 1000..n * 1000 + 1).collect();
        assert_eq!(request(&many, false).len(), MAX_RANGES);
    }

    proptest! {
        #[test]
        fn a_request_covers_the_first_ranges(
            steps in prop::collection::vec((1u64..100_000, 1u64..5000), 1..400), single: bool,
        ) {
            let mut at = 0;
            let wanted: VecDeque<_> = steps.iter().map(|(gap, length)| {
                let start = at + gap;
                at = start + length;
                start..at
            }).collect();
            let asked = request(&wanted, single);
            prop_assert!(!asked.is_empty() && asked.len() <= MAX_RANGES);
            let end = asked.back().unwrap().end;
            for range in &wanted {
                let inside = asked.iter().any(|a| a.start <= range.start && range.end <= a.end);
                prop_assert_eq!(inside, range.end <= end);
            }
        }
    }
}
