//! Boot Loader Specification type 1 entries, and the names of their files. Text comes in, values
//! go out, and the other way round; keys that we know nothing of stay as they are. Pure.
//!
//! Specification: <https://uapi-group.org/specifications/specs/boot_loader_specification/>; boot
//! counting in file names: <https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT/>.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::Tries;

/// The largest entry that is read, in bytes.
pub const LIMIT: usize = 64 << 10;
/// How a file of an entry ends.
const SUFFIX: &str = ".conf";
/// What stands between a key and its value, and around them; a CR comes from other systems.
const SPACE: [char; 3] = [' ', '\t', '\r'];

/// Why a text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It is not UTF-8, or holds a NUL.
    #[error("the boot entry is not text")]
    NotText,
    /// It is larger than any entry should be.
    #[error("the boot entry has {0} bytes; at most {LIMIT} are read")]
    TooLarge(usize),
}

/// An entry: keys with values, in their order, with comments and empty lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlsEntry {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// A key and its value, both trimmed.
    Pair(String, String),
    /// A comment or an empty line, as it is.
    Other(String),
}

impl BlsEntry {
    /// Reads the bytes of an entry. Any text is an entry; limits are on size alone.
    ///
    /// # Errors
    /// [`EntryError`] for more than 64 KiB, or what is no UTF-8 text.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > LIMIT {
            return Err(EntryError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| EntryError::NotText)?;
        if text.contains('\0') {
            return Err(EntryError::NotText);
        }
        let lines = text.split_terminator('\n').map(parse_line).collect();
        Ok(Self { lines })
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of a key; `options` and `initrd` may stand more than once.
    pub fn all<'a, 'k>(&'a self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.lines.iter().filter_map(move |line| match line {
            Line::Pair(k, value) if k == key => Some(value.as_str()),
            _ => None,
        })
    }

    /// Sets a key to one value: in the place of its first one, else at the end.
    pub fn set(&mut self, key: &str, value: &str) {
        let is_it = |line: &Line| matches!(line, Line::Pair(k, _) if k == key);
        let first = self.lines.iter().position(is_it);
        self.lines.retain(|line| !is_it(line));
        let at = first.unwrap_or(self.lines.len()).min(self.lines.len());
        self.lines.insert(at, Line::Pair(key.into(), value.into()));
    }

    /// The same entry with each value changed by `change`, which gets the key too.
    pub fn map_values<E>(
        &self,
        mut change: impl FnMut(&str, &str) -> Result<String, E>,
    ) -> Result<Self, E> {
        let mut line = |line: &Line| match line {
            Line::Pair(key, value) => Ok(Line::Pair(key.clone(), change(key, value)?)),
            Line::Other(text) => Ok(Line::Other(text.clone())),
        };
        let lines = self.lines.iter().map(&mut line).collect::<Result<_, E>>()?;
        Ok(Self { lines })
    }

    /// The kernel arguments, as words.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.all("options").flat_map(str::split_ascii_whitespace)
    }

    /// Which deployment it boots: the value of the kernel argument `ostree=`.
    pub fn ostree(&self) -> Option<&str> {
        self.options().find_map(|word| word.strip_prefix("ostree="))
    }

    /// libostree's number of the entry: the higher, the earlier it boots.
    pub fn version(&self) -> Option<u64> {
        self.get("version").and_then(|version| version.parse().ok())
    }
}

fn parse_line(line: &str) -> Line {
    let trimmed = line.trim_start_matches(SPACE);
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Line::Other(line.into());
    }
    let (key, value) = trimmed.split_once(SPACE).unwrap_or((trimmed, ""));
    Line::Pair(key.into(), value.trim_matches(SPACE).into())
}

impl fmt::Display for BlsEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| match line {
            Line::Pair(key, value) if value.is_empty() => writeln!(f, "{key}"),
            Line::Pair(key, value) => writeln!(f, "{key} {value}"),
            Line::Other(text) => writeln!(f, "{text}"),
        })
    }
}

/// The name of an entry's file, split into what names it and what counts its boots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryName {
    /// The name without `.conf` and without the counter.
    pub stem: String,
    /// The counter, where there is one.
    pub tries: Option<Tries>,
}

impl EntryName {
    /// Reads a file's name; `None` where it does not end in `.conf`, so is no entry.
    ///
    /// What looks like a counter but is none (`a+b.conf`) is part of the name, as for systemd-boot.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(SUFFIX).filter(|stem| !stem.is_empty())?;
        let counted = stem.rsplit_once('+').and_then(|(stem, counter)| {
            let tries = counter.parse().ok()?;
            Some((stem, tries))
        });
        Some(match counted {
            Some((stem, tries)) => Self {
                stem: stem.into(),
                tries: Some(tries),
            },
            None => Self {
                stem: stem.into(),
                tries: None,
            },
        })
    }

    /// The same name without a counter.
    pub fn uncounted(&self) -> Self {
        Self {
            stem: self.stem.clone(),
            tries: None,
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tries {
            Some(tries) => write!(f, "{}+{tries}{SUFFIX}", self.stem),
            None => write!(f, "{}{SUFFIX}", self.stem),
        }
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.done {
            0 => write!(f, "{}", self.left),
            done => write!(f, "{}-{done}", self.left),
        }
    }
}

/// A text that is no counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a boot counter is LEFT or LEFT-DONE, two numbers")]
pub struct NoCounter;

impl FromStr for Tries {
    type Err = NoCounter;

    fn from_str(text: &str) -> Result<Self, NoCounter> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(NoCounter)
        };
        let (left, done) = match text.split_once('-') {
            Some((left, done)) => (number(left)?, number(done)?),
            None => (number(text)?, 0),
        };
        Ok(Self { left, done })
    }
}

#[cfg(test)]
mod tests;
