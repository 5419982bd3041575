//! What `container lint` prints for people: a report or the list of checks comes in, text goes out.

use std::fmt::Write as _;

use serde::Serialize;

use crate::lint::{CHECKS, Level, Report, Verdict};

/// A check as the list tells it.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    name: &'static str,
    level: Level,
    asks: &'static str,
}

/// All checks.
pub(super) fn checks() -> Vec<Listed> {
    let listed = CHECKS.iter().map(|check| Listed {
        name: check.name,
        level: check.level,
        asks: check.asks,
    });
    listed.collect()
}

/// One line for each check.
pub(super) fn list(checks: &[Listed]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let lines = checks.iter().map(|check| {
        let (name, level) = (check.name, word(check.level));
        format!("{name:width$}  {level:7}  {}\n", check.asks)
    });
    lines.collect()
}

/// What was found, and a line that sums it up.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    for check in report.checks.iter().filter(|c| c.result == Verdict::Failed) {
        for finding in &check.findings {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} ({}): {finding}", word(check.level), check.name);
        }
    }
    let count = |result| report.checks.iter().filter(|c| c.result == result).count();
    let _ = write!(text, "Checks passed: {}", count(Verdict::Passed));
    for (words, number) in [
        ("warnings", report.failed(Level::Warning)),
        ("failed", report.failed(Level::Fatal)),
        ("skipped", count(Verdict::Skipped)),
    ] {
        if number > 0 {
            let _ = write!(text, ", {words}: {number}");
        }
    }
    text.push('\n');
    text
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Fatal => "error",
        Level::Warning => "warning",
    }
}
