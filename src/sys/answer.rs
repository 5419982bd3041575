//! Asks a program one short question: a program and a line for its standard input come in, what it
//! printed and how it ended go out, within a time and a length. Never goes through a shell, and
//! leaves no process behind that took too long.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use thiserror::Error;

/// The longest question in bytes: one that fits into any pipe.
const MAX_QUESTION: usize = 4096;

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it ended with code 0.
    pub success: bool,
    /// Its standard output.
    pub output: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// It could not be started, or not be listened to.
    #[error("{0}")]
    System(#[from] io::Error),
    /// It was killed.
    #[error("it took longer than {0:?}")]
    Late(Duration),
    /// It was killed.
    #[error("it printed more than {0} bytes")]
    Long(usize),
}

/// Runs `program` with `question` on its standard input, for `time` at most, and gives what it
/// printed, at most `limit` bytes. What it says to standard error is dropped.
pub fn ask(
    program: &Path,
    args: &[&str],
    question: &[u8],
    time: Duration,
    limit: usize,
) -> Result<Answer, NoAnswer> {
    if question.len() > MAX_QUESTION {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    }
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let answer = listen(&mut child, question, time, limit);
    if answer.is_err() {
        // It may just have ended by itself.
        if let Ok(pid) = group(&child) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = child.wait();
    }
    answer
}

fn group(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn listen(
    child: &mut Child,
    question: &[u8],
    time: Duration,
    limit: usize,
) -> Result<Answer, NoAnswer> {
    let deadline = Instant::now() + time;
    let process = pidfd_open(group(child)?, PidfdFlags::empty()).map_err(io::Error::from)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its question says by its exit code whether that matters.
        let _ = stdin.write_all(question);
    }
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK).map_err(io::Error::from)?;
    let mut stdout = File::from(std::os::fd::OwnedFd::from(stdout));
    let mut output = Vec::new();
    let mut talks = true;
    loop {
        talks = talks && drain(&mut stdout, &mut output, limit)?;
        if let Some(status) = child.try_wait()? {
            if talks {
                drain(&mut stdout, &mut output, limit)?;
            }
            let success = status.success();
            return Ok(Answer { success, output });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoAnswer::Late(time));
        }
        let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
        fds.extend(talks.then(|| PollFd::new(&stdout, PollFlags::IN)));
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

/// Reads what there is; false once nobody can write any more.
fn drain(stdout: &mut File, output: &mut Vec<u8>, limit: usize) -> Result<bool, NoAnswer> {
    let mut buffer = [0; 4096];
    loop {
        match stdout.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => output.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if output.len() > limit {
            return Err(NoAnswer::Long(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, time: u64) -> Result<Answer, NoAnswer> {
        let time = Duration::from_millis(time);
        ask(
            Path::new("/bin/sh"),
            &["-c", script],
            b"question\n",
            time,
            1000,
        )
    }

    #[test]
    fn a_question_is_answered() {
        let answer = sh("read q; echo \"$q?\"; echo noise >&2", 60_000).unwrap();
        assert!(answer.success);
        assert_eq!(answer.output, b"question?\n");
        let no = sh("echo no; exit 1", 60_000).unwrap();
        assert_eq!((no.success, &*no.output), (false, &b"no\n"[..]));
        let deaf = sh("exec <&-; echo deaf", 60_000).unwrap();
        assert_eq!(deaf.output, b"deaf\n");
    }

    #[test]
    fn an_answer_has_a_time_and_a_length() {
        let late = sh("sleep 600 & wait", 50).unwrap_err();
        assert!(matches!(late, NoAnswer::Late(_)), "{late}");
        let long = sh("while :; do echo 0123456789; done", 60_000).unwrap_err();
        assert!(matches!(long, NoAnswer::Long(1000)), "{long}");
        let none = ask(Path::new("/nonexistent"), &[], b"", Duration::ZERO, 0);
        assert!(matches!(none, Err(NoAnswer::System(_))));
        let shout = vec![0; MAX_QUESTION + 1];
        let none = ask(Path::new("cat"), &[], &shout, Duration::ZERO, 0);
        assert!(matches!(none, Err(NoAnswer::System(_))));
    }
}
