//! Writing an OCI layout as one tar: blobs are appended to a file without a name as they come, and
//! the file gets its name when everything is in it. An archive that was there is replaced as a
//! whole, and nothing else is. The same image, put in the same order, gives the same bytes.
//!
//! What `docker load` reads is the same layout with a list of images beside it (`manifest.json`), which
//! `docker save` writes in this way since version 25. Manifest and digest are kept there, too.

use std::collections::HashSet;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use async_trait::async_trait;
use cap_std_ext::cap_std::ambient_authority;
use cap_std_ext::cap_std::fs::Dir;
use serde_json::json;
use tokio::sync::Mutex;

use super::draft::Draft;
use super::file::{blocking, copy, write_error};
use super::oci_layout::{INDEX, LAYOUT, LAYOUT_TEXT, with_entry};
use super::{Content, PushedManifest, Sink};
use crate::image::{Digest, ManifestOrIndex, ReferenceError, RegistryName, Transport};
use crate::transport::Error;

/// Where docker looks for the images of an archive.
const IMAGES: &str = "manifest.json";
/// Bytes of a tar block.
const BLOCK: u64 = 512;

/// How the image is found in the archive.
#[derive(Debug)]
pub(super) enum Format {
    /// By a tag in `index.json`.
    Oci(Option<String>),
    /// By a whole name in `manifest.json`.
    Docker(Option<String>),
}

impl Format {
    /// The format of a transport, with what stands behind the path.
    pub(super) fn new(transport: Transport, name: Option<&str>) -> Result<Self, Error> {
        let text = match (transport, name) {
            (Transport::DockerArchive, Some(text)) => text,
            (Transport::DockerArchive, None) => return Ok(Self::Docker(None)),
            (_, tag) => return Ok(Self::Oci(tag.map(ToOwned::to_owned))),
        };
        let name: RegistryName = text.parse().map_err(|why: ReferenceError| {
            Error::Config(format!("docker-archive:FILE:NAME:TAG needs a name: {why}"))
        })?;
        match name.tag {
            Some(tag) => {
                let (host, repository) = (name.host, name.repository);
                Ok(Self::Docker(Some(format!("{host}/{repository}:{tag}"))))
            }
            None => Err(Error::Config(format!(
                "{text} has a digest, which images in such an archive cannot be named by; name a tag"
            ))),
        }
    }
}

/// An archive in the making.
#[derive(Debug)]
pub(super) struct ArchiveSink {
    name: String,
    path: String,
    format: Format,
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
    pub(super) fn open(path: &str, format: Format) -> Result<Self, Error> {
        let whole = Path::new(path);
        let name = whole.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::Config(format!("{path} does not name a file")))?;
        // A file is put in its place, which is no good for /dev/stdout.
        if whole.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(Error::Config(format!(
                "{path} is there and is not a file; name a file, which is replaced when the archive is whole"
            )));
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
            format,
            state: Mutex::new(state),
        })
    }
}

impl ArchiveSink {
    /// The list of the archive's only image.
    fn images(&self, manifest: &PushedManifest<'_>, name: Option<&str>) -> Result<Vec<u8>, Error> {
        let parsed = ManifestOrIndex::parse(manifest.bytes.to_vec(), Some(manifest.media_type));
        let image = match parsed {
            Ok(ManifestOrIndex::Manifest(image)) => image,
            Ok(ManifestOrIndex::Index(_)) => {
                return Err(Error::Config(format!(
                    "{} takes one image, not those of an index; choose one with --arch",
                    self.path
                )));
            }
            Err(source) => {
                return Err(Error::Manifest {
                    place: self.path.clone(),
                    digest: *manifest.digest,
                    source,
                });
            }
        };
        let layers = image.layers.iter().map(|layer| member_name(&layer.digest));
        let images = json!([{
            "Config": member_name(&image.config.digest),
            "RepoTags": name.map(|name| vec![name]),
            "Layers": layers.collect::<Vec<_>>(),
        }]);
        Ok(images.to_string().into_bytes())
    }
}

fn member_name(blob: &Digest) -> String {
    format!("blobs/sha256/{}", blob.hex())
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
        let name = member_name(digest);
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

    async fn put_named(&self, manifest: &PushedManifest<'_>) -> Result<(), Error> {
        self.put_instance(manifest).await?;
        let failed = |error| write_error(&self.path, error);
        let (tag, images) = match &self.format {
            Format::Oci(tag) => (tag.as_deref(), None),
            // podman takes such an archive for an OCI one, and the image's name from there.
            Format::Docker(name) => {
                let name = name.as_deref();
                (name, Some(self.images(manifest, name)?))
            }
        };
        let index = with_entry(None, manifest, tag).map_err(failed)?;
        let mut state = self.state.lock().await;
        state.rewind().map_err(failed)?;
        if let Some(images) = images {
            state.member(IMAGES, &images).map_err(failed)?;
        }
        state.member(INDEX, &index).map_err(failed)?;
        state.write(&[0; 2 * BLOCK as usize]).map_err(failed)?;
        let file = state.draft.file.try_clone().map_err(failed)?;
        let path = self.path.clone();
        blocking(move || file.sync_all().map_err(|error| write_error(&path, error))).await?;
        state.draft.publish(&self.name).map_err(failed)
    }
}
