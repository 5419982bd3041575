//! Runs the bowline program and kills it at the N-th system call of a kind, through strace.

use std::process::{Command, Output};

/// Whether strace can trace here; says why not.
pub fn can_trace() -> bool {
    let probe = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output();
    match probe {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            eprintln!("skipped: strace cannot trace here: {why}");
            false
        }
        Err(error) => {
            eprintln!("skipped: the program strace is needed: {error}");
            false
        }
    }
}

/// Runs bowline to its end.
pub fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bowline"))
        .args(args)
        .output()
        .unwrap()
}

/// Runs bowline to its end; it must succeed.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bowline {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs bowline and kills it when one of its threads makes its `when`-th call of `syscall`. True
/// when it died of that; false when it never got so far and ended well.
pub fn killed_at(syscall: &str, when: usize, args: &[&str]) -> bool {
    let inject = format!("inject={syscall}:signal=KILL:when={when}");
    let trace = format!("trace={syscall}");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(env!("CARGO_BIN_EXE_bowline"))
        .args(args)
        .output()
        .unwrap();
    let code = std::os::unix::process::ExitStatusExt::signal(&output.status);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        code == Some(9) || output.status.success(),
        "{syscall} {when}: {error}"
    );
    code == Some(9)
}

/// Kills a command at many calls of each kind in `syscalls`, for as long as `harmless(kind, when)`
/// says that it was killed; gives how often it was.
pub fn kill_everywhere(syscalls: &[&str], harmless: impl Fn(&str, usize) -> bool) -> usize {
    let killed = |syscall: &&str| points().take_while(|when| harmless(syscall, *when)).count();
    syscalls.iter().map(killed).sum()
}

/// At which calls to kill: the first few, then wider and wider apart.
fn points() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some((n + 1).max(n * 5 / 3)))
}
