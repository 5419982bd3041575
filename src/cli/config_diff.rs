//! `config-diff`: local changes to `/etc` against the defaults of the image, for people or for
//! programs. Takes no lock and changes nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::args::{ConfigDiffArgs, Format};
use super::{Context, Outcome, text};
use crate::deploy::DeployError;
use crate::host::{
    ChangeKind, ConfigChange, ConfigDiff, Contents, NotShown, Side, config_diff, subject,
};
use crate::sysroot::Sysroot;

/// Prints the changes.
pub fn run(args: &ConfigDiffArgs, context: &Context) -> Result<Outcome> {
    let sysroot = Sysroot::open(&context.sysroot)?;
    let all = sysroot.deployments()?;
    let named = context.stateroot.as_deref();
    let nothing = || DeployError::NothingDeployed(named.map(str::to_owned));
    let deployment = subject(&all, named).ok_or_else(nothing)?;
    let contents = match (args.name_only, args.show_private) {
        (true, _) => Contents::None,
        (false, false) => Contents::Public,
        (false, true) => Contents::All,
    };
    let diff = config_diff(&sysroot, deployment, contents)?;
    let text = match (args.format, args.stat, args.name_only) {
        (_, true, _) => stat(&diff),
        (_, _, true) => names(&diff),
        (Format::Human, ..) => human(&diff),
        (Format::Yaml, ..) => serde_yaml_ng::to_string(&diff).context("Writing YAML")?,
        (Format::Json, ..) => {
            let text = serde_json::to_string_pretty(&diff).context("Writing JSON")?;
            format!("{text}\n")
        }
    };
    // Tabs are part of a diff; what could move the cursor is not.
    let harmless = |c: char| {
        if c.is_control() && !"\n\t".contains(c) {
            ' '
        } else {
            c
        }
    };
    let text: String = text.chars().map(harmless).collect();
    context.print_bytes(text.as_bytes())?;
    Ok(match diff.changes.is_empty() && args.unchanged_exit_77 {
        true => Outcome::Unchanged,
        false => Outcome::Done,
    })
}

fn names(diff: &ConfigDiff) -> String {
    let name = |change: &ConfigChange| format!("{}\n", one_line(&change.path));
    diff.changes.iter().map(name).collect()
}

fn stat(diff: &ConfigDiff) -> String {
    let row = |change: &ConfigChange| {
        vec![
            word(change.change).into(),
            match change.diff {
                Some(_) => format!("+{} -{}", change.lines_added, change.lines_removed),
                None => remark(change).unwrap_or_default(),
            },
            one_line(&change.path),
        ]
    };
    let rows: Vec<_> = diff.changes.iter().map(row).collect();
    let table = match rows.is_empty() {
        true => String::new(),
        false => text::table(&["CHANGE", "LINES", "PATH"], &rows),
    };
    format!("{table}{}\n", summary(diff))
}

fn human(diff: &ConfigDiff) -> String {
    let mut lines = String::new();
    for change in &diff.changes {
        let mut facts: Vec<String> = facts(change);
        facts.extend(remark(change));
        let facts = match facts.is_empty() {
            true => String::new(),
            false => format!(": {}", facts.join(", ")),
        };
        let (word, path) = (word(change.change), one_line(&change.path));
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{word} {path}{facts}");
        lines.push_str(change.diff.as_deref().unwrap_or_default());
    }
    lines + &summary(diff) + "\n"
}

fn summary(diff: &ConfigDiff) -> String {
    let count = |kind| diff.changes.iter().filter(|c| c.change == kind).count();
    match diff.changes.len() {
        0 => "No local changes to /etc".into(),
        _ => format!(
            "{} added, {} changed, {} removed",
            count(ChangeKind::Added),
            count(ChangeKind::Changed),
            count(ChangeKind::Removed)
        ),
    }
}

const fn word(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Added => "added",
        ChangeKind::Changed => "changed",
        ChangeKind::Removed => "removed",
    }
}

/// What differs beside the content.
fn facts(change: &ConfigChange) -> Vec<String> {
    let words = |side: &Side| match &side.target {
        Some(target) => format!("{} to {}", side.kind, one_line(target)),
        None => side.kind.to_owned(),
    };
    let (before, after) = match (&change.before, &change.after) {
        (Some(before), Some(after)) => (before, after),
        (Some(one), None) | (None, Some(one)) if one.kind != "file" => return vec![words(one)],
        _ => return Vec::new(),
    };
    let mut facts = Vec::new();
    let mut differs = |name: &str, before: String, after: String| {
        if before != after {
            facts.push(format!("{name}{before} -> {after}"));
        }
    };
    differs("", words(before), words(after));
    if before.kind == after.kind {
        differs("mode ", before.mode.clone(), after.mode.clone());
    }
    let owner = |side: &Side| format!("{}:{}", side.uid, side.gid);
    differs("owner ", owner(before), owner(after));
    facts
}

fn remark(change: &ConfigChange) -> Option<String> {
    Some(match change.not_shown? {
        NotShown::Private => "not for everybody to read, see --show-private".into(),
        NotShown::Binary => "binary".into(),
        NotShown::TooLarge => "larger than 1 MiB".into(),
    })
}

fn one_line(name: &str) -> String {
    name.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(kind: &'static str, mode: &str, target: Option<&str>) -> Option<Side> {
        Some(Side {
            kind,
            mode: mode.into(),
            uid: 0,
            gid: 0,
            target: target.map(str::to_owned),
        })
    }

    fn change(path: &str, before: Option<Side>, after: Option<Side>) -> ConfigChange {
        ConfigChange {
            path: path.into(),
            change: match (&before, &after) {
                (None, _) => ChangeKind::Added,
                (_, None) => ChangeKind::Removed,
                _ => ChangeKind::Changed,
            },
            before,
            after,
            diff: None,
            not_shown: None,
            lines_added: 0,
            lines_removed: 0,
        }
    }

    #[test]
    fn people_see_what_changed_and_how() {
        let file = || side("file", "0644", None);
        let mut edited = change("/etc/a", file(), file());
        edited.diff = Some("--- /usr/etc/a\n+++ /etc/a\n@@ -1 +1 @@\n-1\n+2\n".into());
        (edited.lines_added, edited.lines_removed) = (1, 1);
        let mut secret = change("/etc/s", None, side("file", "0600", None));
        secret.not_shown = Some(NotShown::Private);
        let mut diff = ConfigDiff {
            deployment: "os/1.0".into(),
            changes: vec![
                edited,
                change("/etc/d", side("directory", "0755", None), None),
                change(
                    "/etc/l\n",
                    side("link", "0777", Some("x")),
                    side("link", "0777", Some("y")),
                ),
                change("/etc/m", file(), side("file", "0600", None)),
                secret,
            ],
        };
        assert_eq!(
            human(&diff),
            "changed /etc/a\n--- /usr/etc/a\n+++ /etc/a\n@@ -1 +1 @@\n-1\n+2\n\
             removed /etc/d: directory\n\
             changed /etc/l?: link to x -> link to y\n\
             changed /etc/m: mode 0644 -> 0600\n\
             added /etc/s: not for everybody to read, see --show-private\n\
             1 added, 3 changed, 1 removed\n"
        );
        diff.changes.truncate(1);
        assert_eq!(
            stat(&diff),
            "CHANGE   LINES  PATH\nchanged  +1 -1  /etc/a\n0 added, 1 changed, 0 removed\n"
        );
        assert_eq!(names(&diff), "/etc/a\n");
        diff.changes.clear();
        assert_eq!(human(&diff), "No local changes to /etc\n");
        assert_eq!(stat(&diff), "No local changes to /etc\n");
    }
}
