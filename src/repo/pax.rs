//! PAX extended header records: `LENGTH KEY=VALUE\n`. Bytes in, key and value out; values may
//! hold any byte, newlines too (security.capability does). Pure.

/// A record whose length does not fit or that has no `=`.
#[derive(Debug, PartialEq, Eq)]
pub struct BadRecord;

/// Iterates over the records of one extended header (POSIX pax(1), "pax Extended Header").
#[derive(Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Starts at the first record.
    pub const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    fn split_first(&self) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let space = self.0.iter().take(20).position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(&self.0[..space]).ok()?.parse().ok()?;
        let record = self.0.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        Some((&record[..equals], &record[equals + 1..], &self.0[length..]))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some writers pad the header with NULs.
        if self.0.iter().all(|b| *b == 0) {
            return None;
        }
        let Some((key, value, rest)) = self.split_first() else {
            self.0 = &[];
            return Some(Err(BadRecord));
        };
        self.0 = rest;
        Some(Ok((key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_any_byte() {
        let records: Vec<_> = Records::new(b"11 a=b\nc=d\n6 k=v\n")
            .map(Result::unwrap)
            .collect();
        assert_eq!(records, [(&b"a"[..], &b"b\nc=d"[..]), (b"k", b"v")]);
    }

    #[test]
    fn broken_records_are_errors_not_panics() {
        for data in [
            &b"7 a=b\n"[..],
            b"99 a=b\n",
            b"x a=b\n",
            b"5 ab\n",
            b"-1 a=b\n",
            b"6",
            b"2 \n",
        ] {
            assert_eq!(Records::new(data).last(), Some(Err(BadRecord)), "{data:?}");
        }
        assert_eq!(Records::new(b"").next(), None);
    }
}
