//! Printing to stdout. Text comes in; a reader that went away (`| head`) becomes an error of its
//! own that ends the program without a word. Never panics as `println!` does.

use std::io::{self, Write};

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
