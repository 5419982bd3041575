//! What a check is and what it came to. Plain data; knows no program and no file.

use super::Failure;

/// How much a check weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Red makes the boot red.
    Required,
    /// Red is told, and changes nothing.
    Wanted,
}

impl Class {
    /// The word for people, and the name of its directory without `.d`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Wanted => "wanted",
        }
    }
}

/// One check that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Its name: the file's, or that of a built-in one.
    pub name: String,
    /// How much it weighs.
    pub class: Class,
    /// Why it is red, as a part of a sentence; `None` is green.
    pub red: Option<String>,
    /// The end of what it printed.
    pub output: String,
}

impl CheckResult {
    /// A result without output.
    pub fn new(name: &str, class: Class, red: Option<String>) -> Self {
        Self {
            name: name.into(),
            class,
            red,
            output: String::new(),
        }
    }
}

/// The first required check that is red, as the record keeps it.
pub fn first_red(results: &[CheckResult]) -> Option<Failure> {
    let mut red = results.iter().filter(|r| r.class == Class::Required);
    red.find_map(|result| {
        let reason = result.red.as_ref()?;
        Some(Failure {
            number: 0,
            check: result.name.clone(),
            said: said(reason, &result.output),
        })
    })
}

/// The reason, and the last lines of the output.
fn said(reason: &str, output: &str) -> String {
    const LINES: usize = 3;
    let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join(" / ");
    match last.is_empty() {
        true => reason.into(),
        false => format!("{reason}: {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_required_checks_make_a_boot_red() {
        let red = |name, class| CheckResult::new(name, class, Some("it ended with code 1".into()));
        let green = CheckResult::new("a", Class::Required, None);
        let mut all = vec![green, red("b", Class::Wanted)];
        assert_eq!(first_red(&all), None);
        all.push(red("c", Class::Required));
        all.push(red("d", Class::Required));
        all[2].output = "1\n2\n\n3\n4\n".into();
        let failure = first_red(&all).unwrap();
        assert_eq!(failure.check, "c");
        assert_eq!(failure.said, "it ended with code 1: 2 / 3 / 4");
    }
}
