//! Files of a local destination: a stream of bytes comes in, a whole and durable file under its name
//! goes out. Until then it has no name, so that an interruption leaves nothing behind.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use cap_std_ext::cap_std::ambient_authority;
use cap_std_ext::cap_std::fs::{Dir, Permissions, PermissionsExt as _};
use cap_std_ext::cap_tempfile::TempFile;
use futures_util::TryStreamExt;
use rustix::fs::{Mode, OFlags};

use super::{Check, Content, chunks};
use crate::image::Digest;
use crate::transport::Error;

/// Mode of the files of an image: it is no secret.
const MODE: u32 = 0o644;

/// A failure to write `place`.
pub(super) fn write_error(place: &str, source: std::io::Error) -> Error {
    Error::Write {
        place: place.to_owned(),
        source,
    }
}

/// Makes the directory at `path` and those above it where they are missing, and opens it.
pub(super) fn ensure_dir(path: &Path) -> Result<Dir, Error> {
    let made = std::fs::create_dir_all(path);
    made.and_then(|()| Dir::open_ambient_dir(path, ambient_authority()))
        .map_err(|error| write_error(&path.to_string_lossy(), error))
}

/// Writes small content under its name, in one step.
pub(super) fn put_small(dir: &Dir, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut temp = TempFile::new(dir)?;
    temp.as_file_mut().write_all(content)?;
    temp.as_file().sync_data()?;
    publish(temp, name)
}

/// Writes a blob under its name once it is whole, checked and on the disk.
pub(super) async fn put_blob(
    dir: &Dir,
    name: &str,
    (digest, size): (&Digest, u64),
    content: &dyn Content,
    place: &str,
) -> Result<(), Error> {
    let failed = |error| write_error(&format!("{place}/{name}"), error);
    let temp = TempFile::new(dir).map_err(failed)?;
    let file = temp.as_file().try_clone().map_err(failed)?.into_std();
    let file = copy(file, (digest, size), content, place).await?;
    blocking(move || {
        file.sync_data()
            .map_err(|error| write_error("the image", error))
    })
    .await?;
    publish(temp, name).map_err(failed)
}

fn publish(temp: TempFile<'_>, name: &str) -> std::io::Result<()> {
    let mode = Permissions::from_mode(MODE);
    temp.as_file().set_permissions(mode)?;
    temp.replace(name)
}

/// Appends a blob to `file`, checks it, and gives the file back. After a failure anything may stand at the end.
pub(super) async fn copy(
    mut file: File,
    (digest, size): (&Digest, u64),
    content: &dyn Content,
    place: &str,
) -> Result<File, Error> {
    let what = format!("blob {digest} for {place}");
    let mut check = Check::new(digest, size, what.clone());
    let mut stream = chunks(content.open().await?, what);
    while let Some(chunk) = stream.try_next().await? {
        let place = place.to_owned();
        let step = move || {
            check.update(&chunk)?;
            let written = file.write_all(&chunk);
            written.map_err(|error| write_error(&place, error))?;
            Ok((file, check))
        };
        (file, check) = blocking(step).await?;
    }
    check.finish()?;
    Ok(file)
}

/// Runs `work` where waiting for a disk holds nothing else up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(died) => Err(write_error("the image", std::io::Error::other(died))),
    }
}

/// Brings the names in `dir` to the disk.
pub(super) fn sync_names(dir: &Dir) -> std::io::Result<()> {
    Ok(rustix::fs::fsync(readable(dir)?)?)
}

/// A handle that can be synced and locked; that of [`Dir`] only leads to names.
pub(super) fn readable(dir: &Dir) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, Mode::empty())?)
}
