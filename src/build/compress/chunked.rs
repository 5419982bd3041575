//! zstd:chunked layers: a tar stream comes in, frames go out of which a reader can fetch those of single
//! files, and behind them a table of contents and what of the stream is no content. Whoever knows
//! nothing of this reads plain zstd. Holds the two tables compressed, never uncompressed.
//!
//! Format: containers/storage, `pkg/chunked` (table of version 1, footer of 64 bytes); vbatts/tar-split.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_64_GO_ISO, Crc, Digest as CrcDigest, Table};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use zstd::stream::raw::{Encoder, InBuffer, Operation, OutBuffer};

use super::chunked_tar::{Piece, TarEntry, TarParts};
use crate::image::Digest;

const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const FOOTER_MAGIC: &[u8; 8] = b"GNUlInUx";
const TABLE_TYPE: u64 = 1;
const ANNOTATION: &str = "io.github.containers.zstd-chunked";
/// Most bytes between two contents that wait for their frame.
const MAX_BETWEEN: usize = 256 << 10;
/// Bytes of compressed output that are written at once.
const OUT_STEP: usize = 128 << 10;
static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_GO_ISO);

/// A layer in the making.
pub struct ChunkedWriter<W: Write> {
    parts: TarParts,
    state: State<W>,
}

struct State<W: Write> {
    frames: Frames<W>,
    between: Vec<u8>,
    table: GrowingTable,
    split: GrowingTable,
    file: Option<File>,
}

/// The content that passes.
struct File {
    hash: Sha256,
    crc: CrcDigest<'static, u64, Table<16>>,
    offset: u64,
}

impl<W: Write> ChunkedWriter<W> {
    /// Starts a layer.
    pub fn new(out: W, level: i32) -> Result<Self> {
        let mut table = GrowingTable::new(level)?;
        table.text("{\"version\":1,\"entries\":[")?;
        Ok(Self {
            parts: TarParts::default(),
            state: State {
                frames: Frames::new(out, level)?,
                between: Vec::new(),
                table,
                split: GrowingTable::new(level)?,
                file: None,
            },
        })
    }

    /// Ends the layer; what was written to goes out, and what the layer's descriptor must say. A
    /// stream that ended within a file is an error: its frame has no end.
    pub fn finish(mut self) -> Result<(W, BTreeMap<String, String>)> {
        let state = &mut self.state;
        ensure!(
            state.file.is_none(),
            "the layer ends within a file; make it again from its source"
        );
        state.segment().context("Writing the end of the layer")?;
        let split = self.state.split.finish()?;
        let end = format!("],\"tarSplitDigest\":\"{}\"}}", Digest::of(&split.data));
        let mut table = self.state.table;
        table.text(&end)?;
        let table = table.finish()?;
        let mut frames = self.state.frames;
        let table_at = frames.skippable(&table.data)?;
        let split_at = frames.skippable(&split.data)?;
        let numbers = [
            table_at,
            table.data.len() as u64,
            table.size,
            TABLE_TYPE,
            split_at,
            split.data.len() as u64,
            split.size,
        ];
        let mut footer: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        footer.extend(FOOTER_MAGIC);
        frames.skippable(&footer)?;
        let [a, b, c, d, e, f, g] = numbers;
        let annotations = [
            ("manifest-checksum", Digest::of(&table.data).to_string()),
            ("manifest-position", format!("{a}:{b}:{c}:{d}")),
            ("tarsplit-position", format!("{e}:{f}:{g}")),
        ];
        let annotations = annotations.map(|(key, value)| (format!("{ANNOTATION}.{key}"), value));
        Ok((frames.out, annotations.into()))
    }
}

impl<W: Write> Write for ChunkedWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let state = &mut self.state;
        self.parts.take(data, &mut |piece| state.piece(piece))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> State<W> {
    fn piece(&mut self, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Between(bytes) => {
                self.between.extend_from_slice(bytes);
                match self.between.len() > MAX_BETWEEN {
                    true => self.segment(),
                    false => Ok(()),
                }
            }
            Piece::Entry(entry) => {
                self.segment()?;
                if entry.size > 0 {
                    self.file = Some(File {
                        hash: Sha256::new(),
                        crc: CRC.digest(),
                        offset: self.frames.position,
                    });
                }
                Ok(())
            }
            Piece::Content(bytes) => {
                if let Some(file) = &mut self.file {
                    file.hash.update(bytes);
                    file.crc.update(bytes);
                }
                self.frames.add(bytes)
            }
            Piece::End(entry) => self.end(entry),
        }
    }

    /// A frame for what came between two contents.
    fn segment(&mut self) -> io::Result<()> {
        if self.between.is_empty() {
            return Ok(());
        }
        let payload = STANDARD.encode(&self.between);
        self.split_entry(json!({"type": 2, "payload": payload}))?;
        self.frames.add(&self.between)?;
        self.frames.end()?;
        self.between.clear();
        Ok(())
    }

    fn split_entry(&mut self, mut entry: Value) -> io::Result<()> {
        entry["position"] = self.split.entries.into();
        self.split.entry(&format!("{entry}\n"))
    }

    fn end(&mut self, entry: &TarEntry) -> io::Result<()> {
        let mut listed = described(entry)?;
        let mut split = json!({"type": 1, "name": entry.path, "payload": null});
        if let Some(file) = self.file.take() {
            self.frames.end()?;
            let digest = Digest::from_bytes(file.hash.finalize().into());
            listed["digest"] = digest.to_string().into();
            listed["offset"] = file.offset.into();
            listed["endOffset"] = self.frames.position.into();
            split["size"] = entry.size.into();
            split["payload"] = STANDARD.encode(file.crc.finalize().to_be_bytes()).into();
        }
        self.split_entry(split)?;
        let comma = if self.table.entries == 0 { "" } else { "," };
        self.table.entry(&format!("{comma}{listed}"))
    }
}

/// What the table says about an entry beside its content.
fn described(entry: &TarEntry) -> io::Result<Value> {
    let header = &entry.header;
    let kind = match header.entry_type() {
        EntryType::Directory => "dir",
        EntryType::Symlink => "symlink",
        EntryType::Link => "hardlink",
        _ => "reg",
    };
    let mut listed = json!({
        "type": kind,
        "name": entry.path,
        "mode": header.mode()?,
        "uid": header.uid()?,
        "gid": header.gid()?,
        "modtime": "1970-01-01T00:00:00Z",
    });
    if !entry.link.is_empty() {
        listed["linkName"] = entry.link.clone().into();
    }
    if entry.size > 0 {
        listed["size"] = entry.size.into();
    }
    if !entry.xattrs.is_empty() {
        let xattrs = entry.xattrs.iter();
        let xattrs = xattrs.map(|(name, value)| (name.clone(), STANDARD.encode(value).into()));
        listed["xattrs"] = Value::Object(xattrs.collect());
    }
    Ok(listed)
}

/// A table that is compressed while it grows.
struct GrowingTable {
    out: zstd::Encoder<'static, Vec<u8>>,
    entries: u64,
    size: u64,
}

/// A table that is finished.
struct Finished {
    data: Vec<u8>,
    size: u64,
}

impl GrowingTable {
    fn new(level: i32) -> Result<Self> {
        let out = zstd::Encoder::new(Vec::new(), level).context("Starting zstd")?;
        Ok(Self {
            out,
            entries: 0,
            size: 0,
        })
    }

    fn entry(&mut self, entry: &str) -> io::Result<()> {
        self.entries += 1;
        self.text(entry)
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.size += text.len() as u64;
        self.out.write_all(text.as_bytes())
    }

    fn finish(self) -> io::Result<Finished> {
        let data = self.out.finish()?;
        let size = self.size;
        Ok(Finished { data, size })
    }
}

/// zstd frames, one behind the other.
struct Frames<W> {
    out: W,
    encoder: Encoder<'static>,
    buffer: Vec<u8>,
    /// Bytes that have been written.
    position: u64,
}

impl<W: Write> Frames<W> {
    fn new(out: W, level: i32) -> Result<Self> {
        Ok(Self {
            out,
            encoder: Encoder::new(level).context("Starting zstd")?,
            buffer: vec![0; OUT_STEP],
            position: 0,
        })
    }

    fn add(&mut self, data: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.encoder.run(&mut input, &mut output)?;
            let length = output.pos();
            self.out.write_all(&self.buffer[..length])?;
            self.position += length as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        loop {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            let left = self.encoder.finish(&mut output, true)?;
            let length = output.pos();
            self.out.write_all(&self.buffer[..length])?;
            self.position += length as u64;
            if left == 0 {
                return self.encoder.reinit();
            }
        }
    }

    /// Adds a frame that readers of zstd skip; tells where its data begins.
    fn skippable(&mut self, data: &[u8]) -> Result<u64> {
        let length = u32::try_from(data.len()).context("a table of the layer is too large")?;
        self.out.write_all(&SKIPPABLE)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(data)?;
        let start = self.position + 8;
        self.position = start + data.len() as u64;
        Ok(start)
    }
}
