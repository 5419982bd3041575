//! An image as a plain directory. A source and the name of a directory come in; the layers laid over
//! each other go out, under that name only when all of them were what the manifest promised. Nothing is
//! ever written, linked or removed outside of the directory, whatever an archive says.
//!
//! The work is done in a directory beside it, `.NAME.RANDOM.new`, which is renamed at the end and
//! removed after a failure. Where something is mounted on the directory, the work is done inside, and
//! what is in the image moves up at the end, name by name.

mod apply;
mod later;
mod root;

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::image::{Compression, ImageLayout, Layer, Manifest, VerifyError, VerifyingReader};
use crate::progress::{Event, ProgressSink};
use crate::repo::tar_stream::TarStream;
use crate::sys::fs as sysfs;
use crate::transport::push::reader;
use crate::transport::{self, ImageSource};
use apply::Applied;
use later::Later;
use root::Root;

const BUFFER: usize = 128 << 10;

/// Why an image was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// Somebody else's directory.
    #[error("{0} is there already and is not an empty directory")]
    NotEmpty(PathBuf),
    /// An entry that has no place in a directory.
    #[error("{path:?} in the layer {reason}")]
    Entry {
        /// Its path in the archive.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A layer that is not what the manifest or the config says.
    #[error("the layer is not what was promised: {0}")]
    Mismatch(VerifyError),
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Layers.
    pub layers: usize,
    /// Devices that were left out.
    pub devices: u64,
}

/// Unpacks the image of `manifest` to `dir`, which must not be there, or be empty. `owners`: whether
/// files get the owners that the image gives them, which takes root.
pub async fn run(
    source: &Arc<dyn ImageSource>,
    manifest: &Manifest,
    dir: &Path,
    owners: bool,
    progress: &Arc<dyn ProgressSink>,
) -> Result<Unpacked> {
    let config = transport::fetch_config(&**source, manifest).await?;
    let layers = ImageLayout::new(manifest, &config)?;
    let work = Beside::new(dir)?;
    let mut later = Later::new(&work.path).context("Making a scratch file")?;
    announce(&layers, progress);
    let mut done = Unpacked::default();
    for layer in layers.layers() {
        let (index, digest) = (layer.index, layer.descriptor.digest);
        let size = layer.descriptor.size;
        progress.event(Event::LayerStarted {
            index,
            digest,
            size,
        });
        let blob = source.blob(&layer.descriptor).await?;
        let (layer, root) = (layer.clone(), Root::open(&work.path, owners)?);
        let reader = reader(blob, format!("layer {digest} of {}", source.place()));
        let applied = spawn_blocking(move || unpack(&layer, reader, &root, later)).await;
        let applied = applied.context("A worker died")?;
        let (applied, back) = applied.with_context(|| format!("Unpacking layer {digest}"))?;
        later = back;
        done.layers += 1;
        done.devices += applied.devices;
        progress.event(Event::LayerDone { index });
    }
    let finish = move || work.finish(later, owners);
    spawn_blocking(finish).await.context("A worker died")??;
    Ok(done)
}

fn announce(layers: &ImageLayout, progress: &Arc<dyn ProgressSink>) {
    let layers = layers.layers();
    progress.event(Event::Planned {
        layers: layers.len(),
        layers_to_fetch: layers.len(),
        bytes_to_fetch: layers.iter().filter_map(|l| l.descriptor.size).sum(),
        bytes_present: 0,
        bytes_reused: 0,
    });
}

/// Reads one layer whole and checks it.
fn unpack(
    layer: &Layer,
    blob: impl Read,
    root: &Root,
    mut later: Later,
) -> Result<(Applied, Later)> {
    let mut blob = BufReader::with_capacity(BUFFER, VerifyingReader::new(blob, &layer.descriptor));
    let decoder: Box<dyn Read + '_> = match layer.compression {
        Compression::None => Box::new(&mut blob),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut blob)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(&mut blob)?),
    };
    let tar = VerifyingReader::expecting(decoder, layer.diff_id, None);
    let mut tar = BufReader::with_capacity(BUFFER, tar);
    let applied = apply::layer(TarStream::new(&mut tar, None), root, &mut later)?;
    tar.into_inner().finish().map_err(UnpackError::Mismatch)?;
    blob.into_inner().finish().map_err(UnpackError::Mismatch)?;
    Ok((applied, later))
}

/// The directory in the making.
struct Beside {
    path: PathBuf,
    target: PathBuf,
    /// Whether it is within the target, which cannot be replaced.
    within: bool,
}

impl Beside {
    fn new(target: &Path) -> Result<Self> {
        let (target, within) = place(target)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let passing = format!(".{name}.{}.new", uuid::Uuid::new_v4().simple());
        let path = match within {
            true => target.join(passing),
            false => target.with_file_name(passing),
        };
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("Making {}", path.display()))?;
        Ok(Self {
            path,
            target,
            within,
        })
    }

    /// Gives directories their modes and times, and the whole its name.
    fn finish(self, later: Later, owners: bool) -> Result<()> {
        let root = Root::open(&self.path, owners)?;
        later
            .carry_out(&root)
            .context("Setting modes and times of directories")?;
        sysfs::sync_filesystem(&self.path).context("Writing the directory to its disk")?;
        if self.within {
            let moved = self.move_up(owners);
            return moved.with_context(|| format!("Moving to {}", self.target.display()));
        }
        let named = std::fs::rename(&self.path, &self.target);
        named.with_context(|| format!("Renaming to {}", self.target.display()))
    }

    fn move_up(&self, owners: bool) -> io::Result<()> {
        if owners {
            // What is below it may be set-id root.
            std::fs::set_permissions(&self.target, Permissions::from_mode(0o700))?;
        }
        for entry in self.path.read_dir()? {
            let entry = entry?;
            std::fs::rename(entry.path(), self.target.join(entry.file_name()))?;
        }
        sysfs::sync_filesystem(&self.target)
    }
}

/// The directory that `target` means, where it is there, and whether something is mounted on it. It must be
/// empty.
fn place(target: &Path) -> Result<(PathBuf, bool)> {
    let looking = || format!("Looking at {}", target.display());
    let found = match target.canonicalize() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match target.is_symlink() {
                true => Err(UnpackError::NotEmpty(target.into()).into()),
                false => Ok((target.into(), false)),
            };
        }
        Err(error) => return Err(error).with_context(looking),
    };
    match is_free(&found) {
        Ok(Some(mounted)) => Ok((found, mounted)),
        Ok(None) => Err(UnpackError::NotEmpty(target.into()).into()),
        Err(error) => Err(error).with_context(looking),
    }
}

/// Whether something is mounted on a directory; `None`: it is none, or not empty.
fn is_free(target: &Path) -> io::Result<Option<bool>> {
    if !target.is_dir() {
        return Ok(None);
    }
    let mount = |path: &Path| sysfs::mount_of(sysfs::open_dir_path(path)?, OsStr::new(""));
    let mounted = match target.parent() {
        Some(parent) => mount(parent)? != mount(target)?,
        None => true,
    };
    for entry in target.read_dir()? {
        // A new ext4 has one for its own use.
        if !mounted || entry?.file_name() != "lost+found" {
            return Ok(None);
        }
    }
    Ok(Some(mounted))
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After a success it has another name.
        if !self.path.exists() {
            return;
        }
        if let Err(error) = root::remove(&self.path) {
            tracing::warn!("{} stays behind: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests;
