//! Layers laid over each other as overlayfs would. Trees of layers come in, one tree goes out,
//! directory by directory from the leaves up: only the directories on the way to the current one are
//! in memory. Nothing is checked out; what only the lowest layer has stays a checksum.
//!
//! Whiteouts: image-spec, layer.md, "Whiteouts". They act on what lies below only, whatever the
//! order of names.

use anyhow::{Context, Result, bail};

use super::dirtree::{DirTree, Entry, TreeBuilder};
use crate::image::Digest;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Deepest nesting of directories that is followed.
const MAX_DEPTH: usize = 512;

/// Reads what trees refer to.
pub trait TreeReader {
    /// The bytes of a dirtree object.
    fn tree(&self, checksum: Digest) -> Result<Vec<u8>>;
    /// Whether a file object is a symbolic link.
    fn is_symlink(&self, checksum: Digest) -> Result<bool>;
}

/// Takes the dirtree objects of a new tree, and may give what comes from the lowest layer labels.
pub trait TreeWriter: TreeReader {
    /// Stores a dirtree object and gives its checksum.
    fn write_tree(&mut self, data: &[u8]) -> Result<Digest>;
    /// Whether the two that follow can change anything.
    fn labels(&self) -> bool;
    /// The object that stands for a file at a path (`/usr/bin/true`).
    fn file(&mut self, path: &str, object: Digest) -> Result<Digest>;
    /// The dirmeta object that stands for that of the directory at a path (`/`, `/usr`).
    fn dir(&mut self, path: &str, meta: Digest) -> Result<Digest>;
}

/// A directory of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The dirtree object.
    pub tree: Digest,
    /// The dirmeta object.
    pub meta: Digest,
    /// Whether it is of an ordinary layer: has whiteouts, and the labels it needs.
    pub layered: bool,
}

/// Directories that lie over each other, lowest first; none is looked into before it must be.
#[derive(Debug, Clone)]
pub struct Union {
    /// Their parts. The lowest gives the metadata, unless an opaque one hides it.
    pub parts: Vec<Part>,
    /// Which names count in ordinary layers; for those below all do.
    pub keep: fn(&str) -> bool,
}

/// What stands under a name in a union.
#[derive(Debug, Clone)]
pub enum Found {
    /// A file object.
    File(Digest),
    /// Directories.
    Dir(Union),
}

/// A union's own view of what stands under a name; `true` for files of ordinary layers.
#[derive(Debug)]
enum Slot<'a> {
    File(&'a [u8; 32], bool),
    Dir(Vec<Part>),
}

type Named<'a> = (&'a str, Slot<'a>);

impl Union {
    /// Directories that count whole.
    pub fn of(parts: Vec<Part>) -> Self {
        Self {
            parts,
            keep: |_| true,
        }
    }

    /// The names in it, sorted.
    pub fn entries(&self, reader: &dyn TreeReader) -> Result<Vec<(String, Found)>> {
        let trees = self.read(reader)?;
        let (_, level) = self.level(&trees, reader)?;
        let named = level.into_iter().map(|(name, slot)| {
            let found = match slot {
                Slot::File(file, _) => Found::File(Digest::from_bytes(*file)),
                Slot::Dir(parts) => Found::Dir(Self::of(parts)),
            };
            (name.to_owned(), found)
        });
        Ok(named.collect())
    }

    /// The directory at a path of components; `None` when there is none.
    pub fn find(&self, path: &[&str], reader: &dyn TreeReader) -> Result<Option<Self>> {
        let mut found = self.clone();
        for component in path {
            let mut entries = found.entries(reader)?.into_iter();
            found = match entries.find(|(name, _)| name == component) {
                Some((_, Found::Dir(dir))) => dir,
                _ => return Ok(None),
            };
        }
        Ok(Some(found))
    }

    /// The file object under a name; `None` when there is none.
    pub fn file(&self, name: &str, reader: &dyn TreeReader) -> Result<Option<Digest>> {
        let mut entries = self.entries(reader)?.into_iter();
        match entries.find(|(found, _)| found == name) {
            Some((_, Found::File(file))) => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    /// Writes it as one tree, without the files at some paths (`/usr/bin/true`); gives the dirtree
    /// and the dirmeta object of its root.
    pub fn write(
        &self,
        writer: &mut impl TreeWriter,
        without: &[String],
    ) -> Result<(Digest, Digest)> {
        let mut path = String::new();
        self.write_at(&mut Weaver { writer, without }, &mut path, 0)
    }

    fn write_at(
        &self,
        weaver: &mut Weaver<'_, impl TreeWriter>,
        path: &mut String,
        depth: usize,
    ) -> Result<(Digest, Digest)> {
        if depth > MAX_DEPTH {
            bail!("directories are nested more than {MAX_DEPTH} deep");
        }
        match self.parts[..] {
            [only] if !only.layered && !weaver.must_read(path) => {
                return Ok((only.tree, only.meta));
            }
            _ => {}
        }
        let trees = self.read(weaver.writer)?;
        let level = self.level(&trees, weaver.writer);
        let (owner, level) = level.with_context(|| format!("Merging directory {path}/"))?;
        let mut out = TreeBuilder::default();
        for (name, slot) in level {
            let length = path.len();
            path.push('/');
            path.push_str(name);
            match slot {
                Slot::File(file, layered) => {
                    if let Some(file) = weaver.file(path, file, layered)? {
                        out.file(name, file.as_bytes());
                    }
                }
                Slot::Dir(parts) => {
                    let (tree, meta) = Self::of(parts).write_at(weaver, path, depth + 1)?;
                    out.dir(name, tree.as_bytes(), meta.as_bytes());
                }
            }
            path.truncate(length);
        }
        let out = out.finish();
        let tree = match (&self.parts[..], &trees[..]) {
            ([only], [data]) if *data == out => only.tree,
            _ => weaver.writer.write_tree(&out)?,
        };
        Ok((tree, weaver.meta(path, owner)?))
    }

    fn read(&self, reader: &(impl TreeReader + ?Sized)) -> Result<Vec<Vec<u8>>> {
        self.parts
            .iter()
            .map(|part| reader.tree(part.tree))
            .collect()
    }

    /// What stands under the names, sorted, and the part whose metadata holds.
    fn level<'a>(
        &self,
        trees: &'a [Vec<u8>],
        reader: &(impl TreeReader + ?Sized),
    ) -> Result<(Part, Vec<Named<'a>>)> {
        let mut owner = *self.parts.first().context("there is no directory")?;
        let mut level = Vec::new();
        for (part, data) in self.parts.iter().zip(trees) {
            let tree = DirTree::parse(data);
            let tree = tree.with_context(|| format!("Reading directory tree {}", part.tree))?;
            let mut upper = named(&tree, part.layered);
            if part.layered {
                upper.retain(|(name, _)| (self.keep)(name));
                let hidden = take_whiteouts(&mut upper, reader)?;
                if hidden.binary_search(&&OPAQUE[WHITEOUT.len()..]).is_ok() {
                    (owner, level) = (*part, Vec::new());
                }
                level.retain(|(name, _)| hidden.binary_search(name).is_err());
            }
            level = lay(level, upper);
        }
        Ok((owner, level))
    }
}

/// Where a tree is written to, and what is left out of it.
struct Weaver<'a, W> {
    writer: &'a mut W,
    without: &'a [String],
}

impl<W: TreeWriter> Weaver<'_, W> {
    /// Whether something below a path may change although it is of one layer only.
    fn must_read(&self, path: &str) -> bool {
        let below = |file: &String| file.strip_prefix(path).is_some_and(|f| f.starts_with('/'));
        self.writer.labels() || self.without.iter().any(below)
    }

    fn file(&mut self, path: &str, file: &[u8; 32], layered: bool) -> Result<Option<Digest>> {
        let file = Digest::from_bytes(*file);
        if self.without.iter().any(|without| without == path) {
            return Ok(None);
        }
        match layered {
            true => Ok(Some(file)),
            false => self.writer.file(path, file).map(Some),
        }
    }

    fn meta(&mut self, path: &str, owner: Part) -> Result<Digest> {
        match (owner.layered, path) {
            (true, _) => Ok(owner.meta),
            (false, "") => self.writer.dir("/", owner.meta),
            (false, path) => self.writer.dir(path, owner.meta),
        }
    }
}

fn named<'a>(tree: &DirTree<'a>, layered: bool) -> Vec<Named<'a>> {
    let mut all = Vec::with_capacity(tree.len());
    all.extend(tree.entries().map(|entry| match entry {
        Entry::File(name, file) => (name, Slot::File(file, layered)),
        Entry::Dir(name, tree, meta) => {
            let part = Part {
                tree: Digest::from_bytes(*tree),
                meta: Digest::from_bytes(*meta),
                layered,
            };
            (name, Slot::Dir(vec![part]))
        }
    }));
    all
}

/// Takes the whiteouts out of a layer's names; gives the names that they hide, sorted. That of an
/// opaque directory is among them.
fn take_whiteouts<'a>(
    upper: &mut Vec<Named<'a>>,
    reader: &(impl TreeReader + ?Sized),
) -> Result<Vec<&'a str>> {
    let mut hidden = Vec::new();
    for (name, slot) in &*upper {
        let (Some(hides), Slot::File(file, _)) = (name.strip_prefix(WHITEOUT), slot) else {
            continue;
        };
        let symlink = reader.is_symlink(Digest::from_bytes(**file));
        if symlink.with_context(|| format!("reading {name:?}"))? {
            continue;
        }
        if hides.is_empty() {
            bail!("the layer has a whiteout {name:?} that names nothing");
        }
        hidden.push(hides);
    }
    if !hidden.is_empty() {
        let whiteout = |name: &str| {
            let hides = name.strip_prefix(WHITEOUT);
            hides.is_some_and(|hides| hidden.binary_search(&hides).is_ok())
        };
        upper.retain(|(name, slot)| matches!(slot, Slot::Dir(_)) || !whiteout(name));
    }
    Ok(hidden)
}

/// Lays names over names: files replace, directories join.
fn lay<'a>(lower: Vec<Named<'a>>, upper: Vec<Named<'a>>) -> Vec<Named<'a>> {
    if lower.is_empty() {
        return upper;
    }
    let mut out = Vec::with_capacity(lower.len() + upper.len());
    let mut lower = lower.into_iter().peekable();
    for (name, above) in upper {
        while let Some(entry) = lower.next_if(|(below, _)| *below < name) {
            out.push(entry);
        }
        let below = lower.next_if(|(below, _)| *below == name);
        let slot = match (below, above) {
            (Some((_, Slot::Dir(mut below))), Slot::Dir(above)) => {
                below.extend(above);
                Slot::Dir(below)
            }
            (_, above) => above,
        };
        out.push((name, slot));
    }
    out.extend(lower);
    out
}

#[cfg(test)]
#[path = "union_tests.rs"]
mod tests;
