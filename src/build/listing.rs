//! Which file objects a commit has, and under which paths. A commit in a repository comes in, a list
//! sorted by object goes out. Holds 50 bytes for each path beside its last name, never a whole path,
//! and no content.

use anyhow::{Context, Result, bail};
use fn_error_context::context;

use crate::image::Digest;
use crate::repo::dirtree::{DirTree, Entry};
use crate::repo::object::FileMeta;
use crate::repo::{CommitFacts, ObjectKind, Repo};

/// Deepest directory that is followed.
const MAX_DEPTH: usize = 1000;
const ROOT: u32 = 0;

/// All paths of a commit's files, sorted by object, those of one object as a walk meets them: the files of a
/// directory first, then its directories by name.
#[derive(Debug, Default)]
pub struct Listing {
    files: Vec<FilePath>,
    dirs: Vec<Dir>,
    metas: Vec<(Digest, FileMeta)>,
    names: Vec<u8>,
}

/// Where a name stands in `names`.
#[derive(Debug, Clone, Copy)]
struct Name {
    start: u32,
    length: u16,
}

#[derive(Debug, Clone, Copy)]
struct FilePath {
    object: Digest,
    dir: u32,
    name: Name,
}

#[derive(Debug, Clone, Copy)]
struct Dir {
    parent: u32,
    name: Name,
    meta: u32,
}

/// A directory of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirId(u32);

/// One file object and its paths.
#[derive(Debug, Clone, Copy)]
pub struct ListedObject<'a> {
    listing: &'a Listing,
    files: &'a [FilePath],
}

impl Listing {
    /// Walks over the tree of a commit.
    #[context("Listing the files of commit {}", commit.checksum)]
    pub fn of(repo: &Repo, commit: &CommitFacts) -> Result<Self> {
        let mut listing = Self::default();
        let meta = listing.meta(repo, commit.meta)?;
        let name = listing.name("")?;
        listing.dirs.push(Dir {
            parent: ROOT,
            name,
            meta,
        });
        listing.walk(repo, commit.tree, ROOT, 0)?;
        // Stable: paths of one object stay in the order of the walk.
        listing.files.sort_by_key(|file| file.object);
        Ok(listing)
    }

    fn walk(&mut self, repo: &Repo, tree: Digest, dir: u32, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("the directories are nested more than {MAX_DEPTH} deep");
        }
        let data = repo.metadata_object(tree, ObjectKind::DirTree)?;
        let tree = DirTree::parse(&data)?;
        for entry in tree.files() {
            if let Entry::File(name, object) = entry {
                let object = Digest::from_bytes(*object);
                let name = self.name(name)?;
                self.files.push(FilePath { object, dir, name });
            }
        }
        for entry in tree.dirs() {
            if let Entry::Dir(name, tree, meta) = entry {
                let child = u32::try_from(self.dirs.len()).context("too many directories")?;
                let new = Dir {
                    parent: dir,
                    name: self.name(name)?,
                    meta: self.meta(repo, Digest::from_bytes(*meta))?,
                };
                self.dirs.push(new);
                self.walk(repo, Digest::from_bytes(*tree), child, depth + 1)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<Name> {
        let start = u32::try_from(self.names.len()).context("too many files")?;
        let length = u16::try_from(name.len()).context("a file name is too long")?;
        self.names.extend_from_slice(name.as_bytes());
        Ok(Name { start, length })
    }

    /// Trees have few kinds of directory.
    fn meta(&mut self, repo: &Repo, checksum: Digest) -> Result<u32> {
        let known = self.metas.iter().position(|(known, _)| *known == checksum);
        let index = match known {
            Some(index) => index,
            None => {
                self.metas.push((checksum, repo.dirmeta(checksum)?));
                self.metas.len() - 1
            }
        };
        Ok(u32::try_from(index)?)
    }

    /// The objects in ascending order of their checksums.
    pub fn objects(&self) -> impl Iterator<Item = ListedObject<'_>> {
        let same = |a: &FilePath, b: &FilePath| a.object == b.object;
        let runs = self.files.chunk_by(same);
        runs.map(move |files| ListedObject {
            listing: self,
            files,
        })
    }

    /// One object, if the commit has it.
    pub fn object(&self, checksum: Digest) -> Option<ListedObject<'_>> {
        let start = self.files.partition_point(|file| file.object < checksum);
        let rest = &self.files[start..];
        let length = rest.partition_point(|file| file.object == checksum);
        (length > 0).then(|| ListedObject {
            listing: self,
            files: &rest[..length],
        })
    }

    /// The directory above a directory, `None` above those in the root.
    pub fn parent(&self, dir: DirId) -> Option<DirId> {
        let parent = self.dirs[dir.0 as usize].parent;
        (parent != ROOT).then_some(DirId(parent))
    }

    /// Owner and mode of a directory.
    pub fn dir_meta(&self, dir: DirId) -> &FileMeta {
        &self.metas[self.dirs[dir.0 as usize].meta as usize].1
    }

    /// The path of a directory, without a slash in front.
    pub fn dir_path(&self, dir: DirId) -> String {
        let mut path = String::new();
        self.push_path(dir.0, &mut path);
        path
    }

    fn push_path(&self, dir: u32, path: &mut String) {
        // Not by recursion: the walk has limited the depth, but not to what any stack can hold.
        let mut names = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let dir = &self.dirs[at as usize];
            names.push(dir.name);
            at = dir.parent;
        }
        for (number, name) in names.iter().rev().enumerate() {
            if number > 0 {
                path.push('/');
            }
            path.push_str(self.text(*name));
        }
    }

    fn text(&self, name: Name) -> &str {
        let start = name.start as usize;
        let bytes = &self.names[start..start + usize::from(name.length)];
        // They were copied from texts, whole.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl<'a> ListedObject<'a> {
    /// The object.
    pub fn checksum(&self) -> Digest {
        self.files[0].object
    }

    /// Its paths, without a slash in front, and the directories they are in; `None` is the root.
    pub fn paths(&self) -> impl Iterator<Item = (Option<DirId>, String)> + use<'a> {
        let listing = self.listing;
        self.files.iter().map(move |file| {
            let mut path = String::new();
            listing.push_path(file.dir, &mut path);
            if file.dir != ROOT {
                path.push('/');
            }
            path.push_str(listing.text(file.name));
            ((file.dir != ROOT).then_some(DirId(file.dir)), path)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::Fixture;

    #[test]
    fn objects_come_sorted_with_all_their_paths() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture
            .commit(
                "file /z 0 0 644 one\nfile /a/b/c 0 0 644 two\nhardlink /a/y z\nhardlink /a/b/x z\n\
                 dir /a/b 7 8 750",
            )
            .unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        let facts = repo
            .commit_facts(Digest::from_hex(&commit).unwrap())
            .unwrap();
        let listing = Listing::of(&repo, &facts).unwrap();
        let objects: Vec<_> = listing.objects().collect();
        assert!(objects.is_sorted_by_key(ListedObject::checksum));
        let paths = |object: &ListedObject<'_>| object.paths().map(|p| p.1).collect::<Vec<_>>();
        let mut all: Vec<_> = objects.iter().map(paths).collect();
        all.sort();
        assert_eq!(all, [vec!["a/b/c"], vec!["z", "a/y", "a/b/x"]]);
        let object = objects.iter().find(|o| paths(o) == ["a/b/c"]).unwrap();
        let dir = object.paths().next().unwrap().0.unwrap();
        assert_eq!(listing.dir_path(dir), "a/b");
        assert_eq!(listing.dir_meta(dir).mode & 0o7777, 0o750);
        assert_eq!(listing.dir_path(listing.parent(dir).unwrap()), "a");
        assert_eq!(listing.parent(listing.parent(dir).unwrap()), None);
        assert!(listing.object(object.checksum()).is_some());
        assert!(listing.object(Digest::of(b"none")).is_none());
    }
}
