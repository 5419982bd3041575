//! Writing skopeo's `dir:` layout: `manifest.json`, blobs named by their hex digest, `version`. The
//! image that was there is replaced; files that are none of an image's are not touched.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use cap_std_ext::cap_std::fs::Dir;

use super::file::{ensure_dir, nameless, put_blob, put_small, sync_names, write_error};
use super::{Content, PushedManifest, Sink};
use crate::image::Digest;
use crate::transport::Error;

const VERSION: &str = "version";
const VERSION_TEXT: &[u8] = b"Directory Transport Version: 1.1\n";
const MANIFEST: &str = "manifest.json";

/// A directory, and which of its files belong to the new image.
#[derive(Debug)]
pub(super) struct DirSink {
    dir: Dir,
    path: String,
    mine: Mutex<HashSet<String>>,
}

impl DirSink {
    /// Takes an empty or new directory, or one with an image in it.
    pub(super) fn open(path: &str) -> Result<Self, Error> {
        let dir = ensure_dir(path.as_ref())?;
        let failed = |error| write_error(path, error);
        let empty = dir.entries().map_err(failed)?.next().is_none();
        if !empty && !dir.try_exists(VERSION).map_err(failed)? {
            return Err(Error::Config(format!(
                "{path} is neither empty nor an image that was copied to dir:; name another \
                 directory"
            )));
        }
        put_small(&dir, VERSION, VERSION_TEXT).map_err(failed)?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            mine: Mutex::default(),
        })
    }

    fn claim(&self, name: &str) {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.insert(name.to_owned());
    }

    /// Removes blobs, manifests and signatures of the image that was here before.
    fn remove_old(&self) -> std::io::Result<()> {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in self.dir.entries()? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_of_an_image(name) && !mine.contains(name) {
                self.dir.remove_file(name)?;
            }
        }
        Ok(())
    }
}

fn is_of_an_image(name: &str) -> bool {
    let stem = name.strip_suffix(".manifest.json").unwrap_or(name);
    let number = name.strip_prefix("signature-");
    Digest::from_hex(stem).is_ok()
        || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[async_trait]
impl Sink for DirSink {
    async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let name = digest.hex();
        let found = self.dir.metadata(&name);
        let found = found.is_ok_and(|found| found.is_file() && found.len() == size);
        if found {
            self.claim(&name);
        }
        Ok(found)
    }

    fn nameless(&self) -> Option<std::fs::File> {
        nameless(&self.dir)
    }

    async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &dyn Content,
    ) -> Result<(), Error> {
        let name = digest.hex();
        put_blob(&self.dir, &name, (digest, size), content, &self.path).await?;
        self.claim(&name);
        Ok(())
    }

    async fn put_instance(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        let name = format!("{}.manifest.json", manifest.digest.hex());
        let bytes = Bytes::copy_from_slice(manifest.bytes);
        let what = (manifest.digest, bytes.len() as u64);
        put_blob(&self.dir, &name, what, &bytes, &self.path).await?;
        self.claim(&name);
        Ok(())
    }

    async fn put_named(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        let written = sync_names(&self.dir)
            .and_then(|()| put_small(&self.dir, MANIFEST, manifest.bytes))
            .and_then(|()| sync_names(&self.dir))
            .and_then(|()| self.remove_old());
        written.map_err(|error| write_error(&format!("{}/{MANIFEST}", self.path), error))
    }
}

#[cfg(test)]
mod tests {
    use super::is_of_an_image;

    #[test]
    fn knows_the_files_of_an_image() {
        let hex = "a".repeat(64);
        for (name, is) in [
            (hex.clone(), true),
            (format!("{hex}.manifest.json"), true),
            ("signature-1".into(), true),
            ("signature-".into(), false),
            ("signature-x".into(), false),
            ("manifest.json".into(), false),
            ("version".into(), false),
            (format!("{hex}a"), false),
        ] {
            assert_eq!(is_of_an_image(&name), is, "{name}");
        }
    }
}
