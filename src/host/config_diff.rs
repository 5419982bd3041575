//! What was changed in `/etc` against the defaults of the image that runs: a deployment comes in,
//! changes with unified diffs go out. Reads only. Content that not everybody may read is left out
//! unless it is asked for.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use crate::etc_merge::{self, Entry, Kind, Tree};
use crate::sysroot::{Deployment, Sysroot, booted, merge_from};

/// Largest file whose content is compared line by line, in bytes.
const MAX_CONTENT: u64 = 1 << 20;
/// Bytes that are searched for a zero byte, which no text has; git looks at as many.
const BINARY_PROBE: usize = 8000;
/// Unchanged lines around each change, as diff(1) has them.
const CONTEXT: usize = 3;

/// Whose content is read and compared line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Nobody's: paths are all that is wanted.
    None,
    /// That of files which everybody may read.
    Public,
    /// Everybody's.
    All,
}

/// All local changes of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigDiff {
    /// The deployment: stateroot, commit and serial.
    pub deployment: String,
    /// The changes, sorted by path.
    pub changes: Vec<ConfigChange>,
}

/// One path that is not as the image has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigChange {
    /// Its path on the running system.
    pub path: String,
    /// What was done to it.
    pub change: ChangeKind,
    /// The default.
    pub before: Option<Side>,
    /// What is there now.
    pub after: Option<Side>,
    /// How the content differs, as a unified diff; null where it does not, or where it is not
    /// shown.
    pub diff: Option<String>,
    /// Why a difference in content is not shown.
    pub not_shown: Option<NotShown>,
    /// Lines that came.
    pub lines_added: usize,
    /// Lines that went.
    pub lines_removed: usize,
}

/// What was done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    /// The image has none.
    Added,
    /// It differs.
    Changed,
    /// The image has one, the host has not.
    Removed,
}

/// Why a difference in content is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NotShown {
    /// Not everybody may read it.
    Private,
    /// It is no text.
    Binary,
    /// It is larger than 1 MiB.
    TooLarge,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// `file`, `directory`, `link` or `special`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Permission bits, octal.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Where a link points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The deployment that is asked about: the booted one, else the one that boots next; of the
/// stateroot `named`, where there is a name.
pub fn subject<'a>(all: &'a [Deployment], named: Option<&str>) -> Option<&'a Deployment> {
    let home = booted(all).or(all.first())?;
    merge_from(all, named.unwrap_or(&home.id.stateroot))
}

/// Compares the `/etc` of a deployment with its defaults.
#[context("Comparing /etc of {} with its defaults", deployment.id)]
pub fn config_diff(
    sysroot: &Sysroot,
    deployment: &Deployment,
    contents: Contents,
) -> Result<ConfigDiff> {
    let directory = sysroot.directory(&deployment.id);
    let defaults = sysroot.defaults_of_deployment(&deployment.id)?;
    let current = sysroot.etc_beside_defaults(&deployment.id, &defaults)?;
    let changes = changes(&directory, &defaults, &current, contents)?;
    let deployment = deployment.id.to_string();
    Ok(ConfigDiff {
        deployment,
        changes,
    })
}

fn changes(
    directory: &Path,
    defaults: &Tree,
    current: &Tree,
    contents: Contents,
) -> Result<Vec<ConfigChange>> {
    let changes = etc_merge::changes(defaults, current);
    let change = |change: etc_merge::Change<'_>| {
        let (before, after) = (change.before, change.after);
        let mut told = ConfigChange {
            path: Path::new("/etc").join(&change.path).display().to_string(),
            change: match (before, after) {
                (None, _) => ChangeKind::Added,
                (_, None) => ChangeKind::Removed,
                _ => ChangeKind::Changed,
            },
            before: before.map(side),
            after: after.map(side),
            diff: None,
            not_shown: None,
            lines_added: 0,
            lines_removed: 0,
        };
        if contents != Contents::None && content(before) != content(after) {
            if contents == Contents::Public && (is_private(before) || is_private(after)) {
                told.not_shown = Some(NotShown::Private);
            } else {
                let places = ["usr/etc", "etc"].map(|etc| directory.join(etc).join(&change.path));
                compare(&mut told, places)?;
            }
        }
        Ok(told)
    };
    changes.into_iter().map(change).collect()
}

/// Fills in how the content of two files differs.
fn compare(told: &mut ConfigChange, [before, after]: [PathBuf; 2]) -> Result<()> {
    let text = |side: &Option<Side>, path: &Path| match side {
        Some(side) if side.kind == "file" => text(path),
        _ => Ok(Ok(String::new())),
    };
    let (old, new) = (text(&told.before, &before)?, text(&told.after, &after)?);
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(reason), _) | (_, Err(reason)) => {
            told.not_shown = Some(reason);
            return Ok(());
        }
    };
    let diff = TextDiff::from_lines(&old, &new);
    let count = |tag| diff.iter_all_changes().filter(|c| c.tag() == tag).count();
    told.lines_added = count(ChangeTag::Insert);
    told.lines_removed = count(ChangeTag::Delete);
    // A line break in a name must not make a line of the diff.
    let path = told.path.replace(char::is_control, "?");
    let name = |side: &Option<Side>, prefix: &str| match side {
        Some(side) if side.kind == "file" => format!("{prefix}{path}"),
        _ => "/dev/null".into(),
    };
    let names = (name(&told.before, "/usr"), name(&told.after, ""));
    let mut unified = diff.unified_diff();
    let unified = unified.context_radius(CONTEXT).header(&names.0, &names.1);
    told.diff = Some(unified.to_string()).filter(|text| !text.is_empty());
    Ok(())
}

/// The text of a file, or why there is none to show.
fn text(path: &Path) -> Result<Result<String, NotShown>> {
    let what = || format!("Reading {}", path.display());
    let mut data = Vec::new();
    let file = File::open(path).with_context(what)?;
    if file.metadata().with_context(what)?.len() > MAX_CONTENT {
        return Ok(Err(NotShown::TooLarge));
    }
    // It may have grown since.
    let read = file.take(MAX_CONTENT + 1).read_to_end(&mut data);
    read.with_context(what)?;
    if data.len() as u64 > MAX_CONTENT {
        return Ok(Err(NotShown::TooLarge));
    }
    if data.iter().take(BINARY_PROBE).any(|byte| *byte == 0) {
        return Ok(Err(NotShown::Binary));
    }
    Ok(String::from_utf8(data).map_err(|_| NotShown::Binary))
}

fn content(entry: Option<&Entry>) -> Option<&Kind> {
    let kind = entry.map(|entry| &entry.kind);
    kind.filter(|kind| matches!(kind, Kind::File { .. }))
}

/// Whether somebody may not read it. A link says its own target to everybody.
fn is_private(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.mode & 0o004 == 0)
}

fn side(entry: &Entry) -> Side {
    let (kind, target) = match &entry.kind {
        Kind::Directory => ("directory", None),
        Kind::File { .. } => ("file", None),
        Kind::Link(target) => ("link", Some(target.display().to_string())),
        Kind::Special => ("special", None),
    };
    Side {
        kind,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        target,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn diff(contents: Contents) -> Vec<ConfigChange> {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, data: &[u8], mode| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, data).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, old, new) in [
            ("text", "a\nb\n", "a\nc"),
            ("secret", "old\n", "new\n"),
            ("same", "x", "x"),
            ("mode", "x", "x"),
        ] {
            let bits = if path == "secret" { 0o640 } else { 0o644 };
            write(&format!("usr/etc/{path}"), old.as_bytes(), bits);
            let bits = if path == "mode" { 0o600 } else { bits };
            write(&format!("etc/{path}"), new.as_bytes(), bits);
        }
        write("etc/binary", b"\0\x01", 0o644);
        write("etc/latin1", b"\xe4\n", 0o644);
        // Far more than anybody could read here.
        write("etc/large", b"x", 0o644);
        let large = File::options()
            .write(true)
            .open(dir.path().join("etc/large"));
        large.unwrap().set_len(1 << 36).unwrap();
        write("etc/new.d/file", b"n\n", 0o644);
        write("etc/odd\n+name", b"o\n", 0o644);
        write("usr/etc/gone", b"g\n", 0o644);
        write("usr/etc/retyped", b"r\n", 0o644);
        symlink("same", dir.path().join("etc/retyped")).unwrap();
        let defaults = etc_merge::list(&dir.path().join("usr/etc")).unwrap();
        let current = etc_merge::list_beside(&dir.path().join("etc"), &defaults).unwrap();
        changes(dir.path(), &defaults, &current, contents).unwrap()
    }

    #[test]
    fn each_change_says_as_much_as_it_may() {
        let changes = diff(Contents::Public);
        let told: Vec<_> = changes
            .iter()
            .map(|c| (&c.path[5..], c.change, c.not_shown, c.diff.is_some()))
            .collect();
        use ChangeKind::{Added, Changed, Removed};
        assert_eq!(
            told,
            [
                ("binary", Added, Some(NotShown::Binary), false),
                ("gone", Removed, None, true),
                ("large", Added, Some(NotShown::TooLarge), false),
                ("latin1", Added, Some(NotShown::Binary), false),
                ("mode", Changed, None, false),
                ("new.d", Added, None, false),
                ("new.d/file", Added, None, true),
                ("odd\n+name", Added, None, true),
                ("retyped", Changed, None, true),
                ("secret", Changed, Some(NotShown::Private), false),
                ("text", Changed, None, true),
            ]
        );
        let text = changes.last().unwrap();
        assert_eq!((text.lines_added, text.lines_removed), (1, 1));
        assert_eq!(
            text.diff.as_deref().unwrap(),
            "--- /usr/etc/text\n+++ /etc/text\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\
             \\ No newline at end of file\n"
        );
        let odd = changes[7].diff.as_deref().unwrap();
        assert!(odd.contains("+++ /etc/odd?+name\n"), "{odd}");
        let retyped = changes[8].diff.as_deref().unwrap();
        assert!(retyped.contains("+++ /dev/null\n"), "{retyped}");
        assert_eq!(
            changes[8].after.as_ref().unwrap().target.as_deref(),
            Some("same")
        );
    }

    #[test]
    fn for_names_alone_no_content_is_read() {
        let paths = |contents| -> Vec<_> { diff(contents).into_iter().map(|c| c.path).collect() };
        assert_eq!(paths(Contents::None), paths(Contents::Public));
        let told = |c: &ConfigChange| c.diff.is_some() || c.not_shown.is_some();
        assert!(!diff(Contents::None).iter().any(told));
    }

    #[test]
    fn secrets_are_shown_only_when_asked_for() {
        let secret = diff(Contents::All).swap_remove(9);
        assert_eq!(secret.not_shown, None);
        assert!(secret.diff.unwrap().ends_with("-old\n+new\n"));
    }
}
