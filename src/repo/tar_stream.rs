//! A tar stream as entries with their content. Bytes of a layer come in, entries go out one by
//! one; content is handed on in slices without being copied. Knows ustar, PAX, GNU long names and
//! GNU and PAX sparse files. Never seeks, never holds more of an entry than its headers.
//!
//! Formats: POSIX pax(1), "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual,
//! "Storing Sparse Files". The reading of single header fields is the `tar` crate's.

use std::io::{self, BufRead, Read as _};

use tar::{EntryType, Header};
use thiserror::Error;

use super::record::{Object, Tape, Taped};
use super::tar_extensions::{Extensions, Piece};

pub(super) const BLOCK: u64 = 512;
/// Most bytes of PAX and GNU extension headers in front of one entry: an attribute of 1 MiB and
/// change.
const MAX_EXTENSION: u64 = 2 << 20;
/// Most entries of one stream: what is remembered of each must fit into memory.
pub(super) const MAX_ENTRIES: usize = 4 << 20;
/// Longest path or link target, bytes (Linux's PATH_MAX).
const MAX_PATH: usize = 4096;
const ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Why a stream is not a tar that Bowline reads.
#[derive(Debug, Error)]
pub enum TarError {
    /// The stream itself failed: transfer, inflate.
    #[error("the stream breaks off or is garbage")]
    Read(#[from] io::Error),
    /// The stream ends inside an entry.
    #[error("the tar stream ends in the middle of {0:?}")]
    Truncated(String),
    /// A header whose checksum or numbers are wrong.
    #[error("the tar stream has a broken header after {0:?}")]
    Header(String),
    /// An extension header that is too large or does not parse.
    #[error("the tar stream has an unusable {what} header before or at {path:?}")]
    Extension {
        /// Which extension.
        what: &'static str,
        /// The entry before it, or it is for.
        path: String,
    },
    /// More entries than a layer may have.
    #[error("the tar stream has more than {MAX_ENTRIES} entries")]
    Entries,
    /// An entry of a type that has no place in a layer.
    #[error("the tar stream has an entry {path:?} of type {kind:?}, which is not supported")]
    Kind {
        /// The entry.
        path: String,
        /// The type byte as a character.
        kind: char,
    },
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    Regular,
    /// Another name of a file; `link` is its path in the archive.
    HardLink,
    /// A symbolic link to `link`.
    Symlink,
    /// A directory.
    Directory,
    /// A character or block device.
    Device,
    /// A named pipe.
    Fifo,
}

/// One entry, extensions applied. Paths are as the archive has them: not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its path.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky bits, no file type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Bytes of content, holes of sparse files included.
    pub size: u64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The path for messages.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Reads entries off a stream.
#[derive(Debug)]
pub struct TarStream<R> {
    pub(super) input: Taped<R>,
    /// Where the content belongs that is left out of the record, if not one piece behind the other.
    left_out: Option<Vec<Piece>>,
    entries: usize,
    /// Path of the entry before, for messages.
    pub(super) last: String,
    /// Bytes of the current entry that are still in the stream, without padding.
    pub(super) stored: u64,
    padding: u64,
    /// Bytes of the slice handed out last that are to be taken off the input.
    taken: usize,
    /// Data pieces that are still to come (reversed), and the position in the file.
    pub(super) pieces: Vec<Piece>,
    pub(super) position: u64,
    pub(super) size: u64,
}

impl<R: BufRead> TarStream<R> {
    /// Starts at the first header, perhaps with a record of what is not the content of an object.
    pub fn new(input: R, tape: Option<Tape>) -> Self {
        Self {
            input: Taped::new(input, tape),
            left_out: None,
            entries: 0,
            last: "the beginning".into(),
            stored: 0,
            padding: 0,
            taken: 0,
            pieces: Vec::new(),
            position: 0,
            size: 0,
        }
    }

    /// The next entry; what is left of the one before is skipped. `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_rest()?;
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(TarError::Entries);
        }
        let mut extensions = Extensions::default();
        let mut extended = 0u64;
        loop {
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let size = header.entry_size().map_err(|_| self.broken())?;
            extended = extended.saturating_add(size.saturating_add(BLOCK));
            match header.entry_type() {
                EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
                    if extended > MAX_EXTENSION =>
                {
                    return Err(self.unusable("extension"));
                }
                EntryType::GNULongName => {
                    extensions.path = Some(self.read_long(size)?);
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(self.read_long(size)?);
                }
                EntryType::XHeader => {
                    let data = self.read_extension(size)?;
                    extensions.pax(&data).map_err(|()| self.unusable("PAX"))?;
                }
                EntryType::XGlobalHeader => drop(self.read_extension(size)?),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// The next slice of the current entry's content; `None` at its end.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        self.consume_taken();
        while (self.pieces.last()).is_some_and(|p| p.0 + p.1 <= self.position) {
            self.pieces.pop();
        }
        let Some(&(offset, length)) = self.pieces.last() else {
            return Ok(self.hole(self.size));
        };
        if self.position < offset {
            return Ok(self.hole(offset));
        }
        let left = offset + length - self.position;
        let last = &self.last;
        let data = self.input.fill_buf()?;
        if data.is_empty() {
            return Err(TarError::Truncated(last.clone()));
        }
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        self.taken = take;
        self.stored -= take as u64;
        self.position += take as u64;
        Ok(Some(&data[..take]))
    }

    /// The content of the current entry goes into an object: [`Self::is_content_of`] tells into which.
    pub fn leave_out(&mut self) {
        if self.input.is_recording() {
            self.consume_taken();
            let whole = matches!(*self.pieces, [(0, length)] if length == self.size);
            self.left_out = (!whole).then(|| self.pieces.iter().rev().copied().collect());
            self.input.leave_out();
        }
    }

    /// The content that was left out is the object's.
    pub fn is_content_of(&mut self, object: Object) -> Result<(), TarError> {
        self.consume_taken();
        let pieces = self.left_out.take();
        Ok(self.input.is_content_of(object, pieces.as_deref())?)
    }

    /// Takes the rest of the stream after the last entry, so that digests cover all of it. Gives the record.
    pub fn drain(mut self) -> Result<Option<Tape>, TarError> {
        self.skip_rest()?;
        loop {
            let length = self.input.fill_buf()?.len();
            if length == 0 {
                return Ok(self.input.take_tape());
            }
            self.input.consume(length);
        }
    }

    fn hole(&mut self, until: u64) -> Option<&'static [u8]> {
        let length = (until - self.position).min(ZEROS.len() as u64);
        self.position += length;
        (length > 0).then(|| &ZEROS[..length as usize])
    }

    fn consume_taken(&mut self) {
        self.input.consume(std::mem::take(&mut self.taken));
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        self.consume_taken();
        let mut left = self.stored + self.padding;
        while left > 0 {
            let length = self.input.fill_buf()?.len();
            // umoci 0.4 ends a layer right behind the last byte of content; the diff_id says
            // whether that is all.
            if length == 0 && left <= self.padding {
                break;
            }
            if length == 0 {
                return Err(TarError::Truncated(self.last.clone()));
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(length);
            self.input.consume(take);
            left -= take as u64;
        }
        (self.stored, self.padding, self.size, self.position) = (0, 0, 0, 0);
        self.pieces.clear();
        Ok(())
    }

    /// A header block, or `None` at a zero block or the end of the stream.
    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated(self.last.clone())),
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum =
            |(i, byte): (usize, &u8)| u32::from(if (148..156).contains(&i) { b' ' } else { *byte });
        let sum: u32 = block.iter().enumerate().map(sum).sum();
        let header = Header::from_byte_slice(&block);
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(Some(header.clone())),
            _ => Err(self.broken()),
        }
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.begin(size);
        let mut data = Vec::with_capacity(size as usize);
        while let Some(chunk) = self.chunk()? {
            data.extend_from_slice(chunk);
        }
        self.skip_rest()?;
        Ok(data)
    }

    fn read_long(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut data = self.read_extension(size)?;
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        data.truncate(end);
        Ok(data)
    }

    /// Sets up the reading of `size` stored bytes that are one piece.
    fn begin(&mut self, size: u64) {
        self.stored = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        self.pieces = vec![(0, size)];
        (self.size, self.position) = (size, 0);
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        mut extensions: Extensions,
    ) -> Result<Entry, TarError> {
        let path = extensions
            .path
            .take()
            .unwrap_or_else(|| header.path_bytes().into_owned());
        self.last = String::from_utf8_lossy(&path).chars().take(200).collect();
        let kind = self.kind(header, &path)?;
        let link = extensions.link.take();
        let link = link
            .or_else(|| header.link_name_bytes().map(Into::into))
            .unwrap_or_default();
        if path.is_empty() || path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(self.broken());
        }
        let number = |value: io::Result<u64>| value.ok().and_then(|v| u32::try_from(v).ok());
        let uid = extensions.uid.or_else(|| number(header.uid()));
        let gid = extensions.gid.or_else(|| number(header.gid()));
        let stored = if kind == Kind::Regular {
            extensions.size.unwrap_or(size)
        } else {
            0
        };
        // Some writers give directories and links a size, but no content follows for these types.
        self.begin(stored.min(u64::MAX - BLOCK));
        if kind == Kind::Regular {
            self.sparse(header, &extensions)?;
        }
        Ok(Entry {
            kind,
            link,
            mode: header.mode().map_err(|_| self.broken())? & 0o7777,
            uid: uid.ok_or_else(|| self.broken())?,
            gid: gid.ok_or_else(|| self.broken())?,
            mtime: header.mtime().unwrap_or(0),
            size: self.size,
            xattrs: extensions.into_xattrs(),
            path,
        })
    }

    fn kind(&self, header: &Header, path: &[u8]) -> Result<Kind, TarError> {
        Ok(match header.entry_type() {
            // The oldest format marks directories by a slash alone.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::Regular,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let kind = char::from(other.as_byte());
                return Err(TarError::Kind {
                    path: self.last.clone(),
                    kind,
                });
            }
        })
    }

    pub(super) fn broken(&self) -> TarError {
        TarError::Header(self.last.clone())
    }

    pub(super) fn unusable(&self, what: &'static str) -> TarError {
        TarError::Extension {
            what,
            path: self.last.clone(),
        }
    }
}

#[cfg(test)]
#[path = "tar_stream_tests.rs"]
mod tests;
