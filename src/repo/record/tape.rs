//! Writes a record while a tar stream is read. Everything that is taken off the stream comes in; what
//! is not the content of an object goes into the record.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek as _, SeekFrom, Write as _};

use super::tokens::{BLOCK, MAX_LITERAL, Writer};
use super::{HEADER, MAGIC, Object};
use crate::repo::tar_extensions::Piece;

/// Little is left to compress: names, sizes, times and checksums.
const LEVEL: i32 = 1;
/// Base-2 logarithm of the bytes that the compressor looks back: one name after the other. It also bounds its
/// memory.
const WINDOW_LOG: u32 = 18;

/// A record in the making.
pub struct Tape {
    out: Writer<zstd::Encoder<'static, File>>,
    /// Bytes of the stream so far, modulo the size of a block.
    offset: usize,
    /// The block that is not whole yet.
    block: Vec<u8>,
    /// What waits to be written: zeros, or bytes.
    zeros: u64,
    literal: Vec<u8>,
    /// What went wrong where it could not be told.
    failed: Option<io::Error>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tape")
    }
}

impl Tape {
    /// Begins a record in an empty file.
    pub fn new(mut file: File) -> io::Result<Self> {
        file.write_all(MAGIC)?;
        file.write_all(&[0; 8])?;
        let mut out = zstd::Encoder::new(file, LEVEL)?;
        out.window_log(WINDOW_LOG)?;
        Ok(Self {
            out: Writer::new(out),
            offset: 0,
            block: Vec::with_capacity(BLOCK),
            zeros: 0,
            literal: Vec::new(),
            failed: None,
        })
    }

    /// Ends the first part; gives the file, positioned at its end.
    pub fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        let mut file = self.out.out.finish()?;
        let length = file.stream_position()? - HEADER;
        file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        file.write_all(&length.to_le_bytes())?;
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    }

    /// `length` bytes of the stream were the content of an object, or pieces of it.
    fn content(&mut self, object: Object, length: u64, pieces: Option<&[Piece]>) -> io::Result<()> {
        self.flush()?;
        let rest = length % BLOCK as u64;
        self.offset = (self.offset + rest as usize) % BLOCK;
        self.out.content(object, pieces)
    }

    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK - self.offset);
            self.block.extend_from_slice(&bytes[..count]);
            self.offset += count;
            bytes = &bytes[count..];
            if self.offset == BLOCK {
                self.offset = 0;
                self.end_of_block()?;
            }
        }
        Ok(())
    }

    /// What has come of a block, which may have begun with content.
    fn end_of_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let result = match <&[u8; BLOCK]>::try_from(&*block) {
            Ok(header) if header[257..262] == *b"ustar" => {
                self.flush_waiting().and_then(|()| self.out.header(header))
            }
            _ if block.iter().all(|byte| *byte == 0) => self.add_zeros(block.len() as u64),
            _ => self.add_bytes(&block),
        };
        self.block = block;
        self.block.clear();
        result
    }

    fn add_zeros(&mut self, length: u64) -> io::Result<()> {
        if !self.literal.is_empty() {
            self.flush_waiting()?;
        }
        self.zeros += length;
        Ok(())
    }

    fn add_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.zeros > 0 || self.literal.len() + bytes.len() > MAX_LITERAL {
            self.flush_waiting()?;
        }
        self.literal.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if !self.block.is_empty() {
            self.end_of_block()?;
        }
        self.flush_waiting()
    }

    fn flush_waiting(&mut self) -> io::Result<()> {
        if self.zeros > 0 {
            self.out.zeros(std::mem::take(&mut self.zeros))?;
        }
        if !self.literal.is_empty() {
            self.out.bytes(&self.literal)?;
            self.literal.clear();
        }
        Ok(())
    }
}

/// A stream, and the record of what is taken off it.
#[derive(Debug)]
pub struct Taped<R> {
    inner: R,
    tape: Option<Tape>,
    /// Content that is not recorded passes; so many bytes of it have.
    left_out: Option<u64>,
}

impl<R: BufRead> Taped<R> {
    /// Reads `inner`, with or without a record.
    pub const fn new(inner: R, tape: Option<Tape>) -> Self {
        Self {
            inner,
            tape,
            left_out: None,
        }
    }

    /// Whether anything is recorded.
    pub const fn is_recording(&self) -> bool {
        self.tape.is_some()
    }

    /// From here on there is content that an object will have.
    pub const fn leave_out(&mut self) {
        self.left_out = Some(0);
    }

    /// What was left out is the content of this object, or pieces of it.
    pub fn is_content_of(&mut self, object: Object, pieces: Option<&[Piece]>) -> io::Result<()> {
        let length = self.left_out.take().unwrap_or(0);
        match &mut self.tape {
            Some(tape) if length > 0 => tape.content(object, length, pieces),
            _ => Ok(()),
        }
    }

    /// The record, when the stream has ended.
    pub fn take_tape(&mut self) -> Option<Tape> {
        self.tape.take()
    }

    fn note(&mut self, bytes: usize) {
        let (None, Some(tape)) = (&self.left_out, &mut self.tape) else {
            self.left_out = self.left_out.map(|length| length + bytes as u64);
            return;
        };
        if tape.failed.is_some() || bytes == 0 {
            return;
        }
        // The bytes are in the buffer still, so that nothing is read here.
        let taken = self.inner.fill_buf().and_then(|b| tape.take(&b[..bytes]));
        tape.failed = taken.err();
    }
}

impl<R: BufRead> Read for Taped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let length = data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&data[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Taped<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.note(bytes);
        self.inner.consume(bytes);
    }
}
