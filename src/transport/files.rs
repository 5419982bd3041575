//! Files of a local image: names inside a directory come in, bounded or streaming readers go out.
//! Never leaves the directory, whatever its links say, and never waits for a pipe or a device.

use std::fmt;
use std::io::{self, Read};

use cap_std_ext::cap_std::ambient_authority;
use cap_std_ext::cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use super::{Blob, Error};
use crate::image::{Descriptor, Digest, MAX_MANIFEST_BYTES};

/// A file that is open for reading.
pub(super) struct OpenFile {
    /// The content; [`OpenFile::size`] bytes, as long as nobody writes to the file.
    pub(super) reader: Box<dyn Read + Send>,
    /// Size in bytes.
    pub(super) size: u64,
}

/// The files of a local image: a directory, or the members of an archive.
pub(super) trait Files: Send + Sync + fmt::Debug {
    /// Opens the regular file `name`, a relative path.
    fn open(&self, name: &str) -> Result<OpenFile, Error>;

    /// The path as the user wrote it, for messages.
    fn place(&self) -> &str;

    /// Reads `name` whole, or fails where it is larger than a manifest may be.
    fn read_small(&self, name: &str) -> Result<Vec<u8>, Error> {
        let place = format!("{}/{name}", self.place());
        read_bounded(self.open(name)?.reader, &place)
    }

    /// Reads the manifest or config `name` whole and checks its digest and, where it is known, size.
    fn read_verified(
        &self,
        name: &str,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Vec<u8>, Error> {
        let bytes = self.read_small(name)?;
        verify(&bytes, digest, size, &format!("{}/{name}", self.place()))?;
        Ok(bytes)
    }

    /// Opens the blob in file `name` and says at once if it is cut or padded.
    fn open_blob(&self, name: &str, blob: &Descriptor) -> Result<Blob, Error> {
        let file = self.open(name)?;
        match blob.size {
            Some(size) if size != file.size => Err(Error::Mismatch {
                place: format!("{}/{name}", self.place()),
                expected: format!("{size} bytes"),
                found: format!("{} bytes", file.size),
            }),
            _ => Ok(Blob::Reader(file.reader)),
        }
    }
}

/// Reads `reader` to its end, or fails where there are more bytes than a manifest may have.
pub(super) fn read_bounded(reader: impl Read, place: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_MANIFEST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| io_error(place, source))?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(too_large(place));
    }
    Ok(bytes)
}

/// The error for metadata that is larger than it may be.
pub(super) fn too_large(place: &str) -> Error {
    Error::Refused {
        place: place.into(),
        detail: format!("it is larger than {MAX_MANIFEST_BYTES} bytes, the limit for metadata"),
    }
}

/// Checks `bytes` against a promised digest and size.
pub(super) fn verify(
    bytes: &[u8],
    digest: &Digest,
    size: Option<u64>,
    place: &str,
) -> Result<(), Error> {
    let found = match size {
        Some(size) if size != bytes.len() as u64 => {
            Some((format!("{size} bytes"), format!("{} bytes", bytes.len())))
        }
        _ => None,
    };
    let found = found.or_else(|| {
        let found = Digest::of(bytes);
        (found != *digest).then(|| (digest.to_string(), found.to_string()))
    });
    match found {
        None => Ok(()),
        Some((expected, found)) => Err(Error::Mismatch {
            place: place.into(),
            expected,
            found,
        }),
    }
}

/// Sorts an error of the system: a missing file is an answer, everything else is a failure.
pub(super) fn io_error(place: &str, source: io::Error) -> Error {
    let place = place.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { place },
        // The kernel's own refusals carry a number.
        io::ErrorKind::PermissionDenied if source.raw_os_error().is_none() => Error::Refused {
            place,
            detail: "it leads out of the image's directory".into(),
        },
        _ => Error::Io { place, source },
    }
}

/// A directory whose files are opened relative to it, by the kernel's "beneath" rule.
#[derive(Debug)]
pub(super) struct Directory {
    dir: Dir,
    place: String,
}

impl Directory {
    /// Opens the directory at `path`, which comes from the user and may be anywhere.
    pub(super) fn open(path: &str) -> Result<Self, Error> {
        let dir = Dir::open_ambient_dir(path, ambient_authority());
        Ok(Self {
            dir: dir.map_err(|source| io_error(path, source))?,
            place: path.into(),
        })
    }
}

impl Files for Directory {
    fn open(&self, name: &str) -> Result<OpenFile, Error> {
        let place = || format!("{}/{name}", self.place);
        let mut options = OpenOptions::new();
        // Opening a pipe would wait for its writer.
        options
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        let file = self.dir.open_with(name, &options);
        let file = file.map_err(|source| io_error(&place(), source))?;
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| io_error(&place(), source))?;
        if !metadata.is_file() {
            return Err(Error::Refused {
                place: place(),
                detail: "it is not a regular file".into(),
            });
        }
        Ok(OpenFile {
            reader: Box::new(file.into_std()),
            size: metadata.len(),
        })
    }

    fn place(&self) -> &str {
        &self.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn stays_in_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("layout");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(temp.path().join("secret"), "x").unwrap();
        std::fs::write(root.join("inside"), "in").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(temp.path().join("secret"), root.join("absolute")).unwrap();
        symlink("inside", root.join("link")).unwrap();
        let path = rustix::path::Arg::to_string_lossy(&root).into_owned();
        let files = Directory::open(&path).unwrap();
        for name in [
            "../secret",
            "up",
            "absolute",
            "/etc/passwd",
            "a/../../secret",
        ] {
            assert!(files.read_small(name).is_err(), "{name}");
        }
        assert_eq!(files.read_small("link").unwrap(), b"in");
        let missing = files.read_small("none").unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }));
    }

    #[test]
    fn refuses_what_is_no_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = rustix::fs::CWD;
        let pipe = temp.path().join("pipe");
        rustix::fs::mknodat(dir, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::fs::create_dir(temp.path().join("sub")).unwrap();
        let files = Directory::open(temp.path().to_str().unwrap()).unwrap();
        for name in ["pipe", "sub"] {
            let error = files.read_small(name).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
        }
    }

    #[test]
    fn metadata_has_a_limit() {
        let at_limit = io::repeat(b' ').take(MAX_MANIFEST_BYTES);
        assert!(read_bounded(at_limit, "x").is_ok());
        let above = read_bounded(io::repeat(b' '), "x").unwrap_err();
        assert!(matches!(above, Error::Refused { .. }));
    }
}
