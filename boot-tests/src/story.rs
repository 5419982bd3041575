//! What a scenario tells while it runs: lines with the seconds since its start, on standard output
//! and in `target/boot-tests/logs/NAME/story.log`. With `BOOT_TESTS_STORY=commands` it tells each
//! command with what it printed, with `BOOT_TESTS_STORY=console` the serial console too.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;

use crate::place;

/// A scenario's voice. Copies share it.
#[derive(Debug, Clone)]
pub struct Story {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    directory: PathBuf,
    start: Instant,
    log: Mutex<File>,
    detail: Detail,
}

/// How much goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Detail {
    Steps,
    Commands,
    Console,
}

fn detail() -> Detail {
    match std::env::var("BOOT_TESTS_STORY").as_deref() {
        Ok("console") => Detail::Console,
        Ok("commands") => Detail::Commands,
        _ => Detail::Steps,
    }
}

/// Whether the serial console is told too.
pub fn shows_console() -> bool {
    detail() == Detail::Console
}

impl Story {
    /// Begins a scenario, and forgets the logs of its last run.
    pub fn begin(name: &str) -> Result<Self> {
        let directory = place::fresh_directory(&format!("logs/{name}"))?;
        let mut options = OpenOptions::new();
        let log = options
            .create(true)
            .append(true)
            .open(directory.join("story.log"))?;
        let detail = detail();
        let (name, log, start) = (name.to_owned(), Mutex::new(log), Instant::now());
        let inner = Inner {
            name,
            directory,
            start,
            log,
            detail,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Tells a step.
    pub fn tell(&self, line: &str) {
        self.write(Detail::Steps, &format!("== {line}"));
    }

    /// Tells a command of the guest and what it did.
    pub fn command(&self, script: &str, output: &str) {
        let mut text = format!("$ {script}");
        for line in output.lines() {
            text += "\n    ";
            text += line;
        }
        self.write(Detail::Commands, &text);
    }

    /// Tells a line of the serial console.
    pub fn console(&self, line: &str) {
        if self.inner.detail == Detail::Console {
            println!("    | {line}");
        }
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where this scenario's logs are.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    fn write(&self, detail: Detail, text: &str) {
        let inner = &self.inner;
        let seconds = inner.start.elapsed().as_secs_f64();
        let text = format!("[{:>24} {seconds:6.1}] {text}\n", inner.name);
        let mut log = inner.log.lock().unwrap_or_else(PoisonError::into_inner);
        // A story that cannot be written down is still told.
        let _written = log.write_all(text.as_bytes());
        if detail <= inner.detail {
            print!("{text}");
        }
    }
}
