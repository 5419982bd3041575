//! What an update means for the host's own files, for people. An outlook comes in, lines go out.
//! Never prints, never reads a file.
//!
//! ```text
//! Merge of /etc: 2 local changes stay, 14 new defaults arrive
//!   The image has another default now, yours stays:
//!     /etc/ssh/sshd_config
//! ```

use std::fmt::Write as _;
use std::path::Path;

use super::text;
use crate::deploy::Outlook;
use crate::deploy::outlook::way_out;
use crate::etc_merge::{Default, Outcome, Preview};

/// Names that one list shows before it is cut.
const SHOWN: usize = 20;

/// Everything that a person should know before the update is staged.
pub fn outlook(outlook: &Outlook) -> String {
    let mut lines = merge(&outlook.etc);
    lines.push_str(&conflicts(outlook));
    if !outlook.etc.conflicts.is_empty() {
        lines.push_str("The update will be refused until this is resolved\n");
    }
    lines.push_str(&var(&outlook.var_left_behind));
    lines
}

/// What the journal should have when the update is finished at shutdown.
pub fn at_shutdown(outlook: &Outlook) -> String {
    let conflicts = conflicts(outlook);
    let doomed = match conflicts.is_empty() {
        true => "",
        false => "libostree cannot finish this update; the old system will boot again\n",
    };
    format!("{}{conflicts}{doomed}", merge(&outlook.etc))
}

/// What the merge of `/etc` will do.
pub fn merge(preview: &Preview) -> String {
    let count = |wanted: fn(Outcome) -> bool| preview.paths(wanted).len();
    let stays = count(|o| !matches!(o, Outcome::Arrives(_) | Outcome::Lost | Outcome::Skipped));
    let arrives = count(|o| matches!(o, Outcome::Arrives(_)));
    let mut lines = match (stays, arrives) {
        (0, 0) => "Merge of /etc: no local changes, no new defaults\n".to_owned(),
        _ => format!(
            "Merge of /etc: {}, {}\n",
            counted(stays, "local change stays", "local changes stay"),
            counted(arrives, "new default arrives", "new defaults arrive"),
        ),
    };
    for (title, wanted) in SECTIONS {
        lines.push_str(&section(title, &preview.paths(wanted)));
    }
    lines
}

/// What is worth a list, the most surprising first.
type Section = (&'static str, fn(Outcome) -> bool);
const SECTIONS: [Section; 7] = [
    ("The image has another default now, yours stays:", |o| {
        o == Outcome::Shadows(Default::Changed)
    }),
    ("The image brings its own now, yours stays:", |o| {
        o == Outcome::Shadows(Default::Added)
    }),
    ("The image has no default any more, yours stays:", |o| {
        o == Outcome::Shadows(Default::Dropped)
    }),
    ("Equal to the new default, follows the image again:", |o| {
        o == Outcome::Reverts
    }),
    (
        "Removed here, stays removed though the default changed:",
        |o| o == Outcome::Removed { shadows: true },
    ),
    ("Changed here, but the merge does not keep it:", |o| {
        o == Outcome::Lost
    }),
    ("No file, directory or link, left behind:", |o| {
        o == Outcome::Skipped
    }),
];

fn conflicts(outlook: &Outlook) -> String {
    let mut lines = String::new();
    for conflict in &outlook.etc.conflicts {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "  Conflict: {}", text::clean(&conflict.to_string()));
        let command = way_out(conflict, &outlook.root);
        let _ = writeln!(lines, "    Way out: {}", text::clean(&command));
    }
    lines
}

fn var(missing: &[std::path::PathBuf]) -> String {
    let Some(first) = missing.first() else {
        return String::new();
    };
    let more = match missing.len() {
        1 => String::new(),
        many => format!(" and {} more", many - 1),
    };
    format!(
        "Not on this host: /var/{}{more}, which the image brings; /var belongs to the host and is \
         not updated\n",
        text::clean(&first.display().to_string())
    )
}

fn section(title: &str, paths: &[&Path]) -> String {
    let mut lines = String::new();
    if paths.is_empty() {
        return lines;
    }
    let _ = writeln!(lines, "  {title}");
    for path in paths.iter().take(SHOWN) {
        let path = path.display().to_string();
        let _ = writeln!(lines, "    /etc/{}", text::clean(&path));
    }
    if paths.len() > SHOWN {
        let _ = writeln!(lines, "    and {} more", paths.len() - SHOWN);
    }
    lines
}

fn counted(number: usize, one: &str, many: &str) -> String {
    match number {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etc_merge::{Conflict, ConflictKind};

    fn preview(outcomes: &[(&str, Outcome)]) -> Preview {
        let outcomes = outcomes.iter().map(|(path, o)| (path.into(), *o));
        Preview {
            outcomes: outcomes.collect(),
            conflicts: Vec::new(),
        }
    }

    #[test]
    fn what_stays_and_what_arrives() {
        assert_eq!(
            merge(&preview(&[])),
            "Merge of /etc: no local changes, no new defaults\n"
        );
        let told = preview(&[
            ("a", Outcome::Shadows(Default::Changed)),
            ("b\n", Outcome::Reverts),
            ("c", Outcome::Arrives(Default::Added)),
            ("d", Outcome::Lost),
        ]);
        assert_eq!(
            merge(&told),
            "Merge of /etc: 2 local changes stay, 1 new default arrives\n\
             \x20 The image has another default now, yours stays:\n\
             \x20   /etc/a\n\
             \x20 Equal to the new default, follows the image again:\n\
             \x20   /etc/b\n\
             \x20 Changed here, but the merge does not keep it:\n\
             \x20   /etc/d\n"
        );
        let names: Vec<_> = (0..30).map(|i| format!("{i:02}")).collect();
        let many: Vec<_> = names.iter().map(|n| (n.as_str(), Outcome::Lost)).collect();
        let lines = merge(&preview(&many));
        assert!(lines.ends_with("/etc/19\n    and 10 more\n"), "{lines}");
    }

    #[test]
    fn conflicts_come_with_the_way_out() {
        let mut told = Outlook {
            etc: preview(&[]),
            var_left_behind: vec!["lib/a".into(), "lib/b".into()],
            root: "/".into(),
        };
        told.etc.conflicts.push(Conflict {
            path: "a".into(),
            at: "a".into(),
            kind: ConflictKind::NewDirectory,
            undo: "a".into(),
            has_default: true,
        });
        assert_eq!(
            outlook(&told),
            "Merge of /etc: no local changes, no new defaults\n\
             \x20 Conflict: /etc/a is no directory here, but the new image has one there\n\
             \x20   Way out: rm -rf /etc/a; cp -a /usr/etc/a /etc/a\n\
             The update will be refused until this is resolved\n\
             Not on this host: /var/lib/a and 1 more, which the image brings; /var belongs to the \
             host and is not updated\n"
        );
    }
}
