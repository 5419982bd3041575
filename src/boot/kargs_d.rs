//! The kernel arguments that an image asks for. A tree comes in; lists with the architectures
//! that they are for go out. Never reads anything that an administrator may write: what is the
//! machine's own is given to `bowline kargs`.
//!
//! ```text
//! usr/lib/bootc/kargs.d/*.toml       bootc's (bootc-kargs(5)), in the order of their names
//! usr/lib/bowline/kargs.d/*.yaml     ours, with the same keys, after them
//! ```

use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use thiserror::Error;

use super::kargs::{Karg, KernelArgs};
use crate::image::rust_arch;
use crate::sys::parse::{self, Mistake};
use crate::sys::tree::{EntryKind, FileTree};

/// The largest file that is read, in bytes; real ones have a few hundred.
const MAX_BYTES: u64 = 64 << 10;
/// More files than any image has.
const MAX_FILES: usize = 256;

/// A file of an image's kernel arguments that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{file}{}: {problem}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct KargsDError {
    /// The file.
    pub file: String,
    /// Number of the line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// What an image asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageKargs {
    files: Vec<KargsFile>,
}

/// One file as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a mapping with the key kargs"
)]
struct KargsFile {
    kargs: Vec<String>,
    match_architectures: Option<Vec<String>>,
}

impl ImageKargs {
    /// Reads both directories of a tree; where there is none, the image asks for nothing. A file
    /// that is wrong is a [`KargsDError`].
    pub fn read(tree: &dyn FileTree) -> Result<Self> {
        let mut files = Vec::new();
        let places: [(&str, &str, Parser); 2] = [
            ("usr/lib/bootc/kargs.d", ".toml", parse::toml),
            ("usr/lib/bowline/kargs.d", ".yaml", parse::yaml),
        ];
        for (dir, suffix, parse) in places {
            for path in names(tree, dir, suffix)? {
                let text = text(tree, &path)?;
                files.push(parsed(&tree.name(&path), &text, parse)?);
            }
        }
        Ok(Self { files })
    }

    /// The arguments for an architecture (a GOARCH word), each one once.
    pub fn for_arch(&self, arch: &str) -> KernelArgs {
        let arch = rust_arch(arch);
        let fits = |file: &&KargsFile| {
            let list = file.match_architectures.as_ref();
            list.is_none_or(|list| list.iter().any(|word| word == arch))
        };
        let mut args = KernelArgs::default();
        for text in self.files.iter().filter(fits).flat_map(|file| &file.kargs) {
            for arg in KernelArgs::parse(text).iter() {
                args.append_if_missing(arg);
            }
        }
        args
    }
}

type Parser = fn(&str) -> Result<KargsFile, Mistake>;

/// The paths of the files of a directory, by name.
fn names(tree: &dyn FileTree, dir: &str, suffix: &str) -> Result<Vec<String>> {
    let found = tree.entries(dir);
    let found = found.with_context(|| format!("Reading {}", tree.name(dir)))?;
    let fits = |name: &str, kind| kind == EntryKind::File && name.ends_with(suffix);
    let paths = found.into_iter().filter(|(name, kind)| fits(name, *kind));
    let paths: Vec<_> = paths.map(|(name, _)| format!("{dir}/{name}")).collect();
    if paths.len() > MAX_FILES {
        let problem = format!("{} files; at most {MAX_FILES} are read", paths.len());
        return Err(about(&tree.name(dir), None, problem).into());
    }
    Ok(paths)
}

fn text(tree: &dyn FileTree, path: &str) -> Result<String> {
    let name = tree.name(path);
    match tree.read(path, MAX_BYTES) {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(about(&name, None, error.to_string()).into())
        }
        Err(error) => Err(error).with_context(|| format!("Reading {name}")),
    }
}

fn parsed(name: &str, text: &str, parse: Parser) -> Result<KargsFile, KargsDError> {
    let file = parse(text);
    let file = file.map_err(|mistake| about(name, Some(mistake.line), mistake.problem))?;
    checked(name, file)
}

/// One text may hold several arguments, as in bootc; each must be one that can be set.
fn checked(name: &str, file: KargsFile) -> Result<KargsFile, KargsDError> {
    for text in &file.kargs {
        // A line break would look like space and vanish; an open quote would swallow what follows.
        let whole = KernelArgs::parse(text);
        let odd = text.chars().any(char::is_control) || text.matches('"').count() % 2 != 0;
        let wrong = whole.iter().find_map(|arg| Karg::new(arg.as_str()).err());
        match (odd, wrong) {
            (true, _) => {
                let problem = format!("{text:?} has a control character or an open quote");
                return Err(about(name, None, problem));
            }
            (false, Some(error)) => return Err(about(name, None, error.to_string())),
            (false, None) => {}
        }
    }
    Ok(file)
}

fn about(file: &str, line: Option<usize>, problem: String) -> KargsDError {
    KargsDError {
        file: file.into(),
        line,
        problem,
    }
}

/// Reads a file of either form; anything.
#[cfg(feature = "testing")]
pub fn probe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsers: [Parser; 2] = [parse::toml, parse::yaml];
    for parse in parsers {
        if let Ok(file) = parsed("probe", text, parse) {
            ImageKargs { files: vec![file] }.for_arch("amd64");
        }
    }
}

#[cfg(test)]
mod tests;
