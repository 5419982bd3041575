//! Lines of a text database, one at a time, none longer than a limit.

use std::io::{self, BufRead, BufReader, Read};

/// The longest line of a database, in bytes. Descriptions and lists of dependencies are long.
const MAX_LINE: u64 = 1 << 20;

/// The largest text database, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// Calls `each` for every line, without its end; bytes that are not UTF-8 are kept.
pub(super) fn for_each(stream: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut stream = BufReader::new(stream.take(MAX_FILE + 1));
    let (mut line, mut total) = (Vec::new(), 0);
    loop {
        line.clear();
        let length = (&mut stream)
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut line)?;
        total += length as u64;
        if length as u64 > MAX_LINE || total > MAX_FILE {
            let message = "a line or the file is longer than any package database has";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if length == 0 {
            return Ok(());
        }
        each(line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

/// A text of a database; bytes that are not UTF-8 are replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_limit() {
        let mut seen = Vec::new();
        for_each(&b"a\n\nb"[..], |line| seen.push(line.to_vec())).unwrap();
        assert_eq!(seen, [&b"a"[..], b"", b"b"]);
        let long = vec![b'x'; (1 << 20) + 1];
        let error = for_each(&long[..], |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        for_each(&long[1..], |_| {}).unwrap();
    }
}
