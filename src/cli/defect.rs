//! What a user sees of a defect of the program itself: a panic of any thread comes in, the three parts
//! of a message and exit code 1 go out. Never lets the rest of the program go on with what a
//! panic has left half done: for the host it is as if the power had gone, which everything here is made for.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{self, PanicHookInfo};
use std::process;

use super::exit::Kind;
use super::text;

/// From here on, a panic ends the program.
pub fn end_at_panics() {
    panic::set_hook(Box::new(|panic| {
        let mut lines = render(&at(panic), said(panic));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            lines.push_str(&trace.to_string());
        }
        if io::stderr().is_terminal() {
            // Below bars that nobody clears any more.
            lines.insert(0, '\n');
        }
        // If stderr is closed, the exit code is all that is left.
        let _ = io::stderr().write_all(lines.as_bytes());
        process::exit(Kind::Unexpected.code().into());
    }));
}

fn at(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map_or_else(String::new, |place| {
        format!(" at {}:{}", place.file(), place.line())
    })
}

fn said<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic that says nothing")
}

fn render(at: &str, what: &str) -> String {
    format!(
        "error: this command met a defect of bowline itself{at}\n  caused by: {}\n\
         hint: what was done so far is kept or undone as after a power cut; run the command again. If it ends like this \
         again, report these lines with the command, and with what RUST_BACKTRACE=1 adds to them\n",
        text::clean(what)
    )
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// Set in the child, which is this test once more.
    const CHILD: &str = "BOWLINE_TEST_OF_A_PANIC";

    #[test]
    #[allow(clippy::panic, reason = "what is tested")]
    fn a_panic_of_any_thread_ends_the_program_with_three_parts() {
        if env::var_os(CHILD).is_some() {
            end_at_panics();
            let dies = thread::spawn(|| panic!("no\x1b[2J {}", "such thing"));
            drop(dies.join());
            process::exit(0);
        }
        let name = "cli::defect::tests::a_panic_of_any_thread_ends_the_program_with_three_parts";
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", name]).env(CHILD, "1");
        let ended = child.env_remove("RUST_BACKTRACE").output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let lines = String::from_utf8(ended.stderr).unwrap();
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        let place = "error: this command met a defect of bowline itself at src/cli/defect.rs:";
        assert!(lines[0].starts_with(place), "{lines:?}");
        assert_eq!(lines[1], "  caused by: no [2J such thing");
        assert!(
            lines[2].starts_with("hint: what was done so far"),
            "{lines:?}"
        );

        child.env("RUST_BACKTRACE", "1");
        let traced = String::from_utf8(child.output().unwrap().stderr).unwrap();
        assert!(traced.contains("defect::"), "{traced}");
    }
}
