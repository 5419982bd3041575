//! Files of a local destination: a stream of bytes comes in, a whole and durable file under its name
//! goes out. Until then it has no name, so that an interruption leaves nothing behind.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use cap_std_ext::cap_std::ambient_authority;
use cap_std_ext::cap_std::fs::{Dir, Permissions};
use cap_std_ext::cap_tempfile::TempFile;
use futures_util::TryStreamExt;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Check, Content, chunks};
use crate::image::Digest;
use crate::sys::fs as sysfs;
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
    if let Some(file) = content.nameless() {
        let (dir, file) = (dir.try_clone(), file.try_clone());
        let (dir, file, name) = (dir.map_err(failed)?, file.map_err(failed)?, name.to_owned());
        let named = blocking(move || Ok(adopt(&dir, &name, &file)));
        if named.await?.map_err(failed)? {
            return Ok(());
        }
    }
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

/// See [`super::Destination::nameless`].
pub(super) fn nameless(dir: &Dir) -> Option<File> {
    readable(dir).and_then(sysfs::unnamed).ok()
}

/// Gives a file its name, on the disk before. Says whether it could have one here: it must lie on the same file
/// system, never have had a name, and nothing else may have this one.
fn adopt(dir: &Dir, name: &str, file: &File) -> std::io::Result<bool> {
    let (meta, here) = (file.metadata()?, rustix::fs::fstat(dir)?);
    if meta.dev() != here.st_dev || meta.nlink() != 0 || dir.try_exists(name)? {
        return Ok(false);
    }
    file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    file.sync_data()?;
    match sysfs::give_name(file, dir, name) {
        Ok(()) => Ok(true),
        Err(Errno::XDEV | Errno::NOENT | Errno::EXIST | Errno::PERM | Errno::OPNOTSUPP) => {
            Ok(false)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn publish(temp: TempFile<'_>, name: &str) -> std::io::Result<()> {
    let mode = Permissions::from_std(std::fs::Permissions::from_mode(MODE));
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// A blob whose bytes were hashed before.
    struct Made(File);

    #[async_trait::async_trait]
    impl Content for Made {
        async fn open(&self) -> Result<crate::transport::Blob, Error> {
            let mut bytes = vec![0; self.0.metadata().unwrap().len() as usize];
            self.0.read_exact_at(&mut bytes, 0).unwrap();
            let read = std::io::Cursor::new(bytes);
            Ok(crate::transport::Blob::Reader(Box::new(read)))
        }

        fn nameless(&self) -> Option<&File> {
            Some(&self.0)
        }
    }

    /// Writes `text` to a file and that to `dir` as a blob; tells whether the file itself has become the blob.
    async fn put(dir: &Dir, mut file: File, text: &[u8]) -> bool {
        file.write_all(text).unwrap();
        let (digest, made) = (Digest::of(text), Made(file));
        let what = (&digest, text.len() as u64);
        let name = digest.hex();
        put_blob(dir, &name, what, &made, "x").await.unwrap();
        let mut found = dir.open(&name).unwrap().into_std();
        let mut read = Vec::new();
        found.read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        let (own, found) = (made.0.metadata().unwrap(), found.metadata().unwrap());
        assert_eq!((found.mode() & 0o7777, found.nlink()), (MODE, 1));
        assert_eq!(dir.entries().unwrap().count(), 1);
        (own.dev(), own.ino()) == (found.dev(), found.ino())
    }

    #[tokio::test]
    async fn a_file_becomes_the_blob_where_it_can_and_is_copied_where_not() {
        let temp = tempfile::tempdir().unwrap();
        let new = |name: &str| ensure_dir(&temp.path().join(name)).unwrap();
        let dir = new("a");
        assert!(put(&dir, nameless(&dir).unwrap(), b"hello").await);
        // The name is taken, though by other bytes.
        let dir = new("b");
        dir.write(Digest::of(b"hello").hex(), "other").unwrap();
        assert!(!put(&dir, nameless(&dir).unwrap(), b"hello").await);
        // Not without a name.
        let dir = new("c");
        let named = temp.path().join("named");
        let options = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .clone();
        assert!(!put(&dir, options.open(&named).unwrap(), b"hello").await);
        // Had a name once.
        let dir = new("d");
        let was_named = options.open(temp.path().join("gone")).unwrap();
        std::fs::remove_file(temp.path().join("gone")).unwrap();
        assert!(!put(&dir, was_named, b"hello").await);
    }
}
