//! What can be wrong with a layer or an image once its bytes are here. The command line maps
//! these to the exit code for broken images; everything else a repository does is an I/O failure.

use thiserror::Error;

use super::gvariant::Malformed;
use super::tar_stream::TarError;
use crate::image::Digest;

/// A layer that must not be used. Nothing of it has become visible in the repository.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The stream is not a tar, or not the expected compression.
    #[error("it cannot be read")]
    Tar(#[from] TarError),
    /// The repository could not take an object.
    #[error("writing its objects to the repository")]
    Store(#[from] std::io::Error),
    /// A path that would leave the tree, or is no text.
    #[error("entry {path:?} {reason}")]
    Path {
        /// The entry.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A hard link to something that the layer does not have.
    #[error("entry {path:?} is a hard link to {target:?}, which this layer does not have")]
    LinkTarget {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// An object whose bytes do not give its name.
    #[error("object {name} has the content of {found}")]
    Checksum {
        /// Name of the object in the layer.
        name: String,
        /// The checksum of what came.
        found: Digest,
    },
    /// An object that has no place in this kind of layer.
    #[error("object {name:?}: {reason}")]
    Object {
        /// Path in the layer.
        name: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// Bytes of an object that do not parse.
    #[error("object {name:?} is {source}")]
    Malformed {
        /// Path in the layer.
        name: String,
        /// What is wrong.
        source: Malformed,
    },
    /// The uncompressed layer is not what the image config promises.
    #[error("its uncompressed digest is {found}, but the image config promises diff_id {expected}")]
    DiffId {
        /// From the config.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The compressed layer is not what the manifest promises.
    #[error("its digest is {found}, but the manifest promises {expected}")]
    Digest {
        /// From the manifest.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The compressed layer has another size than the manifest promises.
    #[error("it has {found} bytes, but the manifest promises {expected}")]
    Size {
        /// From the manifest.
        expected: u64,
        /// What came; one more than promised means "too many".
        found: u64,
    },
    /// The commit of the layer is not signed as it has to be.
    #[error(transparent)]
    Unsigned(#[from] super::CommitUnsigned),
    /// Objects that the image's commit needs came with none of its layers.
    #[error("commit {commit} needs object {object}, which is in none of the image's layers")]
    Incomplete {
        /// The encapsulated commit.
        commit: String,
        /// The first object that is missing.
        object: String,
    },
}
