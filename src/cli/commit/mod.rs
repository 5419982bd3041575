//! `commit diff`: what differs between two commits of a repository. Arguments come in, a report is printed.
//! Changes nothing.

pub mod args;

use anyhow::Result;

use self::args::{CommitArgs, CommitCommand, DiffArgs};
use super::container::{format, packages};
use super::{Context, Outcome, image, text};
use crate::build::{CommitDiff, DiffFile, commit_diff};

/// Runs what was asked for.
pub fn run(args: &CommitArgs, context: &Context) -> Result<Outcome> {
    match &args.command {
        CommitCommand::Diff(args) => diff(args, context),
    }
}

fn diff(args: &DiffArgs, context: &Context) -> Result<Outcome> {
    let repo = image::open(&args.repo)?;
    let old = repo.commit_facts(repo.commit_of(&args.old)?)?;
    let new = repo.commit_facts(repo.commit_of(&args.new)?)?;
    let found = commit_diff(&repo, &old, &new, &args.subdir)?;
    context.print(&format(args.format, human, &found)?)?;
    Ok(Outcome::Done)
}

/// A line for each file, marked as by `ostree diff`, and the packages.
fn human(found: &CommitDiff) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for (mark, files) in [
        ('M', &found.changed),
        ('D', &found.removed),
        ('A', &found.added),
    ] {
        lines.extend(
            files
                .iter()
                .map(|file| (file.path.as_str(), line(mark, file))),
        );
    }
    lines.sort();
    let mut report: String = lines.into_iter().map(|(_, line)| line).collect();
    let (added, changed) = (found.added.len(), found.changed.len());
    let removed = text::count(found.removed.len(), "file");
    report += &format!("{removed} removed, {added} added, {changed} changed\n\n");
    report + &packages(&found.packages, false)
}

fn line(mark: char, file: &DiffFile) -> String {
    let path = text::clean(&file.path);
    match &file.package {
        Some(package) => format!("{mark} {path}  ({})\n", text::clean(package)),
        None => format!("{mark} {path}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::compare::PackageChanges;

    #[test]
    fn files_stand_in_the_order_of_their_paths() {
        let file = |path: &str, package: Option<&str>| DiffFile {
            path: path.into(),
            package: package.map(str::to_string),
        };
        let found = CommitDiff {
            added: vec![file("/b", Some("new"))],
            removed: vec![file("/a", None)],
            changed: vec![file("/c\u{7}", None)],
            packages: PackageChanges::default(),
        };
        let wanted = "D /a\nA /b  (new)\nM /c\n1 file removed, 1 added, 1 changed\n\n\
                      0 packages removed, 0 added, 0 changed\n";
        assert_eq!(human(&found), wanted);
    }
}
