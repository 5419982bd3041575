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

#[cfg(test)]
mod tests {
    use super::super::files::Directory;
    use super::*;

    fn dir(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<DirSource<Directory>, Error>) {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        let files = Directory::open(temp.path().to_str().unwrap()).unwrap();
        (temp, DirSource::open(files))
    }

    #[tokio::test]
    async fn finds_manifests_by_name_and_by_digest() {
        let digest = Digest::of(b"instance");
        let name = format!("{}.manifest.json", digest.hex());
        let version = ("version", "Directory Transport Version: 1.1\n");
        let (_temp, source) = dir(&[version, ("manifest.json", "top"), (&name, "instance")]);
        let source = source.unwrap();
        assert_eq!(source.manifest(None).await.unwrap().bytes, b"top");
        let found = source.manifest(Some(&digest)).await.unwrap();
        assert_eq!(found.bytes, b"instance");
        let missing = source.manifest(Some(&Digest::of(b"none"))).await;
        assert!(matches!(missing, Err(Error::NotFound { .. })));
        let (_temp, changed) = dir(&[(&name, "other")]);
        let changed = changed.unwrap().manifest(Some(&digest)).await;
        assert!(matches!(changed, Err(Error::Mismatch { .. })));
    }

    #[test]
    fn a_version_that_is_not_known_is_refused() {
        for text in ["Directory Transport Version: 2.0\n", "", "x"] {
            let (_temp, source) = dir(&[("version", text)]);
            let error = source.unwrap_err().to_string();
            assert!(error.contains("its version is not known"), "{error}");
        }
    }
}
