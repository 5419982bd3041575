//! Writing an OCI layout as one tar: blobs are appended to a file without a name as they come, and
//! the file gets its name when everything is in it. An archive that was there is replaced as a
//! whole. The same image gives the same bytes.

use std::collections::HashSet;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use cap_std_ext::cap_std::ambient_authority;
use cap_std_ext::cap_std::fs::Dir;
use tokio::sync::Mutex;

use super::draft::Draft;
use super::file::{blocking, copy, write_error};
use super::oci_layout::{INDEX, LAYOUT, LAYOUT_TEXT, with_entry};
use super::{Content, PushedManifest, Sink};
use crate::image::Digest;
use crate::transport::Error;

/// Bytes of a tar block.
const BLOCK: u64 = 512;

/// An archive in the making.
#[derive(Debug)]
pub(super) struct ArchiveSink {
    name: String,
    path: String,
    tag: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    draft: Draft,
    /// Where the next member goes.
    end: u64,
    blobs: HashSet<Digest>,
}

impl ArchiveSink {
    /// Begins an archive beside the file it will replace.
    pub(super) fn open(path: &str, tag: Option<&str>) -> Result<Self, Error> {
        let whole = Path::new(path);
        let name = whole.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::Config(format!("{path} does not name a file")))?;
        if whole.is_dir() {
            return Err(Error::Config(format!("{path} is a directory; name a file")));
        }
        let parent = whole.parent().filter(|p| !p.as_os_str().is_empty());
        let failed = |error| write_error(path, error);
        let dir = Dir::open_ambient_dir(parent.unwrap_or(Path::new(".")), ambient_authority());
        let dir = dir.map_err(failed)?;
        let mut state = State {
            draft: Draft::new(dir).map_err(failed)?,
            end: 0,
            blobs: HashSet::new(),
        };
        for name in ["blobs/", "blobs/sha256/"] {
            state.directory(name).map_err(failed)?;
        }
        state.member(LAYOUT, LAYOUT_TEXT).map_err(failed)?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            tag: tag.map(ToOwned::to_owned),
            state: Mutex::new(state),
        })
    }
}

impl State {
    fn directory(&mut self, name: &str) -> std::io::Result<()> {
        let header = header(name, 0, tar::EntryType::Directory)?;
        self.write(header.as_bytes())
    }

    fn member(&mut self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let size = content.len() as u64;
        self.write(header(name, size, tar::EntryType::Regular)?.as_bytes())?;
        self.write(content)?;
        self.pad(size)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.draft.file.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> std::io::Result<()> {
        let padding = size.next_multiple_of(BLOCK) - size;
        let zeros = [0; BLOCK as usize];
        self.write(&zeros[..padding as usize])
    }

    /// Takes back what was written behind the last whole member.
    fn rewind(&mut self) -> std::io::Result<()> {
        self.draft.file.set_len(self.end)?;
        self.draft.file.seek(SeekFrom::Start(self.end)).map(|_| ())
    }
}

/// The header of a member: nothing in it depends on when and by whom it is written.
fn header(name: &str, size: u64, kind: tar::EntryType) -> std::io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_mode(match kind {
        tar::EntryType::Directory => 0o755,
        _ => 0o644,
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

#[async_trait]
impl Sink for ArchiveSink {
    async fn has_blob(&self, digest: &Digest, _: u64) -> Result<bool, Error> {
        Ok(self.state.lock().await.blobs.contains(digest))
    }

    async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        content: &dyn Content,
    ) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.blobs.contains(digest) {
            return Ok(());
        }
        let failed = |error| write_error(&self.path, error);
        let name = format!("blobs/sha256/{}", digest.hex());
        let start = state.end;
        // What an earlier call that was dropped half-way left behind the last member goes.
        state.rewind().map_err(failed)?;
        let header = header(&name, size, tar::EntryType::Regular).map_err(failed)?;
        state
            .draft
            .file
            .write_all(header.as_bytes())
            .map_err(failed)?;
        let file = state.draft.file.try_clone().map_err(failed)?;
        copy(file, (digest, size), content, &self.path).await?;
        state.end = start + BLOCK + size;
        state.pad(size).map_err(failed)?;
        state.blobs.insert(*digest);
        Ok(())
    }

    async fn put_instance(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        let bytes = Bytes::copy_from_slice(manifest.bytes);
        self.put_blob(manifest.digest, bytes.len() as u64, &bytes)
            .await
    }

    async fn put_named(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        self.put_instance(manifest).await?;
        let failed = |error| write_error(&self.path, error);
        let index = with_entry(None, manifest, self.tag.as_deref()).map_err(failed)?;
        let mut state = self.state.lock().await;
        state.rewind().map_err(failed)?;
        state.member(INDEX, &index).map_err(failed)?;
        state.write(&[0; 2 * BLOCK as usize]).map_err(failed)?;
        let file = state.draft.file.try_clone().map_err(failed)?;
        let path = self.path.clone();
        blocking(move || file.sync_all().map_err(|error| write_error(&path, error))).await?;
        state.draft.publish(&self.name).map_err(failed)
    }
}
