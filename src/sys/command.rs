//! The only place that starts other programs. A program and its arguments come in, success or
//! what it said goes out. Never goes through a shell, but for what a person wrote for one.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Runs a program to its end; its output stays unseen unless it fails.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    let what = || format!("Running {program} {}", args.join(" "));
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(what)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}

/// What a program prints to standard output; nothing where it cannot be run, fails, or takes longer
/// than `patience`: then it is ended. Not for output above 64 KiB, which counts as taking too long.
pub fn ask(program: &str, args: &[&str], patience: Duration) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
            None => {
                // It may just have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut said = String::new();
    child.stdout.take()?.read_to_string(&mut said).ok()?;
    status.success().then_some(said)
}

/// Lets a person edit a file with `editor`, a command as a shell reads it, on the terminal that
/// this program has.
pub fn edit(editor: &str, path: &Path) -> Result<()> {
    let what = || format!("Running the editor {editor}");
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path);
    let status = shell.status().with_context(what)?;
    if !status.success() {
        bail!("the editor {editor} ended with {status}: nothing was changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_may_have_options() {
        let file = tempfile::NamedTempFile::new().unwrap();
        edit("printf '%s' new | tee", file.path()).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "new");
        let error = edit("false", file.path()).unwrap_err().to_string();
        assert!(error.ends_with("nothing was changed"), "{error}");
    }

    #[test]
    fn an_answer_is_not_waited_for_too_long() {
        let ask = |script, patience| ask("sh", &["-c", script], Duration::from_millis(patience));
        assert_eq!(ask("echo yes", 60_000).unwrap(), "yes\n");
        assert_eq!(ask("echo no; false", 60_000), None);
        assert_eq!(ask("exec sleep 600", 20), None);
        assert_eq!(super::ask("/nonexistent", &[], Duration::ZERO), None);
    }

    #[test]
    fn failure_says_what_the_program_said() {
        assert!(run("true", &[]).is_ok());
        let error = run("sh", &["-c", "echo no >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit status: 3: no");
        let error = run("/nonexistent", &["x"]).unwrap_err();
        assert_eq!(error.to_string(), "Running /nonexistent x");
    }
}
