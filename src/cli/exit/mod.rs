//! From an error to what the user sees and the exit code. Errors come in, sorted by type all
//! along their chain; lines on stderr and a code go out. Never looks at the text of a message.
//!
//! ```text
//! error: Pulling quay.io/example/os:stable
//!   caused by: access to quay.io/example/os is denied (401, no credentials)
//! hint: log in with `podman login quay.io`, or give a file with --authfile
//! ```

mod classify;
mod host;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Error;
use thiserror::Error;

use super::text;
pub use classify::classify;

/// How a command ended when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked for.
    Done,
    /// An update that was staged was not applied.
    NotApplied,
    /// There was nothing to do, and the user asked to be told by the exit code.
    Unchanged,
    /// Settings and conditions did not let it do anything now.
    Skipped,
    /// Checks found something wrong.
    Found,
}

impl Outcome {
    /// The process's exit code.
    pub fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::NotApplied => ExitCode::from(10),
            Self::Unchanged => ExitCode::from(77),
            Self::Found => ExitCode::from(9),
            Self::Skipped => ExitCode::from(75),
        }
    }
}

/// A signal ended the work before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Interrupted {
    /// SIGINT, as from Ctrl-C.
    #[error("interrupted")]
    Int,
    /// SIGTERM, as from systemd or kill(1).
    #[error("terminated")]
    Term,
}

impl Interrupted {
    /// 128 and the signal's number, as shells do.
    pub const fn code(self) -> u8 {
        match self {
            Self::Int => 130,
            Self::Term => 143,
        }
    }
}

/// The user asked for something that cannot be; the message says what would be right.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
}

impl UsageError {
    /// A usage error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do instead.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What kind of failure an error is, by the exit code it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody foresaw it.
    Unexpected,
    /// Wrong usage, reference or configuration.
    Usage,
    /// The registry, the network, or an image that is not what it promises.
    Network,
    /// The signature policy refuses.
    Denied,
    /// Somebody else holds a lock.
    Busy,
    /// The disk is full, or a place for signatures.
    Space,
    /// This host or image cannot do that.
    Unsupported,
    /// This host's own files and the image do not fit together.
    Conflict,
    /// A signal.
    Interrupted(Interrupted),
    /// Nobody reads stdout.
    OutputClosed,
}

impl Kind {
    /// The exit code (0 to 255); one for each kind, stable.
    pub const fn code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Network => 3,
            Self::Denied => 4,
            Self::Busy => 5,
            Self::Space => 6,
            Self::Unsupported => 7,
            Self::Conflict => 8,
            Self::Interrupted(signal) => signal.code(),
        }
    }
}

/// Kind and hint of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What kind of failure it is.
    pub kind: Kind,
    /// What the user can do, where we know.
    pub hint: Option<String>,
    /// Whether that is the same command again, so that it matters what is left of the first time.
    pub again: bool,
}

impl Verdict {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            hint: None,
            again: false,
        }
    }

    fn hint(kind: Kind, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::new(kind)
        }
    }

    fn again(kind: Kind, hint: &str) -> Self {
        Self {
            again: true,
            ..Self::hint(kind, hint)
        }
    }
}

/// The lines that tell the user about an error; empty where there is nobody to tell. `kept` says whether
/// the command keeps layers that are finished.
pub fn render(error: &Error, verdict: &Verdict, kept: bool) -> String {
    if verdict.kind == Kind::OutputClosed {
        return String::new();
    }
    let mut lines = String::new();
    let mut seen: Vec<String> = Vec::new();
    for cause in error.chain().map(|cause| text::clean(&cause.to_string())) {
        // Many errors repeat the words of their source; nobody wants to read them twice.
        if seen.iter().any(|above| above.contains(&cause)) {
            continue;
        }
        let lead = if seen.is_empty() {
            "error"
        } else {
            "  caused by"
        };
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{lead}: {cause}");
        seen.push(cause);
    }
    if let Some(hint) = &verdict.hint {
        let kept = match verdict.again && kept {
            true => "; finished layers are kept",
            false => "",
        };
        let _ = writeln!(lines, "hint: {hint}{kept}");
    }
    lines
}

/// Tells the user on stderr and gives the exit code. `kept` says whether the command keeps layers that
/// are finished.
pub fn report(error: &Error, kept: bool) -> ExitCode {
    let verdict = classify(error);
    // If stderr is closed too, the exit code is all that is left.
    let _ = io::stderr().write_all(render(error, &verdict, kept).as_bytes());
    ExitCode::from(verdict.kind.code())
}

/// Prints what clap says: help and version to stdout (exit code 0), errors to stderr (2).
pub fn report_usage(usage: &clap::Error) -> ExitCode {
    // A reader of `--help` that went away changes nothing about the code.
    let _ = usage.print();
    ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests;
