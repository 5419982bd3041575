//! What was changed locally. Two trees come in; the merge's own view of the difference, and a
//! complete one for people, go out. Pure.

use std::path::{Path, PathBuf};

use super::{Entry, Tree};

/// The difference as libostree's merge sees it: it does not look into what was removed, nor
/// below an entry whose type changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MergeDiff<'a> {
    pub removed: Vec<&'a Path>,
    pub modified: Vec<&'a Path>,
    pub added: Vec<&'a Path>,
}

pub(super) fn merge_diff<'a>(old: &'a Tree, current: &'a Tree) -> MergeDiff<'a> {
    let mut diff = MergeDiff::default();
    // Nothing below this is looked at.
    let mut closed: Option<&Path> = None;
    let mut retyped: Vec<&Path> = Vec::new();
    for (path, before) in old.iter() {
        if closed.is_some_and(|top| path.starts_with(top)) {
            continue;
        }
        match current.get(path) {
            None => {
                diff.removed.push(path);
                closed = Some(path);
            }
            Some(now) if !now.kind.same_type(&before.kind) => {
                diff.modified.push(path);
                retyped.push(path);
                closed = Some(path);
            }
            Some(now) if now != before => diff.modified.push(path),
            Some(_) => {}
        }
    }
    let is_new = |path: &Path| {
        let retyped = path.ancestors().any(|above| retyped.contains(&above));
        old.get(path).is_none() && !retyped
    };
    let paths = current.iter().map(|(path, _)| path);
    diff.added = paths.filter(|path| is_new(path)).collect();
    diff
}

/// One local change, with both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// Path below `/etc`.
    pub path: PathBuf,
    /// The default; `None` where the path was added.
    pub before: Option<&'a Entry>,
    /// What is there now; `None` where it was removed.
    pub after: Option<&'a Entry>,
}

/// Every path at which `current` is not what `old` has, in the order of paths.
pub fn changes<'a>(old: &'a Tree, current: &'a Tree) -> Vec<Change<'a>> {
    let change = |path: &Path| Change {
        path: path.to_owned(),
        before: old.get(path),
        after: current.get(path),
    };
    let gone_or_changed = old.iter().map(|(path, _)| change(path));
    let added = current.iter().filter(|(path, _)| old.get(path).is_none());
    let all = gone_or_changed.chain(added.map(|(path, _)| change(path)));
    let mut all: Vec<_> = all.filter(|c| c.before != c.after).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::tree;
    use super::*;

    #[test]
    fn the_merge_does_not_look_below_what_changed_its_type() {
        let old = tree("a=1 b=1 c/ c/x=1 d/ d/x=1 e/ e/x=1 f=1 g/");
        let current = tree("a=1 b=2 d/ d/x=1 d/y=1 e>a f/ f/y/ g/@700 h/ h/i=1");
        let diff = merge_diff(&old, &current);
        let paths = |list: &[&str]| -> Vec<PathBuf> { list.iter().map(PathBuf::from).collect() };
        assert_eq!(diff.removed, paths(&["c"]));
        assert_eq!(diff.modified, paths(&["b", "e", "f", "g"]));
        assert_eq!(diff.added, paths(&["d/y", "h", "h/i"]));
        let all: Vec<_> = changes(&old, &current)
            .into_iter()
            .map(|c| c.path)
            .collect();
        let expected = [
            "b", "c", "c/x", "d/y", "e", "e/x", "f", "f/y", "g", "h", "h/i",
        ];
        assert_eq!(all, paths(&expected));
    }
}
