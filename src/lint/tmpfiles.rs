//! The lines of tmpfiles.d(5), as far as they make something. Texts come in, paths go out. Never
//! says what a line makes.

use std::collections::BTreeSet;

/// Types of lines that make the path they name.
const MAKING: &str = "fFdDvqQpLcbCw";

/// The paths that some line makes.
#[derive(Debug, Default)]
pub(super) struct Made {
    paths: BTreeSet<String>,
    /// Paths that are filled with a copy of a whole tree.
    trees: BTreeSet<String>,
}

impl Made {
    /// Takes the lines of a file. Lines that are none are left to systemd to complain about.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            let (Some(kind), Some(path)) = (words.next(), words.next()) else {
                continue;
            };
            let path = path.trim_matches(['"', '\'']).trim_end_matches('/');
            let Some(kind) = kind.chars().next().filter(|kind| MAKING.contains(*kind)) else {
                continue;
            };
            if kind == 'C' {
                self.trees.insert(path.into());
            }
            self.paths.insert(path.into());
        }
    }

    /// Whether a line makes this absolute path, or a tree that it is in.
    pub(super) fn makes(&self, path: &str) -> bool {
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.paths.contains(path) || above.any(|parent| self.trees.contains(parent))
    }

    /// Whether a line makes something below this directory, and so the directory itself.
    pub(super) fn makes_below(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let next = self.paths.range(below.clone()..).next();
        next.is_some_and(|found| found.starts_with(&below))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(text: &str) -> Made {
        let mut made = Made::default();
        made.add(text);
        made
    }

    #[test]
    fn lines_that_make_something_name_it() {
        let made = made(
            "# d /var/comment\n\nd /var/lib/a 0755 root root -\n  L+! /var/link - - - - x\n\
             q \"/var/quoted/\"\nx /var/kept\nz /var/relabelled\nC /var/copy - - - - /usr/share/x\n\
             d\nd /var/deep/er\n",
        );
        for path in [
            "/var/lib/a",
            "/var/link",
            "/var/quoted",
            "/var/copy",
            "/var/copy/in/it",
        ] {
            assert!(made.makes(path), "{path}");
        }
        for path in [
            "/var/comment",
            "/var/kept",
            "/var/relabelled",
            "/var/lib",
            "/var/lib/a/b",
        ] {
            assert!(!made.makes(path), "{path}");
        }
        assert!(made.makes_below("/var/deep"));
        assert!(!made.makes_below("/var/dee"));
        assert!(!made.makes_below("/var/deep/er"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_a_line_is_found_in_it(
            before in "(.|\n){0,200}",
            path in "/[a-zA-Z0-9._-]{1,20}(/[a-zA-Z0-9._-]{1,10}){0,3}",
        ) {
            let made = made(&format!("{before}\nd {path} 0755 - - -\n"));
            prop_assert!(made.makes(&path));
        }
    }
}
