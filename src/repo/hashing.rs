//! A writer that hashes what passes. Bytes come in and go on to the writer behind it; their checksum
//! and their number go out in the end.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::image::Digest;

/// Hashes what is written through it.
#[derive(Debug)]
pub struct Hashing<W> {
    out: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        let hasher = Sha256::new();
        Self {
            out,
            hasher,
            bytes: 0,
        }
    }

    /// The checksum of what was written, the number of bytes, and where they went.
    pub fn finish(self) -> (Digest, u64, W) {
        let checksum = Digest::from_bytes(self.hasher.finalize().into());
        (checksum, self.bytes, self.out)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = self.out.write(data)?;
        self.hasher.update(&data[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
