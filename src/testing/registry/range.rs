//! Parts of a body, as Go's net/http sends them: a request and a whole answer come in, the answer
//! that the request's `Range` header asks for goes out. Pure.

use std::ops::Range;

use super::Fault;
use super::http::{Request, Response};

const BOUNDARY: &str = "5a0c7f0d9e5b4e0b8a1f5a0c7f0d9e5b4e0b8a1f5a0c7f0d9e5b4e0b8a1f";

pub(super) fn ranged(request: &Request, faults: &[Fault], response: Response) -> Response {
    let Some(header) = request.headers.get("range") else {
        return response;
    };
    let size = response.body.len();
    let Some(mut ranges) = parse(header, size) else {
        return Response::new(400, "");
    };
    let ignored =
        faults.contains(&Fault::NoRange) || (faults.contains(&Fault::OneRange) && ranges.len() > 1);
    if ignored || response.status != 200 {
        return response;
    }
    for fault in faults {
        match fault {
            Fault::WrongRange(from) => {
                ranges.truncate(1);
                ranges[0] = usize::try_from(*from).unwrap_or(usize::MAX)..size;
            }
            Fault::ReverseParts => ranges.reverse(),
            _ => {}
        }
    }
    if ranges.iter().any(|range| range.start >= size) {
        return Response::new(416, "").with("Content-Range", &format!("bytes */{size}"));
    }
    match &ranges[..] {
        [range] => single(response, range.clone()),
        several => multipart(response, several),
    }
}

/// `bytes=A-B,C-D,E-`; `None` for what is no such list.
fn parse(header: &str, size: usize) -> Option<Vec<Range<usize>>> {
    let ranges = header.strip_prefix("bytes=")?.split(',').map(|range| {
        let (start, last) = range.trim().split_once('-')?;
        let end = match last {
            "" => size,
            last => last.parse::<usize>().ok()?.checked_add(1)?.min(size),
        };
        Some(start.parse().ok()?..end)
    });
    ranges.collect()
}

fn content_range(range: &Range<usize>, size: usize) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

fn single(mut response: Response, range: Range<usize>) -> Response {
    let size = response.body.len();
    response.status = 206;
    response.body = response.body.slice(range.clone());
    response.with("Content-Range", &content_range(&range, size))
}

fn multipart(mut response: Response, ranges: &[Range<usize>]) -> Response {
    let size = response.body.len();
    let mut body = Vec::new();
    for range in ranges {
        let lead = if body.is_empty() { "" } else { "\r\n" };
        let position = content_range(range, size);
        let head = format!(
            "{lead}--{BOUNDARY}\r\nContent-Range: {position}\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&response.body[range.clone()]);
    }
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    response.status = 206;
    response.body = body.into();
    let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
    response.with("Content-Type", &kind)
}
