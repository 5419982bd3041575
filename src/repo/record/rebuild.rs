//! Puts a layer's tar stream together again. A record and objects come in, the stream goes out. Whether
//! it is the right one, its digest says: whoever takes it checks that.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};

use thiserror::Error;

use super::tokens::{Reader, Token, bad};
use super::{HEADER, MAGIC, Object};
use crate::image::Digest;
use crate::repo::object::ObjectKind;
use crate::repo::store::Repo;
use crate::repo::tar_extensions::Piece;

const ZEROS: [u8; 8 << 10] = [0; 8 << 10];
const LEVEL: i32 = 3;
/// As much as the first part's compressor looks back; more is not read.
const MAX_WINDOW_LOG: u32 = 23;

/// A layer that was imported without a record.
#[derive(Debug, Error)]
#[error(
    "the layer with diff_id {0} was stored by another program, or by Bowline before it kept records of layers"
)]
pub struct NoRecord(pub Digest);

/// A layer that cannot be put together again.
#[derive(Debug, Error)]
pub enum RebuildError {
    /// The record cannot be read.
    #[error("reading the record of the layer: {0}")]
    Record(#[source] io::Error),
    /// Content that the record refers to cannot be read.
    #[error("reading {object}")]
    Object {
        /// Which.
        object: String,
        /// Why.
        source: anyhow::Error,
    },
    /// Whoever takes the stream failed.
    #[error("writing the layer: {0}")]
    Output(#[source] io::Error),
}

/// Opens the content of an object.
pub(crate) type Open<'a> = &'a dyn Fn(Object) -> anyhow::Result<Box<dyn Read>>;

impl Repo {
    /// Writes the tar stream of the layer with this diff_id. Its digest is not checked here.
    pub fn rebuild_layer(&self, diff_id: &Digest, out: &mut dyn Write) -> anyhow::Result<()> {
        let record = self.open_record(diff_id).map_err(RebuildError::Record)?;
        let record = record.ok_or(NoRecord(*diff_id))?;
        let open = |(checksum, kind): Object| match kind {
            ObjectKind::File => Ok(self.file_reader(checksum)? as Box<dyn Read>),
            _ => self.plain_reader(checksum, kind),
        };
        Ok(rebuild(&record, &open, out)?)
    }
}

/// Writes the stream that a record is of.
pub(super) fn rebuild(
    record: &File,
    open: Open<'_>,
    out: &mut dyn Write,
) -> Result<(), RebuildError> {
    let (mut tokens, mut dropped) = parts(record).map_err(RebuildError::Record)?;
    while let Some(token) = tokens.next().map_err(RebuildError::Record)? {
        match token {
            Token::Bytes(bytes) => out.write_all(&bytes).map_err(RebuildError::Output)?,
            Token::Zeros(length) => zeros(length, out).map_err(RebuildError::Output)?,
            Token::Content(object, pieces) => {
                if !dropped.copy(object.0, out)? {
                    copy(object, pieces.as_deref(), open, out)?;
                }
            }
        }
    }
    Ok(())
}

fn zeros(mut length: u64, out: &mut dyn Write) -> io::Result<()> {
    while length > 0 {
        let part = length.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..part as usize])?;
        length -= part;
    }
    Ok(())
}

/// Copies an object's content, or pieces of it.
fn copy(
    object: Object,
    pieces: Option<&[Piece]>,
    open: Open<'_>,
    out: &mut dyn Write,
) -> Result<(), RebuildError> {
    let failed = |source| RebuildError::Object {
        object: format!("object {}", object.0.hex()),
        source,
    };
    let mut content = open(object).map_err(failed)?;
    let Some(pieces) = pieces else {
        return pass(&mut content, u64::MAX, out, &failed).map(drop);
    };
    let mut position = 0;
    for (offset, length) in pieces {
        let gap = offset.checked_sub(position);
        let gap = gap.ok_or_else(|| RebuildError::Record(bad("pieces out of order")))?;
        pass(&mut content, gap, &mut io::sink(), &failed)?;
        pass(&mut content, *length, out, &failed)?;
        position = offset.saturating_add(*length);
    }
    Ok(())
}

/// Passes at most `length` bytes on; gives how many there were.
fn pass(
    content: &mut dyn Read,
    length: u64,
    out: &mut dyn Write,
    failed: &dyn Fn(anyhow::Error) -> RebuildError,
) -> Result<u64, RebuildError> {
    let mut buffer = [0; 32 << 10];
    let mut passed = 0;
    while passed < length {
        let most = (length - passed).min(buffer.len() as u64) as usize;
        let count = content.read(&mut buffer[..most]);
        let count = count.map_err(|error| failed(error.into()))?;
        if count == 0 {
            break;
        }
        let written = out.write_all(&buffer[..count]);
        written.map_err(RebuildError::Output)?;
        passed += count as u64;
    }
    Ok(passed)
}

type Part<'a> = zstd::Decoder<'static, BufReader<Box<dyn Read + 'a>>>;

/// The tokens, and the content of what was dropped.
fn parts(record: &File) -> io::Result<(Reader<BufReader<Part<'_>>>, Dropped<'_>)> {
    let mut file = record;
    file.seek(SeekFrom::Start(0))?;
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header)?;
    let (magic, length) = header.split_at(MAGIC.len());
    let length = length.try_into().map(u64::from_le_bytes);
    let (true, Ok(length)) = (magic == MAGIC, length) else {
        return Err(bad("another format"));
    };
    let size = record.metadata()?.len();
    let second = HEADER.saturating_add(length);
    let tokens = Reader::new(BufReader::new(part(record, HEADER, second.min(size))?));
    let content = match second < size {
        true => Some(part(record, second, size)?),
        false => None,
    };
    let mut dropped = Dropped {
        content,
        next: None,
    };
    dropped.advance()?;
    Ok((tokens, dropped))
}

fn part(file: &File, start: u64, end: u64) -> io::Result<Part<'_>> {
    let at = At {
        file,
        position: start,
        end,
    };
    let input: Box<dyn Read> = Box::new(at);
    let mut decoder = zstd::Decoder::new(input)?.single_frame();
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

/// A stretch of a file that is read without its position.
struct At<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let most = (self.end - self.position).min(buffer.len() as u64) as usize;
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// The second part, entry by entry.
struct Dropped<'a> {
    content: Option<Part<'a>>,
    /// The next entry: checksum and length.
    next: Option<(Digest, u64)>,
}

impl Dropped<'_> {
    /// Writes the next content if it is this object's; tells whether it was.
    fn copy(&mut self, object: Digest, out: &mut dyn Write) -> Result<bool, RebuildError> {
        let (Some(content), Some((checksum, length))) = (&mut self.content, self.next) else {
            return Ok(false);
        };
        if checksum != object {
            return Ok(false);
        }
        let failed = |source: anyhow::Error| RebuildError::Record(io::Error::other(source));
        if pass(content, length, out, &failed)? < length {
            return Err(RebuildError::Record(bad("less content than it says")));
        }
        self.advance().map_err(RebuildError::Record)?;
        Ok(true)
    }

    fn advance(&mut self) -> io::Result<()> {
        self.next = None;
        let Some(content) = &mut self.content else {
            return Ok(());
        };
        let mut checksum = [0; 32];
        if content.read(&mut checksum[..1])? == 0 {
            return Ok(());
        }
        content.read_exact(&mut checksum[1..])?;
        let mut length = [0; 8];
        content.read_exact(&mut length)?;
        self.next = Some((Digest::from_bytes(checksum), u64::from_le_bytes(length)));
        Ok(())
    }
}

/// Adds the content of the objects that do not stay in the repository to the record that is in `file`.
pub(in crate::repo) fn add_dropped(
    file: &File,
    dropped: &BTreeSet<Object>,
    open: Open<'_>,
) -> Result<(), RebuildError> {
    let (mut tokens, _) = parts(file).map_err(RebuildError::Record)?;
    let mut second = None;
    while let Some(token) = tokens.next().map_err(RebuildError::Record)? {
        let Token::Content(object, pieces) = token else {
            continue;
        };
        if !dropped.contains(&object) {
            continue;
        }
        let out = match &mut second {
            Some(out) => out,
            None => second.insert(at_end(file).map_err(RebuildError::Output)?),
        };
        let mut length = Length(0);
        copy(object, pieces.as_deref(), open, &mut length)?;
        let head = out.write_all(object.0.as_bytes());
        head.and_then(|()| out.write_all(&length.0.to_le_bytes()))
            .map_err(RebuildError::Output)?;
        copy(object, pieces.as_deref(), open, out)?;
    }
    match second {
        Some(out) => out.finish().map(drop).map_err(RebuildError::Output),
        None => Ok(()),
    }
}

fn at_end(file: &File) -> io::Result<zstd::Encoder<'static, File>> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::End(0))?;
    zstd::Encoder::new(file, LEVEL)
}

/// Counts what is written.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
