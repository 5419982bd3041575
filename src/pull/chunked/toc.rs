//! The table of contents of a zstd:chunked layer. Inflated JSON comes in as a stream, one record
//! per file with content goes out in the order of the tar. Holds one entry at a time.
//!
//! Format: containers/storage, `pkg/chunked`, version 1. A file's frames stand together between
//! its `offset` and its `endOffset`, so that entries of type `chunk`, which say where to cut within
//! a file, are not needed.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::image::Digest;

/// Most entries of a table.
const MAX_ENTRIES: usize = 4 << 20;
/// Longest text in a table, bytes: an attribute of 64 KiB in base64.
const MAX_TEXT: usize = 128 << 10;

/// A file with content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocFile {
    /// Its path in the tar.
    pub name: String,
    /// Bytes of content.
    pub size: u64,
    /// Digest of the content.
    pub digest: Digest,
    /// Its zstd frames in the blob.
    pub bytes: Range<u64>,
}

/// Reads a table, calls `take` with each file that has content, and gives the digest that the
/// table has of the (compressed) tar-split data. `end` is where the layer's own frames must end.
pub fn read_toc(
    input: impl Read,
    end: u64,
    take: &mut dyn FnMut(TocFile) -> Result<()>,
) -> Result<Digest> {
    let mut input = serde_json::Deserializer::from_reader(ShortTexts::new(input));
    let files = Files {
        entries: 0,
        at: 1,
        end,
        take,
        failure: None,
    };
    let mut toc = Toc { files, split: None };
    let version = toc.deserialize(&mut input);
    if let Some(failure) = toc.files.failure {
        return Err(failure);
    }
    let version = version.context("Reading the table of contents")?;
    input.end().context("Reading the table of contents")?;
    ensure!(
        version == Some(1),
        "the table of contents has version {version:?}, not 1"
    );
    let digest = toc.split.context("the table names no tar-split data")?;
    digest.parse().context("its digest of the tar-split data")
}

struct Toc<'a> {
    files: Files<'a>,
    split: Option<String>,
}

impl Toc<'_> {
    /// Gives the version.
    fn deserialize<'de, D: de::Deserializer<'de>>(
        &mut self,
        input: D,
    ) -> Result<Option<u64>, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Toc<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut version = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "version" => version = Some(map.next_value()?),
                "tarSplitDigest" => self.split = Some(map.next_value()?),
                "entries" => map.next_value_seed(&mut self.files)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(version)
    }
}

struct Files<'a> {
    entries: usize,
    /// Where the next file may begin.
    at: u64,
    end: u64,
    take: &'a mut dyn FnMut(TocFile) -> Result<()>,
    /// Why it was given up; the parser itself only learns that it was.
    failure: Option<anyhow::Error>,
}

impl<'de> DeserializeSeed<'de> for &mut Files<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Files<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(entry) = seq.next_element::<WireEntry>()? {
            if let Err(error) = self.entry(entry) {
                self.failure = Some(error);
                return Err(de::Error::custom("an entry is refused"));
            }
        }
        Ok(())
    }
}

impl Files<'_> {
    fn entry(&mut self, entry: WireEntry) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            bail!("the table of contents has more than {MAX_ENTRIES} entries");
        }
        if entry.kind != "reg" || entry.size == 0 {
            return Ok(());
        }
        let bytes = entry.offset..entry.end_offset;
        let fits = bytes.start >= self.at && bytes.end > bytes.start && bytes.end <= self.end;
        let name: String = entry.name.chars().take(200).collect();
        ensure!(
            fits,
            "the table of contents has {name:?} at {bytes:?}, where it cannot be"
        );
        self.at = bytes.end;
        let digest = entry.digest.parse();
        (self.take)(TocFile {
            digest: digest.with_context(|| format!("the table's digest of {name:?}"))?,
            name: entry.name,
            size: entry.size,
            bytes,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    end_offset: u64,
}

/// Passes JSON on and fails at a text that is too long to be held.
struct ShortTexts<R> {
    inner: R,
    /// Bytes since the quotation mark that began a text.
    inside: Option<usize>,
    escaped: bool,
}

impl<R> ShortTexts<R> {
    const fn new(inner: R) -> Self {
        Self {
            inner,
            inside: None,
            escaped: false,
        }
    }

    fn pass(&mut self, byte: u8) -> io::Result<()> {
        self.inside = match (self.inside, byte) {
            (None, b'"') => Some(0),
            (None, _) => None,
            (Some(_), b'"') if !self.escaped => None,
            (Some(MAX_TEXT), _) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a text of the table is longer than {MAX_TEXT} bytes"),
                ));
            }
            (Some(length), _) => Some(length + 1),
        };
        self.escaped = self.inside.is_some() && byte == b'\\' && !self.escaped;
        Ok(())
    }
}

impl<R: Read> Read for ShortTexts<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        for byte in &buffer[..length] {
            self.pass(*byte)?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(toc: &Value) -> Result<(Vec<TocFile>, Digest)> {
        read_text(toc.to_string().as_bytes())
    }

    fn read_text(text: &[u8]) -> Result<(Vec<TocFile>, Digest)> {
        let mut files = Vec::new();
        let split = read_toc(text, 1000, &mut |file| {
            files.push(file);
            Ok(())
        })?;
        Ok((files, split))
    }

    fn toc(entries: &Value) -> Value {
        json!({"version": 1, "entries": entries, "tarSplitDigest": Digest::of(b"split")})
    }

    fn file(name: &str, range: Range<u64>) -> Value {
        json!({
            "type": "reg", "name": name, "mode": 0o100_644, "size": 7, "uid": 1, "gid": 2,
            "modtime": "2026-01-01T00:00:00Z", "xattrs": {"user.x": "MQ=="},
            "digest": Digest::of(name.as_bytes()), "offset": range.start, "endOffset": range.end,
            "chunkSize": 3, "chunkDigest": Digest::of(b"chunk"),
        })
    }

    #[test]
    fn files_with_content_come_in_order() {
        let entries = json!([
            {"type": "dir", "name": "usr/"},
            {"type": "reg", "name": "usr/empty"},
            file("usr/a", 10..20),
            {"type": "chunk", "name": "usr/a", "offset": 15, "chunkOffset": 3, "chunkSize": 4},
            {"type": "hardlink", "name": "usr/b", "linkName": "usr/a"},
            file("usr/\"c\"\\", 20..1000),
        ]);
        let (files, split) = read(&toc(&entries)).unwrap();
        assert_eq!(split, Digest::of(b"split"));
        let found: Vec<_> = files.iter().map(|f| (&*f.name, f.bytes.clone())).collect();
        assert_eq!(found, [("usr/a", 10..20), ("usr/\"c\"\\", 20..1000)]);
        assert_eq!((files[0].size, files[0].digest), (7, Digest::of(b"usr/a")));
    }

    #[test]
    fn refuses_what_cannot_be() {
        let refused = |toc: Value| format!("{:#}", read(&toc).unwrap_err());
        let one = |range| toc(&json!([file("a", range)]));
        for range in [(0, 10), (10, 10), (20, 10), (990, 1001)] {
            let range = range.0..range.1;
            assert!(refused(one(range)).contains("where it cannot be"));
        }
        let overlap = toc(&json!([file("a", 10..20), file("b", 19..30)]));
        assert!(refused(overlap).contains("\"b\" at 19..30"));
        let mut version = one(10..20);
        version["version"] = 2.into();
        assert!(refused(version).contains("Some(2), not 1"));
        let mut split = one(10..20);
        split["tarSplitDigest"] = Value::Null;
        assert!(read(&split).is_err());
        let mut digest = one(10..20);
        digest["entries"][0]["digest"] = "sha512:00".into();
        assert!(refused(digest).contains("digest of \"a\""));
        let mut size = one(10..20);
        size["entries"][0]["size"] = (-1).into();
        assert!(read(&size).is_err());
    }

    #[test]
    fn long_texts_are_not_held() {
        let long = "x".repeat(MAX_TEXT + 1);
        let text = format!("{:#}", read(&toc(&json!([file(&long, 1..2)]))).unwrap_err());
        assert!(text.contains("longer than 131072 bytes"), "{text}");
    }

    #[test]
    fn the_taker_can_give_up() {
        let text = toc(&json!([file("a", 1..2), file("b", 2..3)])).to_string();
        let mut taken = 0;
        let result = read_toc(text.as_bytes(), 1000, &mut |_| {
            taken += 1;
            bail!("enough")
        });
        assert_eq!(
            (result.unwrap_err().to_string().as_str(), taken),
            ("enough", 1)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            text in "[\\{\\}\\[\\]\",:0-9a-z\\\\]{0,200}", cut in 0usize..400,
        ) {
            let _ = read_text(text.as_bytes());
            let whole = toc(&json!([file("a", 10..20)])).to_string();
            let cut = cut.min(whole.len() - 1);
            prop_assert!(read_text(&whole.as_bytes()[..cut]).is_err());
        }

        #[test]
        fn files_never_overlap(ranges: Vec<(u16, u16)>) {
            let entries: Vec<_> = ranges.iter().map(|(a, b)| file("f", u64::from(*a)..u64::from(*b))).collect();
            if let Ok((files, _)) = read(&toc(&entries.into())) {
                prop_assert!(files.windows(2).all(|w| w[0].bytes.end <= w[1].bytes.start));
            }
        }
    }
}
