//! tar-split data: everything of a tar stream that is no file content. Inflated JSON lines come in
//! as a stream, pieces of the tar go out one by one. Holds one line at a time.
//!
//! Format: vbatts/tar-split, `tar/storage`: an entry of type 2 is bytes as they stand in the tar, an
//! entry of type 1 stands for the content of a file, of which it has the size. The CRC-64 of the
//! content, which it has too, is no use: digests say more.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Longest line, bytes: writers put up to 1 MiB of padding into one, and extension headers of up to
/// 2 MiB; base64 makes that a third more.
const MAX_LINE: u64 = 4 << 20;
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// A piece of a tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Segment(Vec<u8>),
    /// The content of the next file, so many bytes.
    File(u64),
}

/// Reads pieces.
#[derive(Debug)]
pub struct TarSplit<R> {
    input: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> TarSplit<R> {
    /// Starts at the first line.
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
        }
    }

    /// The next piece, never empty; `None` at the end.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            self.line.clear();
            let mut limited = self.input.by_ref().take(MAX_LINE);
            let read = limited.read_until(b'\n', &mut self.line);
            let length = read.context("Reading tar-split data")? as u64;
            ensure!(
                length < MAX_LINE,
                "a line of the tar-split data is longer than {MAX_LINE} bytes"
            );
            if length == 0 {
                return Ok(None);
            }
            if let Some(piece) = piece(&self.line)? {
                return Ok(Some(piece));
            }
        }
    }
}

fn piece(line: &[u8]) -> Result<Option<Piece>> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let wire: Wire<'_> =
        serde_json::from_slice(line).context("Reading a line of tar-split data")?;
    Ok(match wire.kind {
        FILE => (wire.size > 0).then_some(Piece::File(wire.size)),
        SEGMENT => {
            let bytes = STANDARD.decode(wire.payload.unwrap_or_default());
            let bytes = bytes.context("Reading a segment of tar-split data")?;
            (!bytes.is_empty()).then_some(Piece::Segment(bytes))
        }
        other => bail!("the tar-split data has an entry of type {other}"),
    })
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    size: u64,
    /// base64, which needs no escapes.
    #[serde(default, borrow)]
    payload: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Piece>> {
        let mut split = TarSplit::new(text);
        let mut pieces = Vec::new();
        while let Some(piece) = split.next_piece()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn print(pieces: &[Piece]) -> String {
        let line = |(position, piece): (usize, &Piece)| match piece {
            Piece::Segment(bytes) => {
                let payload = STANDARD.encode(bytes);
                format!("{{\"type\":2,\"payload\":\"{payload}\",\"position\":{position}}}\n")
            }
            Piece::File(size) => format!(
                "{{\"type\":1,\"name\":\"a\",\"size\":{size},\"payload\":\"bmPOiSoxn6E=\",\"position\":{position}}}\n"
            ),
        };
        pieces.iter().enumerate().map(line).collect()
    }

    #[test]
    fn empty_files_are_no_pieces() {
        let text = b"{\"type\":1,\"name\":\"d/\",\"payload\":null,\"position\":0}\n\
            {\"type\":1,\"name_raw\":\"/w==\",\"size\":3,\"payload\":\"\",\"position\":1}\n\n\
            {\"type\":2,\"payload\":\"YWI=\",\"position\":2}";
        let expected = [Piece::File(3), Piece::Segment(b"ab".to_vec())];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "{\"type\":3,\"payload\":\"\"}",
            "{\"type\":2,\"payload\":\"=\"}",
            "{\"type\":1,\"size\":-1}",
            "{\"payload\":\"\"}",
            "x",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        let long = format!("{{\"type\":2,\"payload\":\"{}\"}}", "A".repeat(4 << 20));
        assert!(
            read(long.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("longer than")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 1..600).prop_map(Piece::Segment),
                    (1u64..u64::MAX).prop_map(Piece::File),
                ],
                0..20,
            ),
        ) {
            prop_assert_eq!(read(print(&pieces).as_bytes()).unwrap(), pieces);
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in "[\\{\\}\":,0-9a-z\n=]{0,200}") {
            let _ = read(text.as_bytes());
        }
    }
}
