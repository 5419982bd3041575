//! Tar streams to the blobs of layers: one pass that hashes, compresses, hashes again and writes. A stream
//! comes in through [`LayerWriter`], a blob in a file without a name goes out. The same stream gives the
//! same blob on every machine. Never holds more of a stream than a few blocks.

mod blob;
mod chunked;
mod chunked_tar;
mod deflate_blocks;
mod gzip;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

pub use self::blob::BlobFile;
use self::blob::HashedFile;
use self::chunked::ChunkedWriter;
use self::gzip::{GzipPool, ParallelGzip};
use crate::image::Digest;

/// Bytes of a compressed stream that are hashed and written at once.
const OUT_BUFFER: usize = 128 << 10;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// gzip, level 1 to 12.
    Gzip(i32),
    /// zstd, level 1 to 22.
    Zstd(i32),
    /// zstd with a table of contents, so that readers can leave out files that they have.
    ZstdChunked(i32),
}

impl LayerCompression {
    /// The level of gzip unless one is asked for: blobs are as small as zlib's at its default level.
    pub const GZIP_LEVEL: i32 = 5;
    /// The level of zstd unless one is asked for, which is its default.
    pub const ZSTD_LEVEL: i32 = 3;

    /// The media type of such layers (image-spec, layer.md).
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd(_) | Self::ZstdChunked(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A finished layer.
#[derive(Debug)]
pub struct LayerBlob {
    /// Its bytes.
    pub file: BlobFile,
    /// Their digest.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// Digest of the tar stream.
    pub diff_id: Digest,
    /// What its descriptor must say about it.
    pub annotations: BTreeMap<String, String>,
}

/// Makes writers of layers that are all compressed in the same way.
#[derive(Debug, Clone)]
pub struct Compressor(Method);

#[derive(Debug, Clone)]
enum Method {
    None,
    Gzip(GzipPool),
    Zstd(i32),
    ZstdChunked(i32),
}

impl Compressor {
    /// Starts as many threads as the compression has a use for.
    pub fn new(compression: LayerCompression, threads: NonZeroUsize) -> Result<Self> {
        Ok(Self(match compression {
            LayerCompression::None => Method::None,
            LayerCompression::Gzip(level) => Method::Gzip(GzipPool::new(level, threads)?),
            LayerCompression::Zstd(level) => Method::Zstd(level),
            LayerCompression::ZstdChunked(level) => Method::ZstdChunked(level),
        }))
    }

    /// Starts a layer in an empty file.
    pub fn layer(&self, file: File) -> Result<LayerWriter> {
        let out = HashedFile::new(file);
        let buffered = |out| BufWriter::with_capacity(OUT_BUFFER, out);
        let encoder = match &self.0 {
            Method::None => Encoder::None(buffered(out)),
            Method::Gzip(pool) => Encoder::Gzip(ParallelGzip::new(pool, out)?),
            Method::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(buffered(out), *level)?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
            Method::ZstdChunked(level) => {
                Encoder::Chunked(Box::new(ChunkedWriter::new(buffered(out), *level)?))
            }
        };
        Ok(LayerWriter {
            diff: Sha256::new(),
            encoder,
        })
    }
}

/// Takes a tar stream.
pub struct LayerWriter {
    diff: Sha256,
    encoder: Encoder,
}

enum Encoder {
    None(BufWriter<HashedFile>),
    Gzip(ParallelGzip<HashedFile>),
    Zstd(zstd::Encoder<'static, BufWriter<HashedFile>>),
    Chunked(Box<ChunkedWriter<BufWriter<HashedFile>>>),
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LayerWriter")
    }
}

impl LayerWriter {
    /// Ends the layer.
    pub fn finish(self) -> Result<LayerBlob> {
        let diff_id = Digest::from_bytes(self.diff.finalize().into());
        let mut annotations = BTreeMap::new();
        let inner = |out: BufWriter<HashedFile>| out.into_inner().map_err(|e| e.into_error());
        let out = match self.encoder {
            Encoder::None(out) => inner(out)?,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => inner(encoder.finish()?)?,
            Encoder::Chunked(encoder) => {
                let (out, found) = encoder.finish()?;
                annotations = found;
                inner(out)?
            }
        };
        let (file, digest, size) = out.finish();
        Ok(LayerBlob {
            file,
            digest,
            size,
            diff_id,
            annotations,
        })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &mut self.encoder {
            Encoder::None(out) => out.write_all(data)?,
            Encoder::Gzip(out) => out.write_all(data)?,
            Encoder::Zstd(out) => out.write_all(data)?,
            Encoder::Chunked(out) => out.write_all(data)?,
        }
        self.diff.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
