//! The only place that starts other programs. A program and its arguments come in, success or
//! what it said goes out. Never goes through a shell.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_says_what_the_program_said() {
        assert!(run("true", &[]).is_ok());
        let error = run("sh", &["-c", "echo no >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit status: 3: no");
        let error = run("/nonexistent", &["x"]).unwrap_err();
        assert_eq!(error.to_string(), "Running /nonexistent x");
    }
}
