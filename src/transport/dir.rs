//! The layout that `skopeo copy … dir:PATH` writes: `manifest.json`, blobs named by their hex
//! digest, `signature-N`, and `version`. Never writes into it.

use async_trait::async_trait;

use super::attachments::{Collected, MAX_SIGNATURES};
use super::files::Files;
use super::{Blob, Error, ImageSource, RawManifest};
use crate::image::{Descriptor, Digest, SignatureContent, StoredSignature};

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

    /// Files `signature-1` and so on, and those of the manifests that an index leads to.
    async fn signatures(&self, manifests: &[Digest]) -> Result<Vec<StoredSignature>, Error> {
        let mut collected = Collected::default();
        let own = manifests.iter().map(|digest| format!("{}-", digest.hex()));
        for prefix in own.chain([String::new()]) {
            for number in 1..=MAX_SIGNATURES {
                let name = format!("{prefix}signature-{number}");
                let bytes = match self.files.read_small(&name) {
                    Ok(bytes) => bytes,
                    Err(Error::NotFound { .. }) => break,
                    Err(error) => return Err(error),
                };
                collected.push(StoredSignature {
                    place: format!("{}/{name}", self.files.place()),
                    content: SignatureContent::File(bytes),
                })?;
            }
        }
        Ok(collected.found)
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

    #[tokio::test]
    async fn signatures_are_read_up_to_the_first_gap() {
        let digest = Digest::of(b"instance");
        let instance = format!("{}-signature-1", digest.hex());
        let (_temp, source) = dir(&[
            ("signature-1", "a"),
            ("signature-2", "b"),
            ("signature-4", "c"),
            (&instance, "d"),
        ]);
        let found = source.unwrap().signatures(&[digest]).await.unwrap();
        let texts = found.iter().map(|signature| match &signature.content {
            SignatureContent::File(bytes) => std::str::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["d", "a", "b"]);
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
