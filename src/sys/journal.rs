//! Entries of the systemd journal with fields that programs can look for. A message id and fields
//! come in. Where there is no journal, the log on stderr has to do; nothing here ever fails, or
//! waits for long.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libsystemd::logging::{self, Priority as Level};

/// How long a journal that does not answer is waited for. One that hangs, perhaps because of the very
/// update that is judged, must not keep the judge.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much an entry matters, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error,
    /// Something may fail.
    Warning,
    /// Worth knowing.
    Notice,
    /// Everyday news.
    Info,
}

impl From<Priority> for Level {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Error => Self::Error,
            Priority::Warning => Self::Warning,
            Priority::Notice => Self::Notice,
            Priority::Info => Self::Info,
        }
    }
}

/// Sends one entry. `id` is a MESSAGE_ID, 32 hex digits; names of fields are capital letters, digits
/// and `_`.
pub fn send(priority: Priority, id: &str, message: &str, fields: &[(&str, &str)]) {
    let own = [("MESSAGE_ID", id), ("SYSLOG_IDENTIFIER", "bowline")];
    let all = own.iter().chain(fields);
    let all = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (all, text): (Vec<_>, _) = (all.collect(), message.to_owned());
    let work = move || logging::journal_send(priority.into(), &text, all.into_iter());
    match within(PATIENCE, work) {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::info!("{message} (not in the journal: {error})"),
        None => tracing::warn!("{message} (not in the journal, which does not answer)"),
    }
}

/// What `work` gives, if it does so in time; else it goes on alone, until the program ends.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::channel();
    // Nobody may listen any more.
    let work = move || drop(done.send(work()));
    thread::Builder::new().spawn(work).ok()?;
    result.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_answer_is_left_behind() {
        assert_eq!(within(Duration::MAX, || 7), Some(7));
        let (keep, never) = mpsc::channel::<()>();
        assert_eq!(within(Duration::ZERO, move || never.recv()), None);
        drop(keep);
        let dies = within(Duration::MAX, || -> u8 { std::panic::panic_any(()) });
        assert_eq!(dies, None);
    }

    #[test]
    fn without_a_journal_nothing_happens() {
        // With one, entries of a test are in it. Values of any size and form are fine.
        let long = "x\n".repeat(1 << 20);
        for value in ["", "one line", "two\nlines", &long] {
            send(
                Priority::Info,
                "0".repeat(32).as_str(),
                "A test",
                &[("BOWLINE_TEST", value)],
            );
        }
    }
}
