//! The seam between the walk and the places images come from: a source gives manifests by tag or
//! digest and blobs by descriptor. Never parses a layer, never writes anything.

use std::fmt;
use std::io::Read;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::Error;
use crate::image::{Descriptor, Digest, Manifest, StoredSignature};

/// Bytes of a manifest or index as a source gave them; their digest has been checked if one was
/// asked for.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// The exact bytes, at most [`crate::image::MAX_MANIFEST_BYTES`].
    pub bytes: Vec<u8>,
    /// The media type beside them (HTTP header, descriptor).
    pub media_type: Option<String>,
}

/// The bytes of a blob on their way. Not verified: whoever takes them checks size and digest.
pub enum Blob {
    /// A local file.
    Reader(Box<dyn Read + Send>),
    /// A transfer; it has already resumed whatever could be resumed, so an error in it is final.
    Stream(BoxStream<'static, Result<Bytes, Error>>),
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader(_) => "Blob::Reader",
            Self::Stream(_) => "Blob::Stream",
        })
    }
}

/// One image name in one place.
#[async_trait]
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// The manifest or index the name leads to, or, with a digest, the one with that digest.
    async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error>;

    /// Opens a blob (layer or config).
    async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error>;

    /// The bytes of `ranges` of a blob, one behind the other and nothing else. They are in order,
    /// do not touch each other, and none is empty. [`Error::WholeOnly`] where the source cannot.
    async fn ranges(&self, blob: &Descriptor, _ranges: &[Range<u64>]) -> Result<Blob, Error> {
        Err(Error::WholeOnly {
            place: format!("{} of {}", blob.digest, self.place()),
        })
    }

    /// Signatures of the manifests with these digests, wherever a place of this kind keeps them; none
    /// where it cannot have any. Bounded in number and size, and not verified.
    async fn signatures(&self, _manifests: &[Digest]) -> Result<Vec<StoredSignature>, Error> {
        Ok(Vec::new())
    }

    /// Those of every place that may keep signatures, for when [`Self::signatures`], which stops at the
    /// first that has any, gave none that is good. A place that fails is left out.
    async fn all_signatures(&self, _manifests: &[Digest]) -> Vec<StoredSignature> {
        Vec::new()
    }

    /// Takes note that what came of a blob is not what its digest promises, and will not ask there
    /// again. False: there is nobody else to ask.
    fn discredit(&self, _blob: &Digest) -> bool {
        false
    }

    /// The name for messages, without credentials.
    fn place(&self) -> String;
}

/// What a reference means now: one manifest.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The image's manifest.
    pub manifest: Manifest,
    /// The index it was chosen from.
    pub index: Option<Digest>,
}

impl Resolved {
    /// Refuses everything but the image with this digest, which is that of its manifest or of the
    /// index.
    pub fn insist(&self, required: Option<&Digest>, place: &str) -> Result<(), Error> {
        let found = self.manifest.digest();
        match required {
            Some(required) if *required != found && self.index != Some(*required) => {
                Err(Error::OtherDigest {
                    place: place.into(),
                    required: *required,
                    found,
                })
            }
            _ => Ok(()),
        }
    }
}
