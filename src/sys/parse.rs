//! Files of settings as values: a text in YAML or TOML comes in, a value goes out, or the first
//! mistake with its line. Knows no key and no file.

use serde::de::DeserializeOwned;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl Mistake {
    /// A mistake at byte `at` of a text.
    fn at(text: &str, at: Option<usize>, problem: String) -> Self {
        let before = text.as_bytes().get(..at.unwrap_or(0));
        let before = before.unwrap_or(text.as_bytes());
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Self { line, problem }
    }
}

/// Parses YAML.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    serde_yaml_ng::from_str(text).map_err(|error| {
        let at = error.location().map(|place| place.index());
        Mistake::at(text, at, error.to_string())
    })
}

/// Parses TOML.
pub fn toml<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| span.start);
        Mistake::at(text, at, error.message().into())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Numbers = BTreeMap<String, u8>;

    #[test]
    fn a_mistake_has_its_line() {
        assert_eq!(yaml::<Numbers>("a: 1"), toml::<Numbers>("a = 1"));
        let line = |parsed: Result<Numbers, Mistake>| parsed.unwrap_err().line;
        assert_eq!(line(yaml("a: 1\n\nb: x\n")), 3);
        assert_eq!(line(toml("a = 1\n\nb = 'x'\n")), 3);
        assert_eq!(line(yaml("- a\n")), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_a_mistake_in_it(text in "([a-c][:=] ?|[0-9\n'\"\\[\\]{}#-]|\\PC){0,40}") {
            for parsed in [yaml::<Numbers>(&text), toml(&text)] {
                if let Err(Mistake { line, .. }) = parsed {
                    prop_assert!(line >= 1 && line <= text.lines().count() + 1, "line {}", line);
                }
            }
        }
    }
}
