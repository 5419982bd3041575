//! The layout that `skopeo copy … dir:PATH` writes: `manifest.json`, blobs named by their hex
//! digest, and `version`. Never writes into it.

use async_trait::async_trait;

use super::files::Files;
use super::{Blob, Error, ImageSource, RawManifest};
use crate::image::{Descriptor, Digest};

/// What the file `version` begins with in every version there is.
const VERSION: &[u8] = b"Directory Transport Version: 1.";

/// The image in a directory of skopeo's.
#[derive(Debug)]
pub(super) struct DirSource<F> {
    files: F,
}

impl<F: Files> DirSource<F> {
    /// Takes the directory if its version is known; old ones have no `version`.
    pub(super) fn open(files: F) -> Result<Self, Error> {
        match files.read_small("version") {
            Ok(version) if version.starts_with(VERSION) => {}
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
            Ok(version) => {
                let version = String::from_utf8_lossy(&version[..version.len().min(80)]);
                return Err(Error::Refused {
                    place: files.place().to_owned(),
                    detail: format!("its version is not known: {:?}", version.trim()),
                });
            }
        }
        Ok(Self { files })
    }
}

#[async_trait]
impl<F: Files> ImageSource for DirSource<F> {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<RawManifest, Error> {
        let bytes = match digest {
            None => self.files.read_small("manifest.json")?,
            Some(digest) => {
                let name = format!("{}.manifest.json", digest.hex());
                self.files.read_verified(&name, digest, None)?
            }
        };
        Ok(RawManifest {
            bytes,
            media_type: None,
        })
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Blob, Error> {
        self.files.open_blob(&blob.digest.hex(), blob)
    }

    fn place(&self) -> String {
        self.files.place().to_owned()
    }
}
