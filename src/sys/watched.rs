//! Runs a program that nobody trusts to end: with a deadline, in a process group of its own, and
//! with its output bounded. A program, its environment and its time come in; how it ended and the
//! last of what it said go out. Starts no thread, and never goes through a shell.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Bytes of output that are kept, the last ones.
const KEPT: usize = 8 << 10;
/// Time between SIGTERM and SIGKILL once the deadline has passed.
const GRACE: Duration = Duration::from_secs(2);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed, with its process group, after this time.
    TimedOut(Duration),
    /// It could not be started, for this reason.
    NotStarted(String),
}

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// The end of its standard output and error, as they came.
    pub output: String,
}

impl Run {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.ending == Ending::Exit(0)
    }
}

/// Runs `program` with nothing to read and its output caught, for `time` at most.
///
/// Processes that it leaves behind go on, unless the time ran out: then all of its process group
/// are killed.
pub fn run(program: &Path, args: &[&str], env: &[(&str, &str)], time: Duration) -> Run {
    let ended = start(program, args, env).and_then(|(child, output)| watch(child, output, time));
    ended.unwrap_or_else(|error| Run {
        ending: Ending::NotStarted(error.to_string()),
        output: String::new(),
    })
}

fn start(program: &Path, args: &[&str], env: &[(&str, &str)]) -> io::Result<(Child, File)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().copied());
    command.stdin(Stdio::null()).process_group(0);
    command.stdout(writer.try_clone()?).stderr(writer);
    Ok((command.spawn()?, reader.into()))
}

fn watch(mut child: Child, mut output: File, time: Duration) -> io::Result<Run> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut tail = VecDeque::new();
    let mut late = None;
    let mut deadline = Instant::now() + time;
    let mut talks = true;
    let status = loop {
        drain(&mut output, &mut tail, &mut talks)?;
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            // A group that is gone already is what was asked for.
            let signal = if late.is_none() {
                Signal::TERM
            } else {
                Signal::KILL
            };
            let _ = kill_process_group(pid, signal);
            late = Some(time);
            deadline = Instant::now() + GRACE;
        }
        let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
        fds.extend(talks.then(|| PollFd::new(&output, PollFlags::IN)));
        wait(&mut fds, deadline)?;
    };
    if late.is_some() {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    drain(&mut output, &mut tail, &mut talks)?;
    let bytes: Vec<u8> = tail.into();
    Ok(Run {
        ending: late.map_or_else(|| ending(status), Ending::TimedOut),
        output: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

fn wait(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(fds, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what there is; `talks` becomes false once nobody can write any more.
fn drain(output: &mut File, tail: &mut VecDeque<u8>, talks: &mut bool) -> io::Result<()> {
    let mut buffer = [0; 4096];
    // A program that never stops talking must not keep us from the clock.
    for _ in 0..64 {
        match output.read(&mut buffer) {
            Ok(0) => {
                *talks = false;
                return Ok(());
            }
            Ok(count) => {
                tail.extend(&buffer[..count]);
                tail.drain(..tail.len().saturating_sub(KEPT));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn ending(status: ExitStatus) -> Ending {
    match status.code() {
        Some(code) => Ending::Exit(code),
        None => Ending::Signal(status.signal().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, time: Duration) -> Run {
        run(
            Path::new("/bin/sh"),
            &["-c", script],
            &[("WORD", "hello")],
            time,
        )
    }

    #[test]
    fn endings_are_told_apart() {
        let minute = Duration::from_secs(60);
        let good = sh("echo $WORD; echo again >&2", minute);
        assert!(good.success());
        assert_eq!(good.output, "hello\nagain\n");
        assert_eq!(sh("exit 3", minute).ending, Ending::Exit(3));
        assert_eq!(sh("kill -9 $$", minute).ending, Ending::Signal(9));
        let missing = run(Path::new("/nonexistent"), &[], &[], minute);
        assert!(
            matches!(missing.ending, Ending::NotStarted(_)),
            "{missing:?}"
        );
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let time = Duration::from_millis(200);
        let dir = tempfile::tempdir().unwrap();
        let late = dir.path().join("late");
        let script = format!("(sleep 1; touch {}) & echo begun; wait", late.display());
        let run = sh(&script, time);
        assert_eq!(run.ending, Ending::TimedOut(time));
        assert_eq!(run.output, "begun\n");
        // A deaf one as well.
        let deaf = sh("trap '' TERM; while :; do sleep 1; done", time);
        assert_eq!(deaf.ending, Ending::TimedOut(time));
        assert!(!late.exists());
    }

    #[test]
    fn output_is_bounded_and_a_daemon_holds_nobody_up() {
        let minute = Duration::from_secs(60);
        let loud = sh(
            "i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done; echo end",
            minute,
        );
        assert!(loud.success());
        assert_eq!(loud.output.len(), KEPT);
        assert!(loud.output.ends_with("\nend\n"));
        let begun = Instant::now();
        let daemon = sh("sleep 20 & echo started", minute);
        assert!(daemon.success());
        assert_eq!(daemon.output, "started\n");
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}
