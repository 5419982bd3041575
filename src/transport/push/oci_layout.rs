//! Writing into OCI image layouts (image-spec, image-layout.md). Blobs and manifests come in and lie
//! under `blobs/sha256`; `index.json` gets the tag. Other tags and whatever else is in the layout
//! stay. Never removes a blob.

use async_trait::async_trait;
use cap_std_ext::cap_std::fs::Dir;
use serde_json::{Value, json};

use super::file::{ensure_dir, nameless, put_blob, put_small, readable, sync_names, write_error};
use super::{Content, PushedManifest, Sink};
use crate::image::{Digest, MAX_MANIFEST_BYTES};
use crate::sys::fs;
use crate::transport::Error;

pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const LAYOUT_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX: &str = "index.json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout in a directory, and the tag that is written.
#[derive(Debug)]
pub(super) struct LayoutSink {
    root: Dir,
    blobs: Dir,
    path: String,
    tag: Option<String>,
}

impl LayoutSink {
    /// Makes the layout where there is none. A directory with other things in it is left alone.
    pub(super) fn open(path: &str, tag: Option<&str>) -> Result<Self, Error> {
        let root = ensure_dir(path.as_ref())?;
        check(&root, path)?;
        let blobs = ensure_dir(&std::path::Path::new(path).join("blobs/sha256"))?;
        let made = match root.try_exists(LAYOUT) {
            Ok(true) => Ok(()),
            Ok(false) => put_small(&root, LAYOUT, LAYOUT_TEXT),
            Err(error) => Err(error),
        };
        made.map_err(|error| write_error(&format!("{path}/{LAYOUT}"), error))?;
        Ok(Self {
            root,
            blobs,
            path: path.to_owned(),
            tag: tag.map(ToOwned::to_owned),
        })
    }

    /// Gives the tag to a manifest: the index is read, changed and renamed under a lock.
    fn name(&self, manifest: &PushedManifest<'_>) -> std::io::Result<()> {
        let lock = readable(&self.root)?;
        fs::lock(&lock)?;
        let old = fs::read_optional(&lock, INDEX, MAX_MANIFEST_BYTES)?;
        let new = with_entry(old.as_deref(), manifest, self.tag.as_deref())?;
        put_small(&self.root, INDEX, &new)?;
        sync_names(&self.root)
    }
}

/// A directory that is neither empty nor a layout belongs to somebody else.
fn check(root: &Dir, path: &str) -> Result<(), Error> {
    let failed = |error| write_error(path, error);
    let is_layout =
        root.try_exists(LAYOUT).map_err(failed)? || root.try_exists(INDEX).map_err(failed)?;
    if is_layout
        || root
            .entries()
            .map_err(failed)?
            .all(|entry| entry.is_ok_and(|e| e.file_name() == "blobs"))
    {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{path} is neither empty nor an OCI layout; name another directory"
    )))
}

/// The index with an entry for `manifest`: of the same tag there is one afterwards. Without a tag,
/// the entries without one are replaced.
pub(super) fn with_entry(
    old: Option<&[u8]>,
    manifest: &PushedManifest<'_>,
    tag: Option<&str>,
) -> std::io::Result<Vec<u8>> {
    let mut index: Value = match old {
        Some(text) => serde_json::from_slice(text)?,
        None => json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}),
    };
    let mut entry = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.bytes.len(),
    });
    if let Some(tag) = tag {
        entry["annotations"] = json!({ REF_NAME: tag });
    }
    let name = |entry: &Value| {
        entry["annotations"][REF_NAME]
            .as_str()
            .map(ToOwned::to_owned)
    };
    match index.get_mut("manifests").and_then(Value::as_array_mut) {
        Some(entries) => {
            entries.retain(|entry| name(entry).as_deref() != tag);
            entries.push(entry);
        }
        None => {
            let words = "index.json is not the index of an OCI layout";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, words));
        }
    }
    Ok(index.to_string().into_bytes())
}

#[async_trait]
impl Sink for LayoutSink {
    async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        // Blobs get their name once they are whole; one of another size was not written by us.
        Ok(self
            .blobs
            .metadata(digest.hex())
            .is_ok_and(|found| found.is_file() && found.len() == size))
    }

    fn nameless(&self) -> Option<std::fs::File> {
        nameless(&self.blobs)
    }

    async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &dyn Content,
    ) -> Result<(), Error> {
        put_blob(
            &self.blobs,
            &digest.hex(),
            (digest, size),
            content,
            &self.path,
        )
        .await
    }

    async fn put_named(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        self.put_instance(manifest).await?;
        let named = sync_names(&self.blobs).and_then(|()| self.name(manifest));
        named.map_err(|error| write_error(&format!("{}/{INDEX}", self.path), error))
    }
}
