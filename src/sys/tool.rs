//! Programs of the system that do what no library does: partition tables, file systems, boot
//! images. A program, its arguments and its input come in; what it printed goes out. Never goes
//! through a shell.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use thiserror::Error;

/// Where such programs are, beside what PATH names: plain users, and an empty environment, lack
/// them there.
const PLACES: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// A program that this system does not have.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("this needs the program {program}, which is not installed here")]
pub struct ToolMissing {
    /// Its name.
    pub program: String,
}

/// One call of a program.
#[derive(Debug)]
pub struct Tool {
    program: OsString,
    args: Vec<OsString>,
    input: Vec<u8>,
}

impl Tool {
    /// A call without arguments. A name without a slash is looked for in PATH and the usual places.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// What the program reads from its standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs the program to its end; its output stays unseen unless it fails.
    pub fn run(self) -> Result<()> {
        self.output().map(drop)
    }

    /// Runs the program to its end and gives what it printed to standard output.
    ///
    /// Fails with [`ToolMissing`] where there is no such program.
    pub fn output(self) -> Result<Vec<u8>> {
        let line = self.line();
        let mut command = command(&self.program);
        command.args(&self.args).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        tracing::debug!("running {line}");
        let mut child = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let program = self.program.to_string_lossy().into_owned();
                return Err(ToolMissing { program }.into());
            }
            other => other.with_context(|| format!("Running {line}"))?,
        };
        let stdin = child.stdin.take();
        let input = self.input;
        // A thread, as the program may print before it has read everything.
        let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let output = child.wait_with_output();
        let output = output.with_context(|| format!("Running {line}"))?;
        // A program that does not read its input says by its exit code whether that matters.
        drop(writer.join());
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let printed = String::from_utf8_lossy(&output.stdout);
            let said = [said.trim(), printed.trim()].join("\n");
            bail!("{line} ended with {}: {}", output.status, said.trim());
        }
        Ok(output.stdout)
    }

    fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// A program of the system, to be started by hand.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path()).env("LC_ALL", "C");
    command
}

/// Whether a program would be found.
pub fn is_installed(program: &str) -> bool {
    let path = search_path();
    env::split_paths(&path).any(|dir| is_file(&dir.join(program)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(PLACES);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_and_output_are_those_of_the_program() {
        let long = vec![b'x'; 1 << 20];
        let echoed = Tool::new("cat").input(long.clone()).output().unwrap();
        assert!(echoed == long);
        let ignored = Tool::new("true").input(long).output().unwrap();
        assert_eq!(ignored, b"");
        let words = Tool::new("printf").arg("%s,").args(["a b", "c"]);
        assert_eq!(words.output().unwrap(), b"a b,c,");
    }

    #[test]
    fn failure_says_what_the_program_said() {
        let tool = Tool::new("sh").args(["-c", "echo out; echo no >&2; exit 3"]);
        let error = tool.run().unwrap_err().to_string();
        assert!(
            error.ends_with("ended with exit status: 3: no\nout"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_program_has_an_error_of_its_own() {
        let error = Tool::new("bowline-no-such-program").run().unwrap_err();
        let program = "bowline-no-such-program".to_owned();
        assert_eq!(error.downcast_ref(), Some(&ToolMissing { program }));
        assert!(!is_installed("bowline-no-such-program"));
        assert!(is_installed("sh"));
    }
}
