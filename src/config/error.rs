//! Why settings cannot be used. Each error names the file, the line where there is one, and what
//! would be right.

use thiserror::Error;

use crate::sys::parse::Mistake;

/// A file of settings that cannot be used. Nothing was done with any of them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is not what it should be.
    #[error("{file}:{line}: {problem}")]
    Text {
        /// The file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The file as a whole is not text of a sensible size, or its content does not fit together.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

impl ConfigError {
    /// A mistake in a file's text.
    pub(crate) fn text(file: &str, mistake: Mistake) -> Self {
        Self::Text {
            file: file.into(),
            line: mistake.line,
            problem: mistake.problem,
        }
    }

    /// An error about a whole file.
    pub(crate) fn file(file: &str, problem: impl Into<String>) -> Self {
        Self::File {
            file: file.into(),
            problem: problem.into(),
        }
    }
}
