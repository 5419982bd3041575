//! Why an installation is refused, sorted by what a person does about it. Nothing was changed on
//! the target unless a variant says so.

use std::path::PathBuf;

use thiserror::Error;

use crate::config::ConfigError;
use crate::sys::amount::bytes;

/// A target or a wish that cannot be fulfilled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InstallError {
    /// Not run by root.
    #[error("installing needs root")]
    NotRoot,
    /// The target holds something already.
    #[error("{} is not empty: it has {}", path.display(), found.join(", "))]
    NotBlank {
        /// The target.
        path: PathBuf,
        /// What was found on it.
        found: Vec<String>,
    },
    /// A mounted root holds something already.
    #[error("{} is not empty: it has {}", path.display(), found.join(", "))]
    NotEmpty {
        /// The root.
        path: PathBuf,
        /// What was found in it.
        found: Vec<String>,
    },
    /// A mounted root holds an image-based system already; nothing can be put beside it.
    #[error("{} has deployments of an image-based system already", .0.display())]
    Deployed(PathBuf),
    /// There is no such file or device.
    #[error("{} does not exist", .0.display())]
    NoTarget(PathBuf),
    /// Neither a block device nor a plain file.
    #[error("{} is neither a disk nor a plain file", .0.display())]
    NoDisk(PathBuf),
    /// A partition, where a whole disk is needed.
    #[error("{} is a partition, not a whole disk", .0.display())]
    Partition(PathBuf),
    /// A disk, or a file behind a loop device, that is mounted or otherwise used.
    #[error("{} is in use: it, or a partition of it, is mounted or belongs to another device", .0.display())]
    InUse(PathBuf),
    /// A plain file or disk that may be read, not written.
    #[error("{} cannot be written", .0.display())]
    WriteProtected(PathBuf),
    /// There is no directory for what is put together before it is installed.
    #[error("{} is no directory", .0.display())]
    NoScratch(PathBuf),
    /// Another installation writes to the same place.
    #[error("another program has {} locked", .0.display())]
    Busy(PathBuf),
    /// The target is smaller than what goes there.
    #[error("{what} needs {}, but there are {}", bytes(*.needed), bytes(*.available))]
    TooSmall {
        /// What does not fit.
        what: String,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// Options that exclude each other, or a value that means nothing.
    #[error("{0}")]
    Options(String),
    /// A file of the image says how to install it in words that cannot be used.
    #[error(transparent)]
    ImageFile(ConfigError),
    /// Something that this host, image or machine cannot do; the second text says what can.
    #[error("{what}")]
    Unsupported {
        /// What cannot be done, and why.
        what: String,
        /// A way that works.
        instead: String,
    },
}

impl InstallError {
    /// An error about a file of an image, where it is that; another one stays what it is.
    pub fn of_image_file(error: anyhow::Error) -> anyhow::Error {
        match error.downcast() {
            Ok(error) => Self::ImageFile(error).into(),
            Err(other) => other,
        }
    }

    /// Something that cannot be done here, and a way that works.
    pub fn unsupported(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            instead: instead.into(),
        }
    }
}
