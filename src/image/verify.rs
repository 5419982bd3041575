//! A reader that checks what passes through it. A stream with its promised digest and size comes
//! in; the same bytes go out, and only [`VerifyingReader::finish`] says that they were the right
//! ones. Never keeps bytes: whoever reads must not use them for good before `finish`.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Descriptor, Digest};

/// Why a stream is not what was promised.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The stream ended too early.
    #[error("expected {expected} bytes, got only {found}")]
    Short {
        /// Promised size in bytes.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The stream goes on behind its promised end.
    #[error("expected {expected} bytes, got more")]
    Long {
        /// Promised size in bytes.
        expected: u64,
    },
    /// All bytes came, but other ones.
    #[error("expected digest {expected}, got {found}")]
    Digest {
        /// Promised digest.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// The stream itself failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Passes a stream on and checks its size (where it is known) and sha256 digest on the way.
///
/// A size that is wrong shows up as an error of `read` as soon as it is certain, with a
/// [`VerifyError`] inside; a wrong digest only in [`finish`](Self::finish).
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Sha256,
    digest: Digest,
    size: Option<u64>,
    taken: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Expects of `inner` the blob that `descriptor` names.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self::expecting(inner, descriptor.digest, descriptor.size)
    }

    /// Expects `digest` and, where it is known, `size` bytes of `inner`.
    pub fn expecting(inner: R, digest: Digest, size: Option<u64>) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            digest,
            size,
            taken: 0,
        }
    }

    /// Bytes that have passed so far; nothing is said about their being right.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Reads what is left (a decompressor may stop before the end of its input) and tells whether
    /// the whole stream was the promised one. Gives its size in bytes.
    pub fn finish(mut self) -> Result<u64, VerifyError> {
        io::copy(&mut self, &mut io::sink()).map_err(|error| match error.downcast() {
            Ok(verify) => verify,
            Err(io) => VerifyError::Io(io),
        })?;
        let found = Digest::from_bytes(self.hasher.finalize().into());
        if found != self.digest {
            return Err(VerifyError::Digest {
                expected: self.digest,
                found,
            });
        }
        Ok(self.taken)
    }

    fn check_size(&self, at_end: bool) -> Result<(), VerifyError> {
        match self.size {
            Some(expected) if self.taken > expected => Err(VerifyError::Long { expected }),
            Some(expected) if at_end && self.taken < expected => Err(VerifyError::Short {
                expected,
                found: self.taken,
            }),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken += count as u64;
        let at_end = count == 0 && !buffer.is_empty();
        self.check_size(at_end)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(data: &[u8], digest: Digest, size: Option<u64>) -> Result<u64, VerifyError> {
        VerifyingReader::expecting(data, digest, size).finish()
    }

    #[test]
    fn passes_the_right_bytes() {
        let mut reader = VerifyingReader::expecting(&b"layer"[..], Digest::of(b"layer"), Some(5));
        let mut text = [0; 3];
        reader.read_exact(&mut text).unwrap();
        assert_eq!((&text, reader.taken()), (b"lay", 3));
        assert_eq!(reader.finish().unwrap(), 5);
        assert_eq!(verify(b"layer", Digest::of(b"layer"), None).unwrap(), 5);
        assert_eq!(verify(b"", Digest::of(b""), Some(0)).unwrap(), 0);
    }

    #[test]
    fn refuses_other_bytes() {
        let right = Digest::of(b"layer");
        let message = |data: &[u8], size| verify(data, right, size).unwrap_err().to_string();
        assert_eq!(message(b"laye", Some(5)), "expected 5 bytes, got only 4");
        assert_eq!(message(b"layers", Some(5)), "expected 5 bytes, got more");
        let found = Digest::of(b"layes");
        let expected = format!("expected digest {right}, got {found}");
        assert_eq!(message(b"layes", Some(5)), expected);
        assert_eq!(message(b"layes", None), expected);
    }

    #[test]
    fn a_wrong_size_fails_while_reading() {
        let mut text = Vec::new();
        let mut reader = VerifyingReader::expecting(&b"la"[..], Digest::of(b"layer"), Some(5));
        let error = reader.read_to_end(&mut text).unwrap_err();
        assert!(matches!(
            error.downcast::<VerifyError>(),
            Ok(VerifyError::Short {
                expected: 5,
                found: 2
            })
        ));
    }

    #[test]
    fn a_failing_stream_is_told_apart() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let error = VerifyingReader::expecting(Broken, Digest::of(b""), None).finish();
        assert!(
            matches!(error, Err(VerifyError::Io(e)) if e.kind() == io::ErrorKind::ConnectionReset)
        );
    }
}
