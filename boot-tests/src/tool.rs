//! Runs the host's programs: a name and arguments in, what they printed out. An error holds the
//! command and all it said. Never uses a shell.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end and returns its standard output.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command)
}

/// Runs a prepared command to its end and returns its standard output.
pub fn finish(command: Command) -> Result<String> {
    finish_with(command, Stdio::null())
}

/// The same; the program reads the file as its input.
pub fn finish_with(mut command: Command, input: impl Into<Stdio>) -> Result<String> {
    let output = command.stdin(input).output();
    let output = output.with_context(|| format!("Starting {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{stdout}{stderr}", output.status);
    }
    Ok(stdout)
}

/// A command that the kernel kills when the thread that started it ends, however it ends.
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
