//! The merge in words of a person: one outcome per path that somebody should know about. Three
//! trees come in, a preview that can be serialised goes out. Pure.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::tree::Place;
use super::{Conflict, Entry, Kind, Merged, Specials, Tree, merge};

/// What the new image does with a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Default {
    /// The old image has none.
    Added,
    /// It differs.
    Changed,
    /// The new image has none.
    Dropped,
}

impl Default {
    fn of(old: Option<&Entry>, new: Option<&Entry>) -> Option<Self> {
        match (old, new) {
            (None, Some(_)) => Some(Self::Added),
            (Some(_), None) => Some(Self::Dropped),
            (Some(old), Some(new)) if old != new => Some(Self::Changed),
            _ => None,
        }
    }
}

/// What becomes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Changed here, and the default stays: the local one is kept.
    Kept,
    /// The default changes, but the local one is kept and hides that.
    Shadows(Default),
    /// Changed here, and equal to the new default: it follows the defaults from now on.
    Reverts,
    /// Made here and in neither image: it is kept.
    Added,
    /// Removed here, and removed from the new defaults as well.
    Removed {
        /// Whether the new image has another default than the old one.
        shadows: bool,
    },
    /// Changed here, but libostree's merge does not take it over.
    Lost,
    /// A fifo, socket or device made here, which the merge leaves behind.
    Skipped,
    /// Not changed here: the new default arrives, or goes.
    Arrives(Default),
}

/// What a merge will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Outcomes by path below `/etc`, sorted. What is as before and stays so is left out, and of
    /// a directory that is only here, or only removed here, what it holds.
    pub outcomes: Vec<(PathBuf, Outcome)>,
    /// Why the merge cannot be done; empty where it can.
    pub conflicts: Vec<Conflict>,
}

impl Preview {
    /// Paths with an outcome that `wanted` picks.
    pub fn paths(&self, wanted: impl Fn(Outcome) -> bool) -> Vec<&Path> {
        let picked = self.outcomes.iter().filter(|(_, outcome)| wanted(*outcome));
        picked.map(|(path, _)| path.as_path()).collect()
    }
}

/// Foretells the merge into an image with the defaults `new` on a host whose `/etc` is `current`
/// and whose image has the defaults `old`.
pub fn preview(old: &Tree, current: &Tree, new: &Tree, specials: Specials) -> Preview {
    let Merged {
        tree: merged,
        conflicts,
    } = merge(old, current, new, specials);
    let mut paths: Vec<&Path> = [old, current, new]
        .iter()
        .flat_map(|t| t.iter())
        .map(|(p, _)| p)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    let mut outcomes: Vec<(PathBuf, Outcome)> = Vec::new();
    // Told of as a whole.
    let mut closed: Option<&Path> = None;
    for path in paths {
        let in_conflict = conflicts.iter().any(|c| path.starts_with(&c.undo));
        if in_conflict || path == Path::new(".updated") {
            continue;
        }
        let sides = Sides {
            old: old.get(path),
            current: current.get(path),
            new: new.get(path),
            merged: match merged.find(path, false) {
                Place::At(place) => merged.get(&place),
                _ => None,
            },
        };
        let Some(outcome) = sides.outcome() else {
            continue;
        };
        let quiet = closed.is_some_and(|top| path.starts_with(top));
        if quiet && outcome != Outcome::Skipped {
            continue;
        }
        if !quiet && matches!(outcome, Outcome::Added | Outcome::Removed { .. }) {
            closed = Some(path);
        }
        outcomes.push((path.to_owned(), outcome));
    }
    Preview {
        outcomes,
        conflicts,
    }
}

/// What stands at one path.
struct Sides<'a> {
    old: Option<&'a Entry>,
    current: Option<&'a Entry>,
    new: Option<&'a Entry>,
    merged: Option<&'a Entry>,
}

impl Sides<'_> {
    fn outcome(&self) -> Option<Outcome> {
        let default = Default::of(self.old, self.new);
        match self.current {
            Some(ours) if ours.kind == Kind::Special => Some(Outcome::Skipped),
            None if self.old.is_some() => self.removed(default),
            None => default
                .map(Outcome::Arrives)
                .filter(|_| self.counts(self.new)),
            Some(_) if self.current == self.old => self.untouched(default),
            Some(_) => self.changed(default),
        }
    }

    fn removed(&self, default: Option<Default>) -> Option<Outcome> {
        let shadows = default == Some(Default::Changed);
        self.new.map(|_| match self.merged {
            None => Outcome::Removed { shadows },
            Some(_) => Outcome::Lost,
        })
    }

    fn untouched(&self, default: Option<Default>) -> Option<Outcome> {
        let default = default?;
        let arrives = self.merged == self.new;
        // A directory that stays only because of what is in it is not worth a word.
        let counts = match default {
            Default::Changed => true,
            Default::Added | Default::Dropped => self.counts(self.current),
        };
        counts.then_some(match arrives {
            true => Outcome::Arrives(default),
            false => Outcome::Shadows(default),
        })
    }

    fn changed(&self, default: Option<Default>) -> Option<Outcome> {
        let is_dir = |entry: Option<&Entry>| entry.is_some_and(Entry::is_dir);
        if self.current == self.new {
            // Two made the same directory.
            let trivial = is_dir(self.current) && self.old.is_none();
            return (!trivial).then_some(Outcome::Reverts);
        }
        if self.merged != self.current {
            return Some(Outcome::Lost);
        }
        Some(match default {
            Some(default) => Outcome::Shadows(default),
            None if self.old.is_none() => Outcome::Added,
            None => Outcome::Kept,
        })
    }

    /// Directories come and go with what they hold.
    fn counts(&self, entry: Option<&Entry>) -> bool {
        entry.is_some_and(|entry| !entry.is_dir())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::tests::tree;
    use super::*;

    const SKIPPED: Specials = Specials::Skipped;

    fn told(old: &str, current: &str, new: &str) -> Preview {
        preview(&tree(old), &tree(current), &tree(new), SKIPPED)
    }

    #[test]
    fn each_row_of_the_merge_table() {
        use super::Default::{Added, Changed, Dropped};
        use Outcome as O;
        let untouched_removal = O::Removed { shadows: false };
        for (old, current, new, outcomes) in [
            ("a=1", "a=1", "a=1", vec![]),
            ("a=1", "a=1", "a=2", vec![("a", O::Arrives(Changed))]),
            ("a=1", "a=1", "", vec![("a", O::Arrives(Dropped))]),
            ("", "", "a=1", vec![("a", O::Arrives(Added))]),
            ("", "", "d/ d/a=1", vec![("d/a", O::Arrives(Added))]),
            ("d/", "d/", "d/@700", vec![("d", O::Arrives(Changed))]),
            ("a=1", "a=3", "a=1", vec![("a", O::Kept)]),
            ("a=1", "a=1@600", "a=1", vec![("a", O::Kept)]),
            ("a=1", "a=3", "a=2", vec![("a", O::Shadows(Changed))]),
            ("a=1", "a=3", "", vec![("a", O::Shadows(Dropped))]),
            ("", "a=3", "a=2", vec![("a", O::Shadows(Added))]),
            ("a=1", "a=2", "a=2", vec![("a", O::Reverts)]),
            ("", "a=2", "a=2", vec![("a", O::Reverts)]),
            ("", "a>x", "a>x", vec![("a", O::Reverts)]),
            ("", "a=1", "", vec![("a", O::Added)]),
            (
                "",
                "d/ d/a=1 d/p| e=1",
                "",
                vec![("d", O::Added), ("d/p", O::Skipped), ("e", O::Added)],
            ),
            (
                "",
                "d/ d/a=1",
                "d/ d/b=2",
                vec![("d/a", O::Added), ("d/b", O::Arrives(Added))],
            ),
            ("a=1", "", "a=1", vec![("a", untouched_removal)]),
            ("a=1", "", "a=2", vec![("a", O::Removed { shadows: true })]),
            ("a=1", "", "", vec![]),
            (
                "d/ d/a=1",
                "",
                "d/ d/a=1 d/b=1",
                vec![("d", untouched_removal)],
            ),
            ("", "p|", "", vec![("p", O::Skipped)]),
            ("a=1", "a|", "a=1", vec![("a", O::Skipped)]),
            ("d/", "d/@700", "d/", vec![("d", O::Lost)]),
            (
                "d/",
                "d/@700 d/a=1",
                "d/",
                vec![("d", O::Kept), ("d/a", O::Added)],
            ),
            (
                "d/",
                "d/ d/a=1",
                "d/@700",
                vec![("d", O::Shadows(Changed)), ("d/a", O::Added)],
            ),
            ("d/", "d/ d/a=1", "", vec![("d/a", O::Added)]),
            (
                "d/ d/x=1",
                "d/@700 d/x=1",
                "",
                vec![("d", O::Shadows(Dropped)), ("d/x", O::Shadows(Dropped))],
            ),
            (
                "a=1",
                "a/ a/x=1",
                "a/",
                vec![("a", O::Reverts), ("a/x", O::Lost)],
            ),
            ("", ".updated=1", "", vec![]),
        ] {
            let found = told(old, current, new);
            let expected: Vec<_> = outcomes
                .iter()
                .map(|(p, o)| (PathBuf::from(p), *o))
                .collect();
            assert_eq!(found.outcomes, expected, "{old} | {current} | {new}");
            assert_eq!(found.conflicts, [], "{old} | {current} | {new}");
        }
        let found = told("a=1 b=1", "a=2 b=1", "a/ a/x=1 b=2");
        assert_eq!(found.outcomes, [("b".into(), O::Arrives(Changed))]);
        assert_eq!(found.conflicts.len(), 1);
    }

    fn small() -> impl Strategy<Value = Tree> {
        let word = prop::sample::select(vec![
            "a=1",
            "a=2",
            "a=1@600",
            "a/",
            "a/ a/x=1",
            "a/@700 a/x=2",
            "a>b",
            "b/",
            "b/ b/y=1",
            "b=1",
            "c|",
            "c=1",
        ]);
        let trees = prop::collection::vec(word, 0..4).prop_map(|words| tree(&words.join(" ")));
        // One type per name.
        trees.prop_filter("a file holds nothing", |tree| {
            tree.iter().all(|(path, _)| {
                let parent = path.parent().filter(|p| *p != Path::new(""));
                parent.is_none_or(|parent| tree.get(parent).is_some_and(Entry::is_dir))
            })
        })
    }

    proptest! {
        #[test]
        fn laws_of_the_merge(old in small(), current in small(), new in small()) {
            // Nothing changed here: the new defaults, whatever they are.
            prop_assert_eq!(merge(&old, &old, &new, SKIPPED), Merged { tree: new.clone(), conflicts: vec![] });
            // Nothing new in the image: nothing shadows, reverts or arrives.
            let same = preview(&old, &current, &old, SKIPPED);
            let moves = |o: Outcome| matches!(o, Outcome::Shadows(_) | Outcome::Reverts | Outcome::Arrives(_));
            prop_assert_eq!(same.paths(moves), Vec::<&Path>::new());
            let merged = merge(&old, &current, &new, SKIPPED);
            let told = preview(&old, &current, &new, SKIPPED);
            prop_assert_eq!(&told.conflicts, &merged.conflicts);
            prop_assume!(merged.conflicts.is_empty());
            // A local file stays as it is, unless the preview says that it does not.
            for (path, entry) in current.iter().filter(|(p, e)| !e.is_dir() && old.get(p) != Some(*e)) {
                let lost = told.outcomes.iter().any(|(p, o)| {
                    p == path && matches!(o, Outcome::Lost | Outcome::Skipped)
                });
                let stays = matches!(merged.tree.find(path, false), Place::At(p) if merged.tree.get(&p) == Some(entry));
                prop_assert!(stays != lost, "{}: {:?}", path.display(), told);
            }
            // What one merge made, the next one takes.
            prop_assert_eq!(merge(&new, &merged.tree, &new, SKIPPED).conflicts, vec![]);
        }
    }
}
