//! Reads the small configuration files of a host: a path comes in, bytes go out. Never reads more
//! than a configuration can sensibly have.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Error;

/// The largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads a file whole; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(io_error(path, error)),
    };
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_CONFIG_BYTES + 1);
    let read = limited.read_to_end(&mut bytes);
    read.map_err(|error| io_error(path, error))?;
    match bytes.len() as u64 > MAX_CONFIG_BYTES {
        true => Err(Error::Config(format!(
            "{} cannot be used: it is larger than {MAX_CONFIG_BYTES} bytes",
            path.display()
        ))),
        false => Ok(Some(bytes)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A failure to read `path`.
pub(super) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        place: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(read(&path.join("below")).unwrap(), None);
        let mut bytes = vec![b' '; usize::try_from(MAX_CONFIG_BYTES).unwrap()];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap().as_ref(), Some(&bytes));
        assert_eq!(read(&path.join("below")).unwrap(), None);
        bytes.push(b' ');
        std::fs::write(&path, &bytes).unwrap();
        let text = read(&path).unwrap_err().to_string();
        let limit = "f cannot be used: it is larger than 1048576 bytes";
        assert!(text.ends_with(limit), "{text}");
        assert!(matches!(read(dir.path()), Err(Error::Io { .. })));
    }
}
