//! Entries of the systemd journal with fields that programs can look for, in the journal's native
//! protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). A message id and fields come in. Where
//! there is no journal, the log on stderr has to do; nothing here ever fails or waits.

use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of a value that are sent at most, so that an entry fits one datagram.
const MAX_VALUE: usize = 16 << 10;

/// How much an entry matters; the numbers are those of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error = 3,
    /// Something may fail.
    Warning = 4,
    /// Worth knowing.
    Notice = 5,
    /// Everyday news.
    Info = 6,
}

/// Sends one entry. `id` is a MESSAGE_ID, 32 hex digits; names of fields are capital letters, digits
/// and `_`.
pub fn send(priority: Priority, id: &str, message: &str, fields: &[(&str, &str)]) {
    let level = (priority as u8).to_string();
    let own = [
        ("MESSAGE", message),
        ("MESSAGE_ID", id),
        ("PRIORITY", &level),
        ("SYSLOG_IDENTIFIER", "bowline"),
    ];
    let mut entry = Vec::new();
    for (name, value) in own.iter().chain(fields) {
        field(&mut entry, name, value);
    }
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(&entry, SOCKET)
    });
    match sent {
        Ok(_) => {}
        Err(error) => tracing::info!("{message} (not in the journal: {error})"),
    }
}

/// A value of one line as text, any other one with its length in front.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    let end = value.len().min(MAX_VALUE);
    let value = &value.as_bytes()[..end];
    entry.extend(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_and_the_rest_has_a_length() {
        let mut entry = Vec::new();
        field(&mut entry, "A", "one line");
        field(&mut entry, "B", "two\nlines");
        let expected = b"A=one line\nB\n\x09\0\0\0\0\0\0\0two\nlines\n";
        assert_eq!(entry, expected);
        entry.clear();
        field(&mut entry, "C", &"x".repeat(MAX_VALUE + 1));
        assert_eq!(entry.len(), MAX_VALUE + 3);
    }
}
