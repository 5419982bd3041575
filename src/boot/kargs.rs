//! Kernel arguments by the rules of the kernel's own command line (lib/cmdline.c, `next_arg`):
//! words parted by space outside of double quotes. Text comes in; an ordered list that can be
//! changed and printed goes out. Never knows where an argument came from.

use std::fmt;

use thiserror::Error;

/// The longest argument that may be added, in bytes: what x86 takes for a whole command line.
pub const MAX_BYTES: usize = 2048;
/// What GRUB's script language, in which boot loader entries are read, takes for its own.
const GRUB_SPECIAL: &str = "\"'\\;$&|<>{}";
/// What of that it does not hand on as it is between double quotes either.
const GRUB_SPECIAL_QUOTED: &str = "\"'\\$";

/// One kernel argument as written: `key`, or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Karg(String);

/// Why a text is not one kernel argument.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KargError {
    /// Nothing, or a value without a key.
    #[error("{0:?} has no key: write KEY or KEY=VALUE")]
    NoKey(String),
    /// Space outside of quotes.
    #[error(
        "{0:?} is more than one argument: give them one by one, or put the value in double quotes"
    )]
    Several(String),
    /// An odd number of double quotes.
    #[error("{0:?} has a double quote that nothing closes")]
    Quote(String),
    /// A control character, or a line break.
    #[error("{0:?} has a control character, which no boot loader entry can hold")]
    Control(String),
    /// More than [`MAX_BYTES`].
    #[error("the argument that starts with {0:?} is longer than {MAX_BYTES} bytes")]
    TooLong(String),
    /// The one argument that belongs to libostree.
    #[error("{0:?} says which deployment boots: libostree sets it, nobody else may")]
    Reserved(String),
}

impl Karg {
    /// Takes a text as one argument.
    pub fn new(text: &str) -> Result<Self, KargError> {
        let text = text.trim_matches(is_space);
        let shown = || text.chars().take(60).collect();
        if text.len() > MAX_BYTES {
            return Err(KargError::TooLong(shown()));
        }
        if text.chars().any(char::is_control) {
            return Err(KargError::Control(shown()));
        }
        if text.matches('"').count() % 2 != 0 {
            return Err(KargError::Quote(shown()));
        }
        let arg = Self(text.into());
        if arg.key().is_empty() {
            return Err(KargError::NoKey(shown()));
        }
        if words(text).count() > 1 {
            return Err(KargError::Several(shown()));
        }
        match arg.key() {
            "ostree" => Err(KargError::Reserved(shown())),
            _ => Ok(arg),
        }
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part in front of the first `=`, or all of it, without a quote around the argument.
    pub fn key(&self) -> &str {
        let text = self.unquoted();
        text.split_once('=').map_or(text, |(key, _)| key)
    }

    /// The part behind the first `=`, without quotes around it.
    pub fn value(&self) -> Option<&str> {
        let (_, value) = self.unquoted().split_once('=')?;
        Some(strip(value))
    }

    /// Whether the kernel would take both for the same: `-` and `_` in keys and quotes around
    /// values make no difference.
    pub fn same(&self, other: &Self) -> bool {
        same_key(self.key(), other.key()) && self.value() == other.value()
    }

    /// The first character that does not reach the kernel as it is when GRUB reads the entry as
    /// script. Double quotes around a value, or all of the argument, do.
    pub fn grub_obstacle(&self) -> Option<char> {
        let find = |text: &str, special: &str| text.chars().find(|c| special.contains(*c));
        if self.0.starts_with('#') {
            return Some('#');
        }
        let value = self.0.find('=').map_or(0, |at| at + 1);
        for start in [0, value] {
            let (bare, rest) = self.0.split_at(start);
            let quoted = rest
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            if let Some(quoted) = quoted {
                let first = find(bare, GRUB_SPECIAL);
                return first.or_else(|| find(quoted, GRUB_SPECIAL_QUOTED));
            }
        }
        find(&self.0, GRUB_SPECIAL)
    }

    fn unquoted(&self) -> &str {
        match self.0.strip_prefix('"') {
            Some(text) => text.strip_suffix('"').unwrap_or(text),
            None => &self.0,
        }
    }
}

impl fmt::Display for Karg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the kernel takes both for the same key.
pub fn same_key(a: &str, b: &str) -> bool {
    let plain = |c: char| if c == '-' { '_' } else { c };
    a.chars().map(plain).eq(b.chars().map(plain))
}

fn strip(value: &str) -> &str {
    match value.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => value,
    }
}

/// What the kernel takes for space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// The words of a command line. A quote that nothing closes reaches to the end.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && is_space(c)
    })
    .filter(|word| !word.is_empty())
}

/// Kernel arguments in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelArgs(Vec<Karg>);

impl KernelArgs {
    /// Splits a command line. Any text is one: what is odd in it stays as it is.
    pub fn parse(line: &str) -> Self {
        Self(words(line).map(|word| Karg(word.into())).collect())
    }

    /// The arguments.
    pub fn iter(&self) -> impl Iterator<Item = &Karg> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As words, one per argument.
    pub fn to_words(&self) -> Vec<String> {
        self.0.iter().map(|arg| arg.0.clone()).collect()
    }

    /// Whether an argument is there.
    pub fn contains(&self, arg: &Karg) -> bool {
        self.position(arg).is_some()
    }

    /// Where an argument stands first.
    pub fn position(&self, arg: &Karg) -> Option<usize> {
        self.0.iter().position(|other| other.same(arg))
    }

    /// Puts an argument at the end.
    pub fn append(&mut self, arg: Karg) {
        self.0.push(arg);
    }

    /// Puts an argument at the end unless it is there; says whether it did.
    pub fn append_if_missing(&mut self, arg: &Karg) -> bool {
        let missing = !self.contains(arg);
        if missing {
            self.append(arg.clone());
        }
        missing
    }

    /// Puts an argument in front of the one at `at`, at most at the end.
    pub fn insert(&mut self, at: usize, arg: Karg) {
        self.0.insert(at.min(self.0.len()), arg);
    }

    /// Removes an argument wherever it stands; says whether it was there.
    pub fn remove(&mut self, arg: &Karg) -> bool {
        let before = self.0.len();
        self.0.retain(|other| !other.same(arg));
        self.0.len() < before
    }

    /// Puts `new` in the place of the first `old`; says whether there was one.
    pub fn replace(&mut self, old: &Karg, new: &Karg) -> bool {
        let at = self.position(old);
        if let Some(at) = at {
            self.0[at] = new.clone();
        }
        at.is_some()
    }

    /// The arguments of a key, each one once.
    pub fn of_key(&self, key: &str) -> Vec<&Karg> {
        let mut found: Vec<&Karg> = Vec::new();
        for arg in self.0.iter().filter(|arg| same_key(arg.key(), key)) {
            if !found.iter().any(|other| other.same(arg)) {
                found.push(arg);
            }
        }
        found
    }

    /// The arguments of this list that `keep` wants.
    pub fn filtered(&self, keep: impl Fn(&Karg) -> bool) -> Self {
        self.0.iter().filter(|arg| keep(arg)).cloned().collect()
    }
}

impl FromIterator<Karg> for KernelArgs {
    fn from_iter<I: IntoIterator<Item = Karg>>(args: I) -> Self {
        Self(args.into_iter().collect())
    }
}

impl fmt::Display for KernelArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arg) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{arg}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
