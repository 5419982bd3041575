//! Tokens of a record as bytes, both ways. Never trusts a number that it reads.

use std::io::{self, Read, Write};

use tar::Header;

use super::Object;
use crate::image::Digest;
use crate::repo::object::ObjectKind;
use crate::repo::tar_extensions::{MAX_SPARSE, Piece};

/// Bytes of a tar block.
pub(super) const BLOCK: usize = 512;
/// Most bytes of one literal.
pub(super) const MAX_LITERAL: usize = 64 << 10;

/// Kinds of object, by the number that a record has for them.
const KINDS: [ObjectKind; 4] = [
    ObjectKind::File,
    ObjectKind::DirTree,
    ObjectKind::DirMeta,
    ObjectKind::Commit,
];

/// A stretch of a tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many zeros.
    Zeros(u64),
    /// The content of an object, or only these pieces of it.
    Content(Object, Option<Vec<Piece>>),
}

/// Writes tokens.
#[derive(Debug)]
pub(super) struct Writer<W> {
    pub(super) out: W,
    last: [u8; BLOCK],
}

impl<W: Write> Writer<W> {
    pub(super) const fn new(out: W) -> Self {
        let last = [0; BLOCK];
        Self { out, last }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&[0])?;
        self.number(bytes.len() as u64)?;
        self.out.write_all(bytes)
    }

    /// A header, as what differs from the one before.
    pub(super) fn header(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        let words = block.chunks_exact(8).zip(self.last.chunks_exact(8));
        let mut mask = 0u64;
        let mut differing = [0; BLOCK + 9];
        let mut length = 9;
        for (bit, (new, old)) in words.enumerate() {
            if new != old {
                mask |= 1 << bit;
                differing[length..length + 8].copy_from_slice(new);
                length += 8;
            }
        }
        differing[0] = 1;
        differing[1..9].copy_from_slice(&mask.to_le_bytes());
        self.last = *block;
        self.out.write_all(&differing[..length])
    }

    pub(super) fn zeros(&mut self, length: u64) -> io::Result<()> {
        self.out.write_all(&[2])?;
        self.number(length)
    }

    pub(super) fn content(
        &mut self,
        (checksum, kind): Object,
        pieces: Option<&[Piece]>,
    ) -> io::Result<()> {
        let number = KINDS.iter().position(|k| *k == kind);
        let number = number.and_then(|n| u8::try_from(n).ok());
        let number = number.ok_or_else(|| bad("an object that has no content of its own"))?;
        match pieces {
            None if named(&self.last) == Some(checksum) => self.out.write_all(&[4, number]),
            None => {
                self.out.write_all(&[3, number])?;
                self.out.write_all(checksum.as_bytes())
            }
            Some(pieces) => {
                self.out.write_all(&[5])?;
                self.out.write_all(checksum.as_bytes())?;
                self.number(pieces.len() as u64)?;
                let numbers = pieces.iter().flat_map(|(offset, length)| [offset, length]);
                numbers.copied().try_for_each(|n| self.number(n))
            }
        }
    }

    fn number(&mut self, mut number: u64) -> io::Result<()> {
        while number >= 0x80 {
            self.out.write_all(&[number as u8 | 0x80])?;
            number >>= 7;
        }
        self.out.write_all(&[number as u8])
    }
}

/// Reads tokens.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    last: [u8; BLOCK],
}

impl<R: Read> Reader<R> {
    pub(super) const fn new(input: R) -> Self {
        let last = [0; BLOCK];
        Self { input, last }
    }

    /// The next token; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Token>> {
        let mut tag = [0];
        if self.input.read(&mut tag)? == 0 {
            return Ok(None);
        }
        let token = match tag[0] {
            0 => Token::Bytes(self.literal()?),
            1 => Token::Bytes(self.header()?),
            2 => Token::Zeros(self.number()?),
            3 => {
                let kind = self.kind()?;
                Token::Content((self.checksum()?, kind), None)
            }
            4 => {
                let kind = self.kind()?;
                let checksum = named(&self.last);
                let checksum = checksum.ok_or_else(|| bad("a header that names no object"))?;
                Token::Content((checksum, kind), None)
            }
            5 => {
                let checksum = self.checksum()?;
                Token::Content((checksum, ObjectKind::File), Some(self.pieces()?))
            }
            _ => return Err(bad("a token that it cannot have")),
        };
        Ok(Some(token))
    }

    fn literal(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > MAX_LITERAL as u64 {
            return Err(bad("a literal that is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn header(&mut self) -> io::Result<Vec<u8>> {
        let mut mask = [0; 8];
        self.input.read_exact(&mut mask)?;
        let mask = u64::from_le_bytes(mask);
        for (bit, word) in self.last.chunks_exact_mut(8).enumerate() {
            if (mask >> bit) & 1 == 1 {
                self.input.read_exact(word)?;
            }
        }
        Ok(self.last.to_vec())
    }

    fn kind(&mut self) -> io::Result<ObjectKind> {
        let mut number = [0];
        self.input.read_exact(&mut number)?;
        let kind = KINDS.get(usize::from(number[0]));
        kind.copied()
            .ok_or_else(|| bad("an unknown kind of object"))
    }

    fn checksum(&mut self) -> io::Result<Digest> {
        let mut bytes = [0; 32];
        self.input.read_exact(&mut bytes)?;
        Ok(Digest::from_bytes(bytes))
    }

    fn pieces(&mut self) -> io::Result<Vec<Piece>> {
        let count = self.number()?;
        if count > MAX_SPARSE as u64 {
            return Err(bad("too many pieces of a file"));
        }
        (0..count)
            .map(|_| Ok((self.number()?, self.number()?)))
            .collect()
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(number);
            }
        }
        Err(bad("a number that is too large"))
    }
}

/// The object that a header's path names: `…/objects/ab/cdef….file`.
fn named(block: &[u8; BLOCK]) -> Option<Digest> {
    let path = Header::from_byte_slice(block).path_bytes();
    let path = std::str::from_utf8(&path).ok()?;
    let (dirs, file) = path.rsplit_once('/')?;
    let (rest, _) = file.split_once('.')?;
    let dir = dirs.rsplit('/').next()?;
    Digest::from_hex(&format!("{dir}{rest}")).ok()
}

pub(super) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the record has {what}"))
}
