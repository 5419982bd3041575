//! The only place that starts other programs. A program and its arguments come in, success or
//! what it said goes out. Never goes through a shell, but for what a person wrote for one.

use std::path::Path;
use std::process::Command;

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
    fn failure_says_what_the_program_said() {
        assert!(run("true", &[]).is_ok());
        let error = run("sh", &["-c", "echo no >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit status: 3: no");
        let error = run("/nonexistent", &["x"]).unwrap_err();
        assert_eq!(error.to_string(), "Running /nonexistent x");
    }
}
