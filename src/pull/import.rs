//! One layer from its blob to staged objects, on one thread: size and digest of the blob, inflate,
//! diff_id, tar, objects, in one pass. A reader comes in, a layer that may be published goes out;
//! until all digests have been checked, it does not go out.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result};
use thiserror::Error;

use crate::image::{Compression, Digest, Layer, VerifyError, VerifyingReader};
use crate::repo::LayerError;
use crate::repo::layer::{ImportedLayer, import};
use crate::repo::staging::Staging;

/// Bytes read from the blob at once.
const BLOB_BUFFER: usize = 64 << 10;
/// Bytes of inflated tar held at once; slices of it are hashed and written.
const TAR_BUFFER: usize = 128 << 10;

/// A layer that could not be fetched or used.
#[derive(Debug, Error)]
#[error("Fetching layer {number} of {total} ({digest}) of {image}")]
pub struct LayerFailure {
    /// Its place in the image, from 1.
    pub number: usize,
    /// How many layers the image has.
    pub total: usize,
    /// The blob.
    pub digest: Digest,
    /// The image.
    pub image: String,
    /// Why.
    #[source]
    pub source: anyhow::Error,
}

/// Reads a layer whole and checks it. On any error nothing of it can be published.
pub fn import_layer(staging: &Staging, layer: &Layer, blob: impl Read) -> Result<ImportedLayer> {
    read_checked(layer, blob, |tar| import_tar(staging, layer, tar))
}

/// Lets `work` read the tar stream of a layer as far as it likes, and checks the whole blob.
pub fn read_checked<T>(
    layer: &Layer,
    blob: impl Read,
    work: impl FnOnce(Box<dyn Read + '_>) -> Result<T>,
) -> Result<T> {
    let blob = VerifyingReader::new(blob, &layer.descriptor);
    let mut blob = BufReader::with_capacity(BLOB_BUFFER, blob);
    let done = decoder(layer, &mut blob).and_then(work);
    let blob = blob.into_inner();
    match done {
        // Bytes that are not the promised ones explain any error better than what they broke.
        Err(error) if layer.descriptor.size.is_some() && !is_store(&error) => match blob.finish() {
            Err(wrong @ (VerifyError::Digest { .. } | VerifyError::Long { .. })) => {
                Err(mismatch(wrong).into())
            }
            _ => Err(error),
        },
        Err(error) => Err(error),
        Ok(done) => {
            blob.finish().map_err(mismatch)?;
            Ok(done)
        }
    }
}

/// Whether the repository is at fault; no need to fetch the rest then.
pub fn is_store(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LayerError::Store(_)))
}

fn decoder<'a>(layer: &Layer, blob: &'a mut impl BufRead) -> Result<Box<dyn Read + 'a>> {
    Ok(match layer.compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(blob).context("Starting zstd")?),
    })
}

/// Reads a layer's tar stream whole and checks it against its diff_id. On any error nothing of it
/// can be published.
pub fn import_tar(staging: &Staging, layer: &Layer, tar: impl Read) -> Result<ImportedLayer> {
    let tar = VerifyingReader::expecting(tar, layer.diff_id, None);
    let mut tar = BufReader::with_capacity(TAR_BUFFER, tar);
    let imported = import(staging, (layer.kind, Some(layer.diff_id)), &mut tar)?;
    match tar.into_inner().finish() {
        Ok(_) => Ok(imported),
        Err(VerifyError::Digest { expected, found }) => {
            Err(LayerError::DiffId { expected, found }.into())
        }
        Err(other) => Err(mismatch(other).into()),
    }
}

fn mismatch(error: VerifyError) -> LayerError {
    match error {
        VerifyError::Digest { expected, found } => LayerError::Digest { expected, found },
        VerifyError::Short { expected, found } => LayerError::Size { expected, found },
        VerifyError::Long { expected } => LayerError::Size {
            expected,
            found: expected + 1,
        },
        VerifyError::Io(error) => crate::repo::TarError::Read(error).into(),
    }
}
