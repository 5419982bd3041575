//! What can go wrong between us and an image source, sorted by what a caller does about it.
//! Names the source and the object; never a credential.

use thiserror::Error;

use crate::image::{Digest, ManifestError};

/// A failure to resolve, fetch or push. `place` is a URL without credentials, or a path.
#[derive(Debug, Error)]
pub enum Error {
    /// The source answered that the object does not exist.
    #[error("{place} does not exist")]
    NotFound {
        /// Where it was looked for.
        place: String,
    },
    /// The source refuses without (other) credentials: 401 or 403.
    #[error("access to {place} is denied ({detail})")]
    Denied {
        /// What was asked for.
        place: String,
        /// The source's own words, and which credentials were used.
        detail: String,
    },
    /// A failure that may pass: connection trouble, a time-out, 408, 429, 5xx.
    #[error("{place}: {detail}")]
    Temporary {
        /// What was asked for.
        place: String,
        /// What happened.
        detail: String,
        /// How long the source asks to wait before the next try.
        retry_after: Option<std::time::Duration>,
    },
    /// An answer that will be the same next time: another HTTP status, a broken protocol.
    #[error("{place}: {detail}")]
    Refused {
        /// What was asked for.
        place: String,
        /// What happened.
        detail: String,
    },
    /// The source does not send parts of blobs.
    #[error("{place}: it is sent whole or not at all")]
    WholeOnly {
        /// What was asked for.
        place: String,
    },
    /// Bytes that are not what their digest or size promises.
    #[error("{place} is corrupt: expected {expected}, got {found}")]
    Mismatch {
        /// What was fetched.
        place: String,
        /// The digest or size that was promised.
        expected: String,
        /// What came.
        found: String,
    },
    /// Another image than the only one that may be used.
    #[error("{place} is the image {found} now, but only {required} may be used")]
    OtherDigest {
        /// The image.
        place: String,
        /// What may be used.
        required: Digest,
        /// Digest of the manifest that the name leads to.
        found: Digest,
    },
    /// A manifest, index or config that cannot be used.
    #[error("the manifest {digest} of {place} cannot be used: {source}")]
    Manifest {
        /// The image.
        place: String,
        /// The bytes' own digest.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A reference or a configuration file that is wrong.
    #[error("{0}")]
    Config(String),
    /// This kind of source is not supported on this host.
    #[error("{0}")]
    Unsupported(String),
    /// A local file could not be read.
    #[error("reading {place}: {source}")]
    Io {
        /// The path.
        place: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// A local file could not be written.
    #[error("writing {place}: {source}")]
    Write {
        /// The path.
        place: String,
        /// The system's words.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether trying again may help. The only question that retries ask.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary { .. })
    }
}
