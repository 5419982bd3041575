//! GRUB's environment block: the one file that GRUB itself can write. Bytes of a block come in,
//! variables go out, and the other way round. Never changes a variable that it was not asked for.
//!
//! A block has a fixed size (1024 bytes as made by `grub-editenv create`): the signature line,
//! `key=value` lines, comment lines that start with `#`, and `#` up to the end. In a value, a
//! backslash escapes a backslash or a newline (GRUB, `grub-core/lib/envblk.c`).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use thiserror::Error;

use crate::sys::fs;

/// Bytes of a new block.
pub const SIZE: usize = 1024;
/// Bytes of a block of the file systems that GRUB writes to.
const ONE_BLOCK: usize = 4096;
/// The largest file that is read; GRUB's tools never make more than 1024 bytes.
const LIMIT: u64 = 32 << 10;
const SIGNATURE: &str = "# GRUB Environment Block\n";

/// Why an environment block cannot be used.
#[derive(Debug, Error)]
pub enum GrubenvError {
    /// The file cannot be read or written.
    #[error("the GRUB environment block {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What is there is no environment block; GRUB ignores it.
    #[error("this is no GRUB environment block: {0}")]
    NotABlock(&'static str),
    /// There is no room for one more variable.
    #[error("the GRUB environment block is full: {needed} bytes are needed, {size} are there")]
    Full {
        /// Bytes that signature and variables take.
        needed: usize,
        /// Bytes of the block.
        size: usize,
    },
    /// GRUB could not read such a name back.
    #[error("{0:?} cannot be a variable of GRUB's environment block")]
    Name(String),
}

/// The variables of a block, in their order, with its comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grubenv {
    size: usize,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// A whole line with its `#`, without its newline.
    Comment(Vec<u8>),
    /// A variable; its value unescaped.
    Variable(Vec<u8>, Vec<u8>),
}

impl Default for Grubenv {
    /// An empty block of the usual size.
    fn default() -> Self {
        Self {
            size: SIZE,
            lines: Vec::new(),
        }
    }
}

impl Grubenv {
    /// Reads the bytes of a block.
    ///
    /// # Errors
    /// [`GrubenvError::NotABlock`] without the signature, without `=` in a line, with a line that
    /// does not end, or for more than 32 KiB.
    pub fn parse(bytes: &[u8]) -> Result<Self, GrubenvError> {
        if bytes.len() as u64 > LIMIT {
            return Err(GrubenvError::NotABlock("it is too large"));
        }
        let mut rest = bytes
            .strip_prefix(SIGNATURE.as_bytes())
            .ok_or(GrubenvError::NotABlock("the first line is another one"))?;
        let mut lines = Vec::new();
        while rest.iter().any(|byte| *byte != b'#') {
            let (line, after) = parse_line(rest)?;
            lines.push(line);
            rest = after;
        }
        let size = bytes.len();
        Ok(Self { size, lines })
    }

    /// The value of a variable, if it is set and text.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.lines.iter().find_map(|line| match line {
            Line::Variable(key, value) if key == name.as_bytes() => Some(value),
            _ => None,
        });
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Sets a variable, in its place if it is there already.
    ///
    /// # Errors
    /// [`GrubenvError::Name`] for a name that is empty, starts with `#` or holds `=` or a newline.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), GrubenvError> {
        if name.is_empty() || name.starts_with('#') || name.contains(['=', '\n', '\\']) {
            return Err(GrubenvError::Name(name.into()));
        }
        let new = Line::Variable(name.into(), value.into());
        let is_it = |line: &&mut Line| matches!(line, Line::Variable(k, _) if k == name.as_bytes());
        match self.lines.iter_mut().find(is_it) {
            Some(line) => *line = new,
            None => self.lines.push(new),
        }
        Ok(())
    }

    /// Removes a variable; nothing happens where it is not set.
    pub fn unset(&mut self, name: &str) {
        let stays = |line: &Line| !matches!(line, Line::Variable(k, _) if k == name.as_bytes());
        self.lines.retain(stays);
    }

    /// The bytes of the block, padded to its size.
    ///
    /// # Errors
    /// [`GrubenvError::Full`] when they do not fit.
    pub fn print(&self) -> Result<Vec<u8>, GrubenvError> {
        let mut bytes = SIGNATURE.as_bytes().to_vec();
        for line in &self.lines {
            match line {
                Line::Comment(text) => bytes.extend(text),
                Line::Variable(name, value) => {
                    bytes.extend(name);
                    bytes.push(b'=');
                    value.iter().for_each(|byte| escape(*byte, &mut bytes));
                }
            }
            bytes.push(b'\n');
        }
        let (needed, size) = (bytes.len(), self.size);
        if needed > size {
            return Err(GrubenvError::Full { needed, size });
        }
        bytes.resize(size, b'#');
        Ok(bytes)
    }

    /// Reads a block from a file; `None` where there is no file.
    pub fn read(path: &Path) -> Result<Option<Self>, GrubenvError> {
        let path_of = |source| GrubenvError::File {
            path: path.into(),
            source,
        };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(path_of(error)),
            Ok(found) if found.len() > LIMIT || !found.is_file() => {
                return Err(GrubenvError::NotABlock("it is too large, or no file"));
            }
            Ok(_) => {}
        }
        Self::parse(&std::fs::read(path).map_err(path_of)?).map(Some)
    }

    /// Reads a block; a missing or damaged one counts as empty, as GRUB sees it.
    ///
    /// # Errors
    /// [`GrubenvError::File`] when the system refuses to read.
    pub fn read_or_new(path: &Path) -> Result<Self, GrubenvError> {
        match Self::read(path) {
            Ok(found) => Ok(found.unwrap_or_default()),
            Err(GrubenvError::NotABlock(reason)) => {
                tracing::warn!("{} is replaced: {reason}", path.display());
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the file, durably. Interrupted, the old block is there or the new one.
    ///
    /// A block that is there is overwritten where it is, as GRUB and its tools do: GRUB looks at
    /// file systems without replaying their journals. After a power cut it would find a replaced
    /// file's old block for a while, believe its counter, and write to what is free by then.
    pub fn write(&self, path: &Path) -> Result<(), GrubenvError> {
        let bytes = self.print()?;
        // A link (Fedora points to the ESP with one) must stay one.
        let target = rustix::fs::readlinkat(CWD, path, Vec::new()).ok();
        let target = target.and_then(|_| path.canonicalize().ok());
        let target = target.unwrap_or_else(|| path.into());
        let written = match overwrite(&target, &bytes) {
            Ok(false) => fs::replace(&target, &bytes, 0o644),
            other => other.map(|_| ()),
        };
        written.map_err(|source| GrubenvError::File {
            path: path.into(),
            source,
        })
    }
}

/// Overwrites a file that has the same size and lies in one block of its file system, which is
/// written as a whole; `false` where there is no such file.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let found = file.metadata()?;
    let same = found.is_file() && found.len() == bytes.len() as u64;
    if !same || bytes.len() > ONE_BLOCK {
        return Ok(false);
    }
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    Ok(true)
}

/// One line, and what follows it.
fn parse_line(bytes: &[u8]) -> Result<(Line, &[u8]), GrubenvError> {
    let cut = GrubenvError::NotABlock("its last line does not end");
    if bytes.starts_with(b"#") {
        let end = line_end(bytes).ok_or(cut)?;
        return Ok((Line::Comment(bytes[..end].into()), &bytes[end + 1..]));
    }
    let mut text = Vec::new();
    let mut equals = None;
    let mut at = 0;
    loop {
        match bytes.get(at) {
            None => return Err(cut),
            Some(b'\n') => break,
            Some(b'=') if equals.is_none() => equals = Some(text.len()),
            Some(b'\\') if equals.is_some() => at += 1,
            Some(_) => {}
        }
        text.extend(bytes.get(at));
        at += 1;
    }
    let equals = equals.filter(|equals| *equals > 0);
    let equals = equals.ok_or(GrubenvError::NotABlock("a line of it sets nothing"))?;
    let value = text.split_off(equals + 1);
    text.pop();
    Ok((Line::Variable(text, value), &bytes[at + 1..]))
}

/// Where a line ends: escapes count in comments too, as GRUB looks for the end alike.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'\n' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn escape(byte: u8, to: &mut Vec<u8>) {
    if byte == b'\\' || byte == b'\n' {
        to.push(b'\\');
    }
    to.push(byte);
}

#[cfg(test)]
mod tests;
