//! An answer with several ranges of a blob (RFC 9110, 14.6, "multipart/byteranges"). Bytes of the
//! body come in as the network cuts them, parts and their bytes go out. Pure: holds what is left of
//! one chunk of the body, or the head of one part.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Most bytes of what stands in front of a part.
const MAX_HEAD: usize = 4096;
/// Most characters of a boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// A body that is not what it should be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("its parts do not stand where they should: {0}")]
pub(super) struct Broken(&'static str);

/// What comes next in a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More of the body is needed.
    More,
    /// A part begins: these bytes of the blob.
    Part(Range<u64>),
    /// Bytes of the part.
    Data(Bytes),
    /// The good end.
    End,
}

/// Takes a body apart.
#[derive(Debug)]
pub(super) struct Multipart {
    /// `--BOUNDARY`
    marker: Vec<u8>,
    buffer: BytesMut,
    /// Bytes of the part that are still to come.
    left: u64,
    begun: bool,
    ended: bool,
}

impl Multipart {
    /// For a body of this content type; `None` where it is of another type.
    pub(super) fn new(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/byteranges") {
            return None;
        }
        let boundary = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.trim().split_once('=')?;
            let named = name.trim().eq_ignore_ascii_case("boundary");
            named.then(|| value.trim().trim_matches('"'))
        })?;
        let usable = (1..=MAX_BOUNDARY).contains(&boundary.len());
        usable.then(|| Self {
            marker: format!("--{boundary}").into_bytes(),
            buffer: BytesMut::new(),
            left: 0,
            begun: false,
            ended: false,
        })
    }

    /// Takes the next bytes of the body; call it when [`Next::More`] has come.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// What comes next.
    pub(super) fn next(&mut self) -> Result<Next, Broken> {
        if self.ended {
            return Ok(Next::End);
        }
        if self.left > 0 {
            let take = usize::try_from(self.left).unwrap_or(usize::MAX);
            let take = take.min(self.buffer.len());
            if take == 0 {
                return Ok(Next::More);
            }
            self.left -= take as u64;
            return Ok(Next::Data(self.buffer.split_to(take).freeze()));
        }
        self.head()
    }

    /// Reads what stands in front of a part, or behind the last one.
    fn head(&mut self) -> Result<Next, Broken> {
        // The line break in front of a boundary belongs to it; the first one has none.
        let prefix: &[u8] = if self.begun { b"\r\n" } else { b"" };
        let start = prefix.len() + self.marker.len();
        if self.buffer.len() < start + 2 {
            return Ok(Next::More);
        }
        let fits = self.buffer.starts_with(prefix)
            && self.buffer[prefix.len()..].starts_with(&self.marker);
        if !fits {
            return Err(Broken("no boundary"));
        }
        if self.buffer[start..].starts_with(b"--") {
            self.ended = true;
            self.buffer.clear();
            return Ok(Next::End);
        }
        let Some(length) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            return match self.buffer.len() > MAX_HEAD {
                true => Err(Broken("a head that is too long")),
                false => Ok(Next::More),
            };
        };
        let range = content_range(&self.buffer[start..length]).ok_or(Broken("no Content-Range"))?;
        self.buffer.advance(length + 4);
        self.begun = true;
        self.left = range.end - range.start;
        Ok(Next::Part(range))
    }
}

fn content_range(head: &[u8]) -> Option<Range<u64>> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.trim().eq_ignore_ascii_case("content-range");
        named.then(|| parse_range(value.trim()))?
    })
}

/// The bytes of `bytes START-END/TOTAL` (RFC 9110, 14.4), never none.
pub(super) fn parse_range(text: &str) -> Option<Range<u64>> {
    let (range, _) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    let end = last.checked_add(1)?;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where it begins, and its bytes.
    type Part = (u64, Vec<u8>);

    const TYPE: &str = "multipart/byteranges; boundary=B0";

    /// A body as Go's net/http writes it.
    fn body(parts: &[Part]) -> Vec<u8> {
        let mut body = Vec::new();
        for (number, (start, data)) in parts.iter().enumerate() {
            let end = start + data.len() as u64 - 1;
            let lead = if number == 0 { "" } else { "\r\n" };
            let head = format!(
                "{lead}--B0\r\nContent-Range: bytes {start}-{end}/9999\r\nContent-Type: x\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(data);
        }
        body.extend_from_slice(b"\r\n--B0--\r\n");
        body
    }

    /// Feeds `body` in pieces of `step` bytes.
    fn read(body: &[u8], step: usize) -> Result<(Vec<Part>, bool), Broken> {
        let mut multipart = Multipart::new(TYPE).unwrap();
        let mut parts: Vec<Part> = Vec::new();
        let mut pieces = body.chunks(step);
        loop {
            match multipart.next()? {
                Next::Part(range) => parts.push((range.start, Vec::new())),
                Next::Data(data) => parts.last_mut().unwrap().1.extend_from_slice(&data),
                Next::End => return Ok((parts, true)),
                Next::More => match pieces.next() {
                    Some(piece) => multipart.feed(piece),
                    None => return Ok((parts, false)),
                },
            }
        }
    }

    #[test]
    fn content_types_with_a_boundary() {
        let boundary = |text| Multipart::new(text).map(|m| String::from_utf8(m.marker).unwrap());
        assert_eq!(boundary(TYPE).as_deref(), Some("--B0"));
        let quoted = "Multipart/Byteranges;x=y; Boundary=\"a b\"";
        assert_eq!(boundary(quoted).as_deref(), Some("--a b"));
        for other in [
            "application/octet-stream",
            "multipart/byteranges",
            "text/plain; boundary=x",
        ] {
            assert_eq!(boundary(other), None, "{other}");
        }
        assert_eq!(
            boundary(&format!(
                "multipart/byteranges; boundary={}",
                "x".repeat(71)
            )),
            None
        );
    }

    #[test]
    fn refuses_what_is_no_part() {
        assert_eq!(read(b"garbage garbage", 4), Err(Broken("no boundary")));
        let head = b"--B0\r\nContent-Type: x\r\n\r\ndata";
        assert_eq!(read(head, 100), Err(Broken("no Content-Range")));
        let long = [b"--B0\r\nX: ".to_vec(), vec![b'x'; MAX_HEAD]].concat();
        assert_eq!(read(&long, 512), Err(Broken("a head that is too long")));
        let empty = b"--B0\r\nContent-Range: bytes 5-4/9\r\n\r\n";
        assert_eq!(read(empty, 100), Err(Broken("no Content-Range")));
    }

    proptest! {
        #[test]
        fn parts_come_as_they_were_written(
            parts in prop::collection::vec(
                (0u64..1000, prop::collection::vec(any::<u8>(), 1..100)), 1..5,
            ),
            step in 1usize..64, cut in 0usize..1000,
        ) {
            let body = body(&parts);
            prop_assert_eq!(read(&body, step), Ok((parts, true)));
            // Cut short, it has no good end.
            let cut = cut.min(body.len() - 5);
            prop_assert!(!read(&body[..cut], step).is_ok_and(|(_, ended)| ended));
        }

        #[test]
        fn any_bytes_are_read_or_refused(body: Vec<u8>, step in 1usize..64) {
            let _ = read(&body, step);
            let _ = read(&[b"--B0\r\n".to_vec(), body].concat(), step);
        }
    }
}
