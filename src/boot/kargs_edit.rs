//! Changes that a person makes to kernel arguments. A wish and a list come in; the changed list
//! and what was added and removed go out, or what stands against it. Pure.

use thiserror::Error;

use super::kargs::{Karg, KernelArgs};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Put an argument at the end, even if it is there.
    Append(Karg),
    /// Put an argument at the end unless it is there.
    AppendIfMissing(Karg),
    /// Put an argument at the end, once: where it stood before, it is taken away.
    PutLast(Karg),
    /// Remove `key=value`, or the one argument of `key`; it must be there.
    Delete(String),
    /// The same, but it need not be there.
    DeleteIfPresent(String),
    /// Remove `key=value`, or all arguments of `key`.
    DeleteAll(String),
    /// Replace in place: `key=old=new`, or `key=new` where the key has one argument.
    Replace(String),
    /// Let the list be this one.
    Set(KernelArgs),
}

/// A change that cannot be made. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// There is no such argument.
    #[error("there is no kernel argument {wanted}{}", instead(there))]
    NotThere {
        /// What was to be changed.
        wanted: String,
        /// What the key has instead.
        there: Vec<String>,
    },
    /// The key has several arguments, and it was not said which is meant.
    #[error("{key} has several values: {}", there.join(", "))]
    Several {
        /// The key.
        key: String,
        /// Its arguments.
        there: Vec<String>,
    },
    /// Neither `KEY=NEW` nor `KEY=OLD=NEW`.
    #[error("{0:?} says no new value: write KEY=NEW or KEY=OLD=NEW")]
    NoValue(String),
    /// What would be put in is no argument.
    #[error(transparent)]
    Karg(#[from] super::kargs::KargError),
}

fn instead(there: &[String]) -> String {
    match there {
        [] => String::new(),
        there => format!("; there is {}", there.join(", ")),
    }
}

/// What a change did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What the person asked for and now is there, perhaps was there before.
    pub wanted: Vec<Karg>,
    /// What was there and is no longer.
    pub removed: Vec<Karg>,
}

impl Edit {
    /// Makes the change.
    pub fn apply(&self, args: &mut KernelArgs) -> Result<Change, EditError> {
        match self {
            Self::Append(arg) => {
                args.append(arg.clone());
                Ok(Change::wanting(arg))
            }
            Self::AppendIfMissing(arg) => {
                args.append_if_missing(arg);
                Ok(Change::wanting(arg))
            }
            Self::PutLast(arg) => {
                args.remove(arg);
                args.append(arg.clone());
                Ok(Change::wanting(arg))
            }
            Self::Delete(text) => {
                let found = find(args, text)?;
                Ok(remove(args, found))
            }
            Self::DeleteIfPresent(text) => match find(args, text) {
                Ok(found) => Ok(remove(args, found)),
                Err(EditError::NotThere { .. }) => Ok(Change::default()),
                Err(error) => Err(error),
            },
            Self::DeleteAll(text) => {
                let all = args.of_key(text).into_iter().cloned().collect();
                let found = find(args, text).unwrap_or(all);
                Ok(remove(args, found))
            }
            Self::Replace(text) => replace(args, text),
            Self::Set(list) => {
                let removed = args.filtered(|arg| !list.contains(arg));
                *args = list.clone();
                Ok(Change {
                    wanted: Vec::new(),
                    removed: removed.iter().cloned().collect(),
                })
            }
        }
    }
}

impl Change {
    fn wanting(arg: &Karg) -> Self {
        Self {
            wanted: vec![arg.clone()],
            removed: Vec::new(),
        }
    }
}

/// The arguments that a text names: the very one, else the only one of that key.
fn find(args: &KernelArgs, text: &str) -> Result<Vec<Karg>, EditError> {
    let words = KernelArgs::parse(text);
    let mut words = words.iter();
    let (Some(wanted), None) = (words.next(), words.next()) else {
        // Says what is wrong with it.
        return Ok(vec![Karg::new(text)?]);
    };
    if let Some(exact) = args.iter().find(|arg| arg.same(wanted)) {
        return Ok(vec![exact.clone()]);
    }
    let there = args.of_key(wanted.key());
    match (wanted.value(), &there[..]) {
        (None, [only]) => Ok(vec![(*only).clone()]),
        (None, [_, _, ..]) => Err(EditError::Several {
            key: wanted.key().into(),
            there: texts(&there),
        }),
        _ => Err(EditError::NotThere {
            wanted: text.into(),
            there: texts(&there),
        }),
    }
}

fn texts(args: &[&Karg]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

fn remove(args: &mut KernelArgs, removed: Vec<Karg>) -> Change {
    for arg in &removed {
        args.remove(arg);
    }
    let wanted = Vec::new();
    Change { wanted, removed }
}

fn replace(args: &mut KernelArgs, text: &str) -> Result<Change, EditError> {
    let (key, rest) = text
        .split_once('=')
        .ok_or_else(|| EditError::NoValue(text.into()))?;
    let (old, new) = replacement(args, key, rest)?;
    let new = Karg::new(&format!("{key}={new}"))?;
    args.replace(&old, &new);
    let removed = if old.same(&new) { vec![] } else { vec![old] };
    let wanted = vec![new];
    Ok(Change { wanted, removed })
}

/// The argument to replace and its new value. Values may hold `=` themselves (`root=UUID=…`), so
/// what is there decides where the old one ends.
fn replacement<'a>(
    args: &KernelArgs,
    key: &str,
    rest: &'a str,
) -> Result<(Karg, &'a str), EditError> {
    let there = args.of_key(key);
    let with_value = |value: &str| {
        let meant = KernelArgs::parse(&format!("{key}={value}"));
        let meant = meant.iter().next().cloned();
        there
            .iter()
            .find(|arg| meant.as_ref().is_some_and(|m| m.same(arg)))
    };
    for (at, _) in rest
        .match_indices('=')
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        if let Some(old) = with_value(&rest[..at]) {
            return Ok(((*old).clone(), &rest[at + 1..]));
        }
    }
    let old = rest.split_once('=').map(|(old, _)| old);
    match (&there[..], old) {
        // `root=UUID=2` for `root=UUID=1`: the new value is of the same form.
        ([only], Some(_)) if only.value().is_some_and(|value| value.contains('=')) => {
            Ok(((*only).clone(), rest))
        }
        ([only], None) => Ok(((*only).clone(), rest)),
        ([_, _, ..], None) => Err(EditError::Several {
            key: key.into(),
            there: texts(&there),
        }),
        (_, old) => Err(EditError::NotThere {
            wanted: old.map_or(key.into(), |old| format!("{key}={old}")),
            there: texts(&there),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "root=UUID=1 rw console=tty0 quiet console=ttyS0,115200 debug debug=1 x=a";

    fn apply(edit: &Edit) -> Result<String, EditError> {
        let mut args = KernelArgs::parse(LINE);
        edit.apply(&mut args)?;
        Ok(args.to_string())
    }

    fn without(arg: &str) -> String {
        format!("{LINE} ")
            .replacen(&format!("{arg} "), "", 1)
            .trim_end()
            .into()
    }

    #[test]
    fn deleting_needs_to_know_which() {
        for (text, gone) in [
            ("quiet", "quiet"),
            ("root", "root=UUID=1"),
            ("root=UUID=1", "root=UUID=1"),
            ("console=tty0", "console=tty0"),
            ("debug=1", "debug=1"),
            ("debug", "debug"),
            ("x=\"a\"", "x=a"),
        ] {
            assert_eq!(
                apply(&Edit::Delete(text.into())),
                Ok(without(gone)),
                "{text}"
            );
        }
        let refused = |text: &str| apply(&Edit::Delete(text.into())).unwrap_err().to_string();
        assert_eq!(
            refused("console"),
            "console has several values: console=tty0, console=ttyS0,115200"
        );
        assert_eq!(refused("nosmt"), "there is no kernel argument nosmt");
        assert_eq!(
            refused("root=UUID=2"),
            "there is no kernel argument root=UUID=2; there is root=UUID=1"
        );
        assert!(refused("").contains("no key"));
        assert!(refused("a b").contains("more than one argument"));
    }

    #[test]
    fn what_need_not_be_there() {
        let edit = Edit::DeleteIfPresent("nosmt".into());
        assert_eq!(apply(&edit), Ok(LINE.into()));
        assert!(apply(&Edit::DeleteIfPresent("console".into())).is_err());
        let all = Edit::DeleteAll("console".into());
        let expected = "root=UUID=1 rw quiet debug debug=1 x=a";
        assert_eq!(apply(&all), Ok(expected.into()));
        assert_eq!(apply(&Edit::DeleteAll("nosmt".into())), Ok(LINE.into()));
        assert_eq!(apply(&Edit::DeleteAll("x=a".into())), Ok(without("x=a")));
    }

    #[test]
    fn replacing_keeps_the_place() {
        for (text, old, new) in [
            ("x=b", "x=a", "x=b"),
            ("x=a=b", "x=a", "x=b"),
            ("x=a=b=c", "x=a", "x=b=c"),
            ("root=UUID=2", "root=UUID=1", "root=UUID=2"),
            ("root=UUID=1=LABEL=r", "root=UUID=1", "root=LABEL=r"),
            ("console=tty0=tty1", "console=tty0", "console=tty1"),
            ("quiet=1", "quiet", "quiet=1"),
            ("x=", "x=a", "x="),
        ] {
            let expected = format!("{LINE} ").replacen(&format!("{old} "), &format!("{new} "), 1);
            assert_eq!(
                apply(&Edit::Replace(text.into())),
                Ok(expected.trim_end().into()),
                "{text}"
            );
        }
        let refused = |text: &str| apply(&Edit::Replace(text.into())).unwrap_err().to_string();
        assert!(refused("console=tty1").starts_with("console has several values"));
        assert_eq!(
            refused("x=c=b"),
            "there is no kernel argument x=c; there is x=a"
        );
        assert_eq!(refused("nosmt=1"), "there is no kernel argument nosmt");
        assert_eq!(
            refused("quiet"),
            "\"quiet\" says no new value: write KEY=NEW or KEY=OLD=NEW"
        );
        assert!(refused("x=b c").contains("more than one argument"));
    }

    #[test]
    fn a_change_says_what_it_did() {
        let mut args = KernelArgs::parse("a b");
        let arg = |text: &str| Karg::new(text).unwrap();
        let change = Edit::AppendIfMissing(arg("a")).apply(&mut args).unwrap();
        assert_eq!((change.wanted, change.removed), (vec![arg("a")], vec![]));
        let change = Edit::Append(arg("a")).apply(&mut args).unwrap();
        assert_eq!(
            (change.wanted, args.to_string()),
            (vec![arg("a")], "a b a".into())
        );
        let change = Edit::PutLast(arg("a")).apply(&mut args).unwrap();
        assert_eq!((change.wanted, change.removed), (vec![arg("a")], vec![]));
        assert_eq!(args.to_string(), "b a");
        let list = KernelArgs::parse("c a");
        let change = Edit::Set(list.clone()).apply(&mut args).unwrap();
        assert_eq!((change.wanted, change.removed), (vec![], vec![arg("b")]));
        assert_eq!(args, list);
    }
}
