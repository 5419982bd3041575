//! Origin files: where a deployment came from, as a GKeyFile beside it. Text comes in, a value
//! that keeps every group, key and comment in order goes out and prints back. Knows only the keys
//! that container deployments need; never interprets those of other programs.
//!
//! ```text
//! [origin]
//! container-image-reference=ostree-unverified-registry:quay.io/example/os:stable
//! ```

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::image::{OstreeImageReference, ReferenceError};
use crate::trust::VerifiedBy;

/// The largest origin file that is read, in bytes; real ones have a few hundred.
const MAX_BYTES: usize = 1 << 20;
/// What GKeyFile skips around keys and values.
const BLANK: [char; 2] = [' ', '\t'];
const ORIGIN: &str = "origin";
const IMAGE: &str = "container-image-reference";
/// State of one deployment that its successor must not inherit (libostree, ostree-deployment.c).
const TRANSIENT: &str = "libostree-transient";
/// Groups by which rpm-ostree marks a deployment that is more than its image; the list of bootc.
const LOCAL_CHANGES: [&str; 4] = ["rpmostree", "packages", "overrides", "modules"];
/// Our own group, and in it who vouched for the image, as JSON.
const OWN: &str = "bowline";
const VOUCHED: &str = "verified";
/// Keys of `[origin]` that contradict a container image or hold for one deployment only.
const SUPERSEDED: [&str; 5] = [
    "refspec",
    "baserefspec",
    "override-commit",
    "unconfigured-state",
    "unlocked",
];

/// Why a text is no origin.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OriginError {
    /// A line that is neither a group, a pair, a comment nor empty.
    #[error("line {line} of the origin is neither a group nor a key with a value: {text:?}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Its start.
        text: String,
    },
    /// A key in front of the first group.
    #[error("line {0} of the origin has a key that belongs to no group")]
    NoGroup(usize),
    /// More text than any origin has.
    #[error("the origin is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// A parsed origin file. `Display` and `FromStr` are inverse up to space around `=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    preamble: Vec<String>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Group {
    name: String,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Key and value as written, escapes and all.
    Pair(String, String),
    /// A comment or an empty line.
    Comment(String),
}

impl Line {
    fn is_blank(&self) -> bool {
        matches!(self, Self::Comment(text) if text.is_empty())
    }
}

impl Origin {
    /// The origin of a deployment that follows `image` and has no history.
    pub fn of_image(image: &OstreeImageReference) -> Self {
        Self::default().following(image)
    }

    /// This origin for a successor that follows `image`: what other programs keep in it stays,
    /// what contradicts the image or belonged to the one deployment goes.
    pub fn following(&self, image: &OstreeImageReference) -> Self {
        let mut next = self.clone();
        next.groups.retain(|group| group.name != TRANSIENT);
        for key in SUPERSEDED {
            next.remove(ORIGIN, key);
        }
        next.set(ORIGIN, IMAGE, &image.to_string());
        next.set_value(OWN, VOUCHED, None);
        next
    }

    /// Records who vouched for the image; none where it was accepted unverified.
    pub fn set_vouched(&mut self, by: &[VerifiedBy]) {
        // Plain text cannot fail to become JSON.
        let text = serde_json::to_string(by).unwrap_or_default();
        self.set_value(OWN, VOUCHED, Some(&text));
    }

    /// Who vouched for the image when it was deployed; `None` where that was not recorded.
    pub fn vouched(&self) -> Option<Vec<VerifiedBy>> {
        serde_json::from_str(&self.get(OWN, VOUCHED)?).ok()
    }

    /// This origin for a successor of the same commit, without what held for the one deployment.
    pub fn inherited(&self) -> Self {
        let mut next = self.clone();
        next.groups.retain(|group| group.name != TRANSIENT);
        next.remove(ORIGIN, "unlocked");
        next
    }

    /// The image that the deployment follows; `None` where it is no container deployment.
    pub fn image(&self) -> Result<Option<OstreeImageReference>, ReferenceError> {
        let text = self.get(ORIGIN, IMAGE);
        text.map(|text| text.parse()).transpose()
    }

    /// Whether rpm-ostree changed the deployment locally (layered packages, overrides, a local
    /// initramfs), which an image update would silently undo.
    pub fn has_local_changes(&self) -> bool {
        let is_local = |group: &Group| LOCAL_CHANGES.contains(&group.name.as_str());
        self.groups.iter().any(is_local)
    }

    /// A value, unescaped. The last one counts, as in GLib.
    pub fn get(&self, group: &str, key: &str) -> Option<String> {
        let group = self.groups.iter().find(|g| g.name == group)?;
        let value = group.lines.iter().rev().find_map(|line| match line {
            Line::Pair(name, value) if name == key => Some(value),
            _ => None,
        });
        value.map(|value| unescape(value))
    }

    /// Sets a value, or removes it, and its group with the last one.
    pub fn set_value(&mut self, group: &str, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.set(group, key, value),
            None => {
                self.remove(group, key);
                let empty = |g: &Group| g.name == group && g.lines.iter().all(Line::is_blank);
                self.groups.retain(|g| !empty(g));
            }
        }
    }

    fn set(&mut self, group: &str, key: &str, value: &str) {
        let pair = Line::Pair(key.into(), escape(value));
        let is_key = |line: &Line| matches!(line, Line::Pair(name, _) if name == key);
        let lines = &mut self.group_mut(group).lines;
        match lines.iter().rposition(is_key) {
            Some(at) => lines[at] = pair,
            None => {
                // In front of the empty lines that part this group from the next.
                let is_text = |line: &Line| *line != Line::Comment(String::new());
                let end = lines.iter().rposition(is_text).map_or(0, |at| at + 1);
                lines.insert(end, pair);
            }
        }
    }

    fn remove(&mut self, group: &str, key: &str) {
        if let Some(group) = self.groups.iter_mut().find(|g| g.name == group) {
            let is_key = |line: &Line| matches!(line, Line::Pair(name, _) if name == key);
            group.lines.retain(|line| !is_key(line));
        }
    }

    fn group_mut(&mut self, name: &str) -> &mut Group {
        let at = self.groups.iter().position(|g| g.name == name);
        let at = at.unwrap_or_else(|| {
            let name = name.to_owned();
            let lines = Vec::new();
            self.groups.push(Group { name, lines });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        if text.len() > MAX_BYTES {
            return Err(OriginError::TooLarge);
        }
        let mut origin = Self::default();
        let mut current: Option<String> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start_matches(BLANK);
            if let Some(name) = group_name(line) {
                origin.group_mut(name);
                current = Some(name.into());
            } else if line.is_empty() || line.starts_with('#') {
                match &current {
                    None => origin.preamble.push(line.into()),
                    Some(name) => {
                        let comment = Line::Comment(line.into());
                        origin.group_mut(name).lines.push(comment);
                    }
                }
            } else {
                let group = current.as_ref().ok_or(OriginError::NoGroup(number + 1))?;
                let pair = parse_pair(line).ok_or_else(|| OriginError::Line {
                    line: number + 1,
                    text: line.chars().take(80).collect(),
                })?;
                origin.group_mut(group).lines.push(pair);
            }
        }
        Ok(origin)
    }
}

fn group_name(line: &str) -> Option<&str> {
    let name = line
        .strip_prefix('[')?
        .trim_end_matches(BLANK)
        .strip_suffix(']')?;
    (!name.is_empty() && !name.contains(['[', ']'])).then_some(name)
}

fn parse_pair(line: &str) -> Option<Line> {
    let (key, value) = line.split_once('=')?;
    let key = key.trim_end_matches(BLANK);
    let legal = !key.is_empty() && !key.starts_with('[');
    legal.then(|| Line::Pair(key.into(), value.trim_start_matches(BLANK).into()))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.preamble {
            writeln!(f, "{line}")?;
        }
        for group in &self.groups {
            writeln!(f, "[{}]", group.name)?;
            for line in &group.lines {
                match line {
                    Line::Pair(key, value) => writeln!(f, "{key}={value}")?,
                    Line::Comment(text) => writeln!(f, "{text}")?,
                }
            }
        }
        Ok(())
    }
}

/// Escapes as `g_key_file_set_string` does.
fn escape(value: &str) -> String {
    let mut text = String::new();
    let mut leading = true;
    for c in value.chars() {
        leading &= c == ' ';
        match c {
            // Readers strip space where a value starts.
            ' ' if leading => text.push_str("\\s"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\\' => text.push_str("\\\\"),
            c => text.push(c),
        }
    }
    text
}

fn unescape(value: &str) -> String {
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('s') => text.push(' '),
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STABLE: &str = "ostree-unverified-registry:quay.io/example/os:stable";

    fn image(text: &str) -> OstreeImageReference {
        text.parse().unwrap()
    }

    #[test]
    fn a_new_origin_has_the_reference_and_nothing_else() {
        let origin = Origin::of_image(&image(STABLE));
        assert_eq!(
            origin.to_string(),
            format!("[origin]\ncontainer-image-reference={STABLE}\n")
        );
        assert_eq!(origin.image().unwrap(), Some(image(STABLE)));
    }

    #[test]
    fn a_successor_keeps_what_it_does_not_know() {
        let text = "# by hand\n\n[origin]\nrefspec=fedora:x\ncustom-url=u\nunconfigured-state=no\n\n\
                    [mine]\n# why\nb = 2\na=1\n[libostree-transient]\npinned=true\n";
        let next = text.parse::<Origin>().unwrap().following(&image(STABLE));
        assert_eq!(
            next.to_string(),
            format!(
                "# by hand\n\n[origin]\ncustom-url=u\ncontainer-image-reference={STABLE}\n\n\
                 [mine]\n# why\nb=2\na=1\n"
            )
        );
    }

    #[test]
    fn a_reference_is_replaced_in_place() {
        let text = "[origin]\ncontainer-image-reference=x\ncustom-url=u\n";
        let next = text.parse::<Origin>().unwrap().following(&image(STABLE));
        assert_eq!(
            next.to_string(),
            format!("[origin]\ncontainer-image-reference={STABLE}\ncustom-url=u\n")
        );
    }

    #[test]
    fn who_vouched_is_kept_for_one_deployment() {
        let mut origin = Origin::of_image(&image(STABLE));
        assert_eq!(origin.vouched(), None);
        let by = VerifiedBy {
            kind: crate::trust::Kind::Sigstore,
            key: "/etc/keys/os.pub (sha256:\\ab)".into(),
            identity: "quay.io/example/os:stable".into(),
            digest: Some(crate::image::Digest::of(b"")),
        };
        origin.set_vouched(std::slice::from_ref(&by));
        let again: Origin = origin.to_string().parse().unwrap();
        assert_eq!(again.vouched(), Some(vec![by]));
        assert_eq!(again.inherited().vouched(), again.vouched());
        assert_eq!(again.following(&image(STABLE)).vouched(), None);
        origin.set_vouched(&[]);
        assert_eq!(origin.vouched(), Some(Vec::new()));
    }

    #[test]
    fn a_value_that_goes_takes_its_empty_group_along() {
        let mut origin = Origin::of_image(&image(STABLE));
        let before = origin.to_string();
        origin.set_value("mine", "a", Some("x y"));
        origin.set_value("mine", "b", Some("2"));
        assert_eq!(origin.to_string(), format!("{before}[mine]\na=x y\nb=2\n"));
        origin.set_value("mine", "a", None);
        origin.set_value("mine", "b", None);
        origin.set_value("other", "b", None);
        assert_eq!(origin.to_string(), before);
    }

    #[test]
    fn rpm_ostree_groups_are_local_changes() {
        for (text, local) in [
            (
                "[origin]\nbaserefspec=a:b\n[packages]\nrequested=vim;\n",
                true,
            ),
            ("[overrides]\nremove=x\n", true),
            ("[rpmostree]\nregenerate-initramfs=true\n", true),
            ("[modules]\n", true),
            (
                "[origin]\nrefspec=a:b\n[libostree-transient]\npinned=true\n",
                false,
            ),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.has_local_changes(), local, "{text}");
        }
    }

    #[test]
    fn broken_texts_name_the_line() {
        let parse = |text: &str| text.parse::<Origin>().unwrap_err();
        assert_eq!(parse("\na=b\n"), OriginError::NoGroup(2));
        let line = |line, text: &str| OriginError::Line {
            line,
            text: text.into(),
        };
        assert_eq!(parse("[origin]\nnonsense\n"), line(2, "nonsense"));
        assert_eq!(parse("[origin]\n=x\n"), line(2, "=x"));
        assert_eq!(parse(&"#".repeat(MAX_BYTES + 1)), OriginError::TooLarge);
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(text in "([\\[\\]a-c#= \\\\\n]|\\[a\\]\n|b=1\n){0,40}") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
            }
        }

        #[test]
        fn any_value_survives(value in "[ -~\n\t\r\\\\é]{0,30}") {
            let mut origin = Origin::default();
            origin.set("g", "k", &value);
            let again: Origin = origin.to_string().parse().unwrap();
            prop_assert_eq!(again.get("g", "k"), Some(value));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = text.parse::<Origin>();
        }
    }
}
