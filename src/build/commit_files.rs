//! The files of a commit for the readers of package databases, without checking it out. Links are
//! followed within the commit; `/etc` is where a commit keeps it.

use std::collections::VecDeque;
use std::io::{self, Read};

use anyhow::Result;

use crate::image::Digest;
use crate::packages::Files;
use crate::repo::dirtree::{DirTree, Entry};
use crate::repo::{CommitFacts, ObjectKind, Repo};

/// The longest chain of links that is followed; the kernel's own limit.
const MAX_LINKS: u32 = 40;

/// The files of a commit.
#[derive(Debug)]
pub struct CommitFiles<'a> {
    repo: &'a Repo,
    root: Digest,
}

/// What a path leads to.
enum Found {
    File(Digest),
    Dir(Digest),
}

impl<'a> CommitFiles<'a> {
    /// The files of this commit.
    pub const fn new(repo: &'a Repo, commit: &CommitFacts) -> Self {
        Self {
            repo,
            root: commit.tree,
        }
    }

    fn find(&self, path: &str) -> Result<Option<Found>> {
        let mut todo: VecDeque<String> = names(path).collect();
        if todo.front().is_some_and(|first| first == "etc") {
            todo.push_front("usr".into());
        }
        let (mut above, mut here) = (Vec::new(), self.root);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                here = above.pop().unwrap_or(self.root);
                continue;
            }
            let data = self.repo.metadata_object(here, ObjectKind::DirTree)?;
            match DirTree::parse(&data)?.find(&name) {
                None => return Ok(None),
                Some(Entry::Dir(_, tree, _)) => {
                    above.push(here);
                    here = Digest::from_bytes(*tree);
                }
                Some(Entry::File(_, object)) => {
                    let object = Digest::from_bytes(*object);
                    let (meta, _) = self.repo.file_meta(object)?;
                    if !meta.is_symlink() {
                        return Ok(todo.is_empty().then_some(Found::File(object)));
                    }
                    links += 1;
                    let Ok(target) = String::from_utf8(meta.target) else {
                        return Ok(None);
                    };
                    if links > MAX_LINKS {
                        return Ok(None);
                    }
                    if target.starts_with('/') {
                        (above, here) = (Vec::new(), self.root);
                    }
                    for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(name);
                    }
                }
            }
        }
        Ok(Some(Found::Dir(here)))
    }
}

fn names(path: &str) -> impl Iterator<Item = String> + '_ {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.map(str::to_string)
}

impl Files for CommitFiles<'_> {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        match self.find(path).map_err(io::Error::other)? {
            Some(Found::File(object)) => {
                let content = self.repo.file_reader(object).map_err(io::Error::other)?;
                Ok(Some(content))
            }
            _ => Ok(None),
        }
    }

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let Some(Found::Dir(tree)) = self.find(dir).map_err(io::Error::other)? else {
            return Ok(Vec::new());
        };
        let data = self.repo.metadata_object(tree, ObjectKind::DirTree);
        let data = data.map_err(io::Error::other)?;
        let tree = DirTree::parse(&data).map_err(io::Error::other)?;
        let names = tree.entries().map(|entry| entry.name().to_string());
        let mut names: Vec<String> = names.collect();
        // Files stand before directories.
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::Fixture;

    #[test]
    fn links_are_followed_within_the_commit() {
        let fixture = Fixture::new().unwrap();
        let lines = "file /usr/lib/db/status 0 0 644 inside\nfile /usr/etc/conf 0 0 644 etc\n\
                     link /var/lib/db ../../usr/lib/db\nlink /lib usr/lib\n\
                     file /usr/zz 0 0 644 z\nlink /usr/abs /lib/db/status\nlink /loop loop\n\
                     link /out ../../../usr/lib/db/status";
        let commit = fixture.commit(lines).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        let facts = repo
            .commit_facts(Digest::from_hex(&commit).unwrap())
            .unwrap();
        let files = CommitFiles::new(&repo, &facts);
        let read = |path| {
            let mut text = String::new();
            let file = files.open(path).unwrap()?;
            Some(file).map(|mut file| file.read_to_string(&mut text).unwrap())?;
            Some(text)
        };
        for path in ["var/lib/db/status", "usr/abs", "lib/db/status", "out"] {
            assert_eq!(read(path).as_deref(), Some("inside"), "{path}");
        }
        assert_eq!(read("etc/conf").as_deref(), Some("etc"));
        for path in ["loop", "usr", "none", "usr/abs/x", "none/x"] {
            assert_eq!(read(path), None, "{path}");
        }
        assert_eq!(files.names("var/lib/db").unwrap(), ["status"]);
        assert_eq!(files.names("usr").unwrap(), ["abs", "etc", "lib", "zz"]);
        assert!(files.names("usr/abs").unwrap().is_empty());
    }
}
