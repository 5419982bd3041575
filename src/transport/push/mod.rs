//! Places images go to: registries, OCI layouts, archives, skopeo's directories. A reference comes
//! in, blobs and manifests follow, an image that readers find under that name goes out. Manifests
//! are stored byte for byte, so that digests stay. Never chooses what is written.
//!
//! Blobs come first and the manifest with the name last: until then the name means what it meant
//! before, or nothing. Whatever is interrupted leaves at most blobs that nothing names.

mod archive;
mod content;
pub mod copy;
mod dir;
mod draft;
mod file;
mod oci_layout;

use std::fmt;
use std::fs::File;

use async_trait::async_trait;
use bytes::Bytes;

use super::registry::RegistrySink;
use super::{Error, SourceOptions};
use crate::image::{Digest, ImageReference, ReferenceError, RegistryName, Transport};
use crate::transport::open::split_path;
pub(super) use content::{Check, chunks};
pub use content::{Content, Copied, reader};
pub use copy::{CopyPlan, Selection};

/// A manifest or index on its way, byte for byte.
#[derive(Debug, Clone, Copy)]
pub struct PushedManifest<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Their digest.
    pub digest: &'a Digest,
    /// Their media type.
    pub media_type: &'a str,
}

/// What each kind of destination can do.
#[async_trait]
pub(super) trait Sink: Send + Sync + fmt::Debug {
    async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, Error>;

    /// See [`Destination::nameless`].
    fn nameless(&self) -> Option<File> {
        None
    }

    async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &dyn Content,
    ) -> Result<(), Error>;

    /// Stores a manifest that an index will name: where nothing else is said, as a blob like any other.
    async fn put_instance(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        let bytes = Bytes::copy_from_slice(manifest.bytes);
        self.put_blob(manifest.digest, bytes.len() as u64, &bytes)
            .await
    }

    /// Stores the manifest or index that the name means from now on; all is durable then.
    async fn put_named(&self, manifest: &PushedManifest<'_>) -> Result<(), Error>;
}

/// How destinations behave. Credentials, certificates and retries are those of sources.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Credentials, time-outs, retries, and where files are looked up.
    pub source: SourceOptions,
    /// Repositories that may have some of the blobs: a registry can take them over from those of
    /// its own without an upload.
    pub mount_from: Vec<RegistryName>,
}

/// One image name that is written to. Blobs may be put at the same time; then come the manifests.
#[derive(Debug)]
pub struct Destination {
    sink: Box<dyn Sink>,
    place: String,
    sequential: bool,
}

impl Destination {
    /// Prepares writing to `imgref`: checks that its kind can be written, makes a directory that is
    /// missing. A registry is not asked anything yet.
    pub async fn open(imgref: &ImageReference, options: &PushOptions) -> Result<Self, Error> {
        let sink: Box<dyn Sink> = match imgref.transport {
            Transport::Registry => {
                let name = imgref.name.parse();
                let name = name.map_err(|why: ReferenceError| Error::Config(why.to_string()))?;
                Box::new(RegistrySink::new(name, options)?)
            }
            Transport::OciDir => {
                let (path, tag) = split_path(imgref)?;
                Box::new(oci_layout::LayoutSink::open(path, tag)?)
            }
            Transport::OciArchive | Transport::DockerArchive => {
                let (path, name) = split_path(imgref)?;
                let format = archive::Format::new(imgref.transport, name)?;
                Box::new(archive::ArchiveSink::open(path, format)?)
            }
            Transport::Dir => Box::new(dir::DirSink::open(&imgref.name)?),
            Transport::ContainerStorage | Transport::DockerDaemon => {
                return Err(unsupported(imgref));
            }
        };
        Ok(Self {
            sink,
            place: imgref.to_string(),
            sequential: matches!(
                imgref.transport,
                Transport::OciArchive | Transport::DockerArchive
            ),
        })
    }

    /// Whether the destination has a blob, or could get it from a repository of its own.
    pub async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        self.sink.has_blob(digest, size).await
    }

    /// An empty file without a name that can become a blob here by getting one. None where this kind has no
    /// use for such, or none can be made.
    pub fn nameless(&self) -> Option<File> {
        self.sink.nameless()
    }

    /// Writes a blob of `size` bytes. [`Error::Mismatch`] where the content is another one; nothing
    /// is stored then.
    pub async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &dyn Content,
    ) -> Result<(), Error> {
        self.sink.put_blob(digest, size, content).await
    }

    /// Writes the manifest of one image of an index, before the index itself.
    pub async fn put_instance(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        self.sink.put_instance(manifest).await
    }

    /// Writes the manifest or index and lets the name mean it. Comes last: everything is durable,
    /// or with the registry, when it returns.
    pub async fn put_manifest(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        self.sink.put_named(manifest).await
    }

    /// Whether blobs are put one after the other: an archive is always the same only where their order is.
    pub fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// How many blobs to put at once, of `jobs` that are wanted.
    pub fn at_once(&self, jobs: usize) -> usize {
        match self.sequential {
            true => 1,
            false => jobs.max(1),
        }
    }

    /// The name for messages.
    pub fn place(&self) -> &str {
        &self.place
    }
}

fn unsupported(imgref: &ImageReference) -> Error {
    Error::Unsupported(format!(
        "Bowline does not write images of transport {}; write oci:DIRECTORY:TAG and copy it with \
         `skopeo copy oci:DIRECTORY:TAG {imgref}`",
        imgref.transport.name()
    ))
}
