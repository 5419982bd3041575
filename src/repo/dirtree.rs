//! Dirtree objects: the names in one directory. Names and checksums come in, bytes go out, and the
//! other way round without taking them apart; pure.
//!
//! Shape: libostree, ostree-core.h, `OSTREE_TREE_GVARIANT_STRING`: `(a(say)a(sayay))`, the files and
//! the directories, both sorted by name.

use std::io::{self, Write};

use super::gvariant::{Malformed, offset_size, parse_tuple, push_offsets, read_offset};
use crate::image::Digest;

/// Bytes of a checksum.
type Sum = [u8; 32];
/// Bytes of a file in a flat tree: 64 hex digits, NUL, checksum, where the name ends.
const FLAT_FILE: u64 = 64 + 1 + 32 + 1;

/// A name and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A file object.
    File(&'a str, &'a Sum),
    /// A dirtree and a dirmeta object.
    Dir(&'a str, &'a Sum, &'a Sum),
}

impl<'a> Entry<'a> {
    /// The name.
    pub const fn name(&self) -> &'a str {
        match self {
            Entry::File(name, _) | Entry::Dir(name, _, _) => name,
        }
    }
}

/// A dirtree object that has been checked: names are legal, sorted, and there once.
#[derive(Debug, Clone, Copy)]
pub struct DirTree<'a> {
    files: Array<'a>,
    dirs: Array<'a>,
}

impl<'a> DirTree<'a> {
    /// Looks into the bytes of an object.
    pub fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let bad = || Malformed("directory tree");
        let [files, dirs] = parse_tuple::<2>(data).ok_or_else(bad)?;
        let tree = Self {
            files: Array::new(files).ok_or_else(bad)?,
            dirs: Array::new(dirs).ok_or_else(bad)?,
        };
        sorted(tree.files.elements().map(file))?;
        sorted(tree.dirs.elements().map(dir))?;
        match tree.entries().is_sorted_by(|a, b| a.name() < b.name()) {
            true => Ok(tree),
            false => Err(Malformed("directory tree (a name stands in it twice)")),
        }
    }

    /// How many names it has.
    pub(super) const fn len(&self) -> usize {
        self.files.len() + self.dirs.len()
    }

    /// The files, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.files.elements().map_while(|bytes| file(bytes).ok())
    }

    /// The directories, sorted by name.
    pub fn dirs(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.dirs.elements().map_while(|bytes| dir(bytes).ok())
    }

    /// Both, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (mut files, mut dirs) = (self.files().peekable(), self.dirs().peekable());
        std::iter::from_fn(move || {
            let file_first = match (files.peek(), dirs.peek()) {
                (Some(file), Some(dir)) => file.name() <= dir.name(),
                (file, _) => file.is_some(),
            };
            if file_first {
                files.next()
            } else {
                dirs.next()
            }
        })
    }

    /// What stands under a name.
    pub fn find(&self, name: &str) -> Option<Entry<'a>> {
        let mut all = self.files().chain(self.dirs());
        all.find(|entry| entry.name() == name)
    }
}

fn sorted<'a>(
    entries: impl Iterator<Item = Result<Entry<'a>, Malformed>>,
) -> Result<(), Malformed> {
    let mut last = "";
    for entry in entries {
        let name = entry?.name();
        // No name is empty.
        if name <= last {
            return Err(Malformed("directory tree (names out of order)"));
        }
        last = name;
    }
    Ok(())
}

fn file(element: Option<&[u8]>) -> Result<Entry<'_>, Malformed> {
    let tuple = element.and_then(parse_tuple::<2>);
    let [text, file] = tuple.ok_or(Malformed("directory tree"))?;
    Ok(Entry::File(name(text)?, sum(file)?))
}

fn dir(element: Option<&[u8]>) -> Result<Entry<'_>, Malformed> {
    let tuple = element.and_then(parse_tuple::<3>);
    let [text, tree, meta] = tuple.ok_or(Malformed("directory tree"))?;
    Ok(Entry::Dir(name(text)?, sum(tree)?, sum(meta)?))
}

fn name(bytes: &[u8]) -> Result<&str, Malformed> {
    let bad = || Malformed("file name in a directory tree");
    let (nul, name) = bytes.split_last().ok_or_else(bad)?;
    let name = std::str::from_utf8(name).map_err(|_| bad())?;
    let illegal = *nul != 0 || matches!(name, "" | "." | "..") || name.contains(['/', '\0']);
    if illegal { Err(bad()) } else { Ok(name) }
}

fn sum(bytes: &[u8]) -> Result<&Sum, Malformed> {
    bytes
        .try_into()
        .map_err(|_| Malformed("checksum in a tree"))
}

/// An array of elements of variable size (alignment 1).
#[derive(Debug, Clone, Copy)]
struct Array<'a> {
    body: &'a [u8],
    /// Where each element ends, in offsets of `size` bytes.
    ends: &'a [u8],
    size: usize,
}

impl<'a> Array<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let size = offset_size(data.len(), 0);
        if data.is_empty() {
            return Some(Self {
                body: data,
                ends: data,
                size,
            });
        }
        let split = read_offset(data.get(data.len().checked_sub(size)?..)?);
        let (body, ends) = data.split_at_checked(split)?;
        (ends.len() % size == 0).then_some(Self { body, ends, size })
    }

    const fn len(&self) -> usize {
        self.ends.len() / self.size
    }

    fn elements(self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut start = 0;
        self.ends.chunks_exact(self.size).map(move |end| {
            let begin = std::mem::replace(&mut start, read_offset(end));
            self.body.get(begin..start)
        })
    }
}

/// Puts a dirtree object together. Names must come sorted, files and directories each for
/// themselves.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    files: Vec<u8>,
    file_ends: Vec<usize>,
    dirs: Vec<u8>,
    dir_ends: Vec<usize>,
}

impl TreeBuilder {
    /// Adds a file.
    pub fn file(&mut self, name: &str, file: &Sum) {
        let out = &mut self.files;
        let start = out.len();
        push_name(out, name);
        let name_end = out.len() - start;
        out.extend_from_slice(file);
        push_offsets(out, start, &[name_end]);
        self.file_ends.push(out.len());
    }

    /// Adds a directory.
    pub fn dir(&mut self, name: &str, tree: &Sum, meta: &Sum) {
        let out = &mut self.dirs;
        let start = out.len();
        push_name(out, name);
        let name_end = out.len() - start;
        out.extend_from_slice(tree);
        let tree_end = out.len() - start;
        out.extend_from_slice(meta);
        // Offsets of a tuple stand in reverse order.
        push_offsets(out, start, &[tree_end, name_end]);
        self.dir_ends.push(out.len());
    }

    /// Adds an entry of another tree.
    pub fn entry(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::File(name, file) => self.file(name, file),
            Entry::Dir(name, tree, meta) => self.dir(name, tree, meta),
        }
    }

    /// The object.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = self.files;
        push_offsets(&mut out, 0, &self.file_ends);
        let files_end = out.len();
        push_offsets(&mut self.dirs, 0, &self.dir_ends);
        out.append(&mut self.dirs);
        push_offsets(&mut out, 0, &[files_end]);
        out
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(0);
}

/// Writes a tree of `count` files that have their checksums as names, piece by piece: `each` calls
/// what it is given with every checksum, sorted.
pub fn write_flat<W: Write, E: From<io::Error>>(
    out: &mut W,
    count: u64,
    each: impl FnOnce(&mut dyn FnMut(Digest) -> io::Result<()>) -> Result<(), E>,
) -> Result<(), E> {
    each(&mut |file| {
        out.write_all(file.hex().as_bytes())?;
        out.write_all(&[0])?;
        out.write_all(file.as_bytes())?;
        out.write_all(&[65])
    })?;
    let body = FLAT_FILE * count;
    let size = offset_size(body as usize, count as usize);
    for number in 1..=count {
        out.write_all(&(FLAT_FILE * number).to_le_bytes()[..size])?;
    }
    let files_end = body + size as u64 * count;
    let size = offset_size(files_end as usize, 1);
    Ok(out.write_all(&files_end.to_le_bytes()[..size])?)
}

#[cfg(test)]
mod tests {
    use ostree::glib::Variant;
    use ostree::glib::prelude::*;
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn build(files: &[(String, Sum)], dirs: &[(String, (Sum, Sum))]) -> Vec<u8> {
        let mut tree = TreeBuilder::default();
        files.iter().for_each(|(name, file)| tree.file(name, file));
        dirs.iter()
            .for_each(|(name, (sub, meta))| tree.dir(name, sub, meta));
        tree.finish()
    }

    proptest! {
        #[test]
        fn dirtree_is_what_glib_writes(
            files in btree_map("[a-zäö.]{3,40}", any::<Sum>(), 0..30),
            dirs in btree_map("[a-zäö.]{3,40}", any::<(Sum, Sum)>(), 0..30),
        ) {
            let twice = files.keys().any(|name| dirs.contains_key(name));
            let (files, dirs) = (Vec::from_iter(files), Vec::from_iter(dirs));
            let bytes = build(&files, &dirs);
            let (mut names, mut rebuilt) = (Vec::new(), TreeBuilder::default());
            match DirTree::parse(&bytes) {
                Ok(tree) => for entry in tree.entries() {
                    names.push(entry.name());
                    prop_assert_eq!(tree.find(entry.name()), Some(entry));
                    rebuilt.entry(&entry);
                },
                Err(_) => prop_assert!(twice),
            }
            if !twice {
                prop_assert_eq!(names.len(), files.len() + dirs.len());
                prop_assert!(names.is_sorted());
                prop_assert_eq!(&rebuilt.finish(), &bytes);
            }
            let files: Vec<_> = files.iter().map(|(n, d)| (n, d.to_vec())).collect();
            let dirs: Vec<_> =
                dirs.iter().map(|(n, (t, m))| (n, t.to_vec(), m.to_vec())).collect();
            let variant: Variant = (files, dirs).to_variant();
            prop_assert_eq!(&variant.data_as_bytes()[..], &bytes[..]);
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(data in vec(any::<u8>(), 0..200)) {
            if let Ok(tree) = DirTree::parse(&data) {
                prop_assert_eq!(tree.entries().count(), tree.len());
            }
        }

        #[test]
        fn a_flat_tree_is_one_like_any_other(sums in btree_set(any::<Sum>(), 0..800)) {
            let sums: Vec<Digest> = sums.into_iter().map(Digest::from_bytes).collect();
            let mut bytes = Vec::new();
            let written = write_flat(&mut bytes, sums.len() as u64, |each| {
                sums.iter().try_for_each(|sum| each(*sum))
            });
            prop_assert!(written.is_ok());
            let files: Vec<_> = sums.iter().map(|sum| (sum.hex(), *sum.as_bytes())).collect();
            prop_assert_eq!(bytes, build(&files, &[]));
        }
    }

    #[test]
    fn names_are_sorted_and_there_once() {
        let file = |name: &str| (name.to_owned(), [1; 32]);
        let dir = |name: &str| (name.to_owned(), ([2; 32], [3; 32]));
        let cases = [
            (vec![file("b"), file("a")], vec![]),
            (vec![file("a"), file("a")], vec![]),
            (vec![], vec![dir("b"), dir("a")]),
            (vec![file("a")], vec![dir("a")]),
            (vec![file("a/b")], vec![]),
            (vec![], vec![dir("..")]),
        ];
        for (files, dirs) in cases {
            assert!(
                DirTree::parse(&build(&files, &dirs)).is_err(),
                "{files:?} {dirs:?}"
            );
        }
    }
}
