//! Printing to stdout. Text comes in; a reader that went away (`| head`) becomes an error of its
//! own that ends the program without a word. Never panics as `println!` does.

use std::io::{self, BufWriter, StdoutLock, Write};

use anyhow::{Context as _, Result};
use thiserror::Error;

/// Whoever read our stdout has gone; nothing is left to say.
#[derive(Debug, Error)]
#[error("nobody reads the output any more")]
pub struct OutputClosed;

/// Writes `text` to stdout and flushes it. Control characters other than line breaks become
/// spaces: much of what is printed was written by others.
pub fn print(text: &str) -> Result<()> {
    let harmless = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let text: String = text.chars().map(harmless).collect();
    print_bytes(text.as_bytes())
}

/// Writes bytes to stdout as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => other.context("Writing to stdout"),
    }
}

/// Bytes in stdout's buffer of its own.
const STREAM_BUFFER: usize = 128 << 10;

/// Takes a stream of bytes for stdout.
pub struct StdoutWriter {
    out: BufWriter<StdoutLock<'static>>,
    closed: bool,
}

impl StdoutWriter {
    /// Takes stdout for itself.
    pub fn new() -> Self {
        Self {
            out: BufWriter::with_capacity(STREAM_BUFFER, io::stdout().lock()),
            closed: false,
        }
    }

    /// Writes what is left, and says how it ended: whoever writes only knows that writing failed.
    pub fn finish(mut self, result: Result<()>) -> Result<()> {
        let flushed = match &result {
            Ok(()) => self.flush(),
            Err(_) => Ok(()),
        };
        match self.closed {
            true => Err(OutputClosed.into()),
            false => result.and(flushed.context("Writing to stdout")),
        }
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        self.closed |= result.as_ref().is_err_and(broken);
        result
    }
}

impl Write for StdoutWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.out.write(data);
        self.noted(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.noted(result)
    }
}
