//! Taking over the file descriptor that `--progress-fd` names. A number comes in, a file to
//! write to goes out, or a usage error that says what is wrong with it. Never uses a descriptor
//! that this process opened itself: it is claimed before anything else is opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt as _;

use super::UsageError;

const HINT: &str = "open it for the program, such as with `--progress-fd 3 3>progress.jsonl`";

/// Opens what descriptor `fd` stands for once more, for writing.
///
/// Going through `/proc` needs no ownership of a bare number and leaves the caller's descriptor
/// as it is.
pub fn claim(fd: i32) -> Result<File, UsageError> {
    let refuse = |what: &str| UsageError::new(format!("--progress-fd {fd} {what}")).hint(HINT);
    let info = match fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) {
        Ok(info) => info,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse("is not open"));
        }
        Err(error) => return Err(refuse(&format!("cannot be inspected: {error}"))),
    };
    if !is_writable(&info) {
        return Err(refuse("is not open for writing"));
    }
    let path = format!("/proc/self/fd/{fd}");
    let kind = fs::metadata(&path).map(|meta| meta.file_type());
    let kind = kind.map_err(|error| refuse(&format!("cannot be inspected: {error}")))?;
    if kind.is_socket() {
        return Err(refuse("is a socket; it must be a pipe or a file"));
    }
    // A file opened anew starts at its beginning; appending leaves what is there alone.
    OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(|error| refuse(&format!("cannot be written to: {error}")))
}

/// Reads the access mode off the `flags:` line of proc_pid_fdinfo(5), an octal number.
fn is_writable(info: &str) -> bool {
    const O_ACCMODE: u32 = 0o3;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| matches!(flags & O_ACCMODE, 1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_pipe_is_taken_over_from_its_writing_end_only() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut claimed = claim(writer.as_raw_fd()).unwrap();
        claimed.write_all(b"x").unwrap();
        let mut byte = [0];
        File::from(reader.try_clone().unwrap())
            .read_exact(&mut byte)
            .unwrap();
        assert_eq!(&byte, b"x");
        let fd = reader.as_raw_fd();
        let error = claim(fd).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--progress-fd {fd} is not open for writing")
        );
    }

    #[test]
    fn a_file_is_appended_to() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before ").unwrap();
        claim(file.as_file().as_raw_fd())
            .unwrap()
            .write_all(b"after")
            .unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"before after");
    }

    #[test]
    fn what_cannot_be_written_to_is_refused() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = socket.as_raw_fd();
        assert_eq!(
            claim(fd).unwrap_err().to_string(),
            format!("--progress-fd {fd} is a socket; it must be a pipe or a file")
        );
        assert_eq!(
            claim(i32::MAX).unwrap_err().to_string(),
            "--progress-fd 2147483647 is not open"
        );
    }
}
