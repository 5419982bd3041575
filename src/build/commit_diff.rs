//! What differs between two commits: files and packages. Commits in a repository come in, a plain value that
//! serializes to JSON and YAML goes out. Directories that are the same are not looked into. Field names are
//! stable.

use anyhow::{Context as _, Result, bail};
use fn_error_context::context;
use serde::Serialize;

use super::commit_files::CommitFiles;
use super::compare::{PackageChanges, package_changes};
use crate::image::Digest;
use crate::packages::{self, Owners};
use crate::repo::dirtree::{DirTree, Entry};
use crate::repo::{CommitFacts, ObjectKind, Repo};

/// Deepest directory that is followed.
const MAX_DEPTH: usize = 1000;

/// The difference between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommitDiff {
    /// Files that only the second has; directories end with a slash.
    pub added: Vec<DiffFile>,
    /// Files that only the first has.
    pub removed: Vec<DiffFile>,
    /// Files with another content, owner, mode or extended attributes.
    pub changed: Vec<DiffFile>,
    /// What became of the packages, of the whole commits.
    pub packages: PackageChanges,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DiffFile {
    /// Its path.
    pub path: String,
    /// The package that has it; of a removed file, in the first commit.
    pub package: Option<String>,
}

/// The directory to compare is in neither commit.
#[derive(Debug, thiserror::Error)]
#[error("neither has a directory {0}: name one with --subdir; /etc is /usr/etc in a commit")]
pub struct NoSuchDirectory(String);

/// A directory: its dirtree and dirmeta.
type Dir = (Digest, Digest);

/// Compares two commits, all of them or what is below `subdir`.
#[context("Comparing commit {} with {}", old.checksum, new.checksum)]
pub fn commit_diff(
    repo: &Repo,
    old: &CommitFacts,
    new: &CommitFacts,
    subdir: &str,
) -> Result<CommitDiff> {
    let (before, after) = (CommitFiles::new(repo, old), CommitFiles::new(repo, new));
    let mut walk = Walk {
        repo,
        before: Owners::read(&before)?,
        after: Owners::read(&after)?,
        found: CommitDiff {
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
            packages: package_changes(&packages::list(&before)?, &packages::list(&after)?),
        },
    };
    let names: Vec<&str> = subdir
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    let dirs = (
        walk.below((old.tree, old.meta), &names)?,
        walk.below((new.tree, new.meta), &names)?,
    );
    let path = match names.is_empty() {
        true => "/".to_string(),
        false => format!("/{}/", names.join("/")),
    };
    match dirs {
        (None, None) => return Err(NoSuchDirectory(path).into()),
        (one, other) => walk.dirs(&path, one, other, 0)?,
    }
    let mut found = walk.found;
    for list in [&mut found.added, &mut found.removed, &mut found.changed] {
        list.sort();
    }
    Ok(found)
}

struct Walk<'a> {
    repo: &'a Repo,
    before: Owners,
    after: Owners,
    found: CommitDiff,
}

impl Walk<'_> {
    fn tree(&self, tree: Digest) -> Result<Vec<u8>> {
        self.repo.metadata_object(tree, ObjectKind::DirTree)
    }

    fn below(&self, mut dir: Dir, names: &[&str]) -> Result<Option<Dir>> {
        for name in names {
            let data = self.tree(dir.0)?;
            match DirTree::parse(&data)?.find(name) {
                Some(Entry::Dir(_, tree, meta)) => {
                    dir = (Digest::from_bytes(*tree), Digest::from_bytes(*meta));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(dir))
    }

    /// Compares two directories of the same path, which ends with a slash; one may be missing.
    fn dirs(&mut self, path: &str, old: Option<Dir>, new: Option<Dir>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("the directories are nested more than {MAX_DEPTH} deep");
        }
        match (old, new) {
            (Some(old), Some(new)) if old.1 != new.1 => self.changed(path),
            (Some(_), None) => self.removed(path),
            (None, Some(_)) => self.added(path),
            _ => {}
        }
        if old.map(|dir| dir.0) == new.map(|dir| dir.0) {
            return Ok(());
        }
        let read = |dir: Option<Dir>| dir.map(|dir| self.tree(dir.0)).transpose();
        let (old, new) = (read(old)?, read(new)?);
        let parse = |data: &'_ Option<Vec<u8>>| -> Result<Names> {
            let tree = data.as_deref().map(DirTree::parse).transpose()?;
            Ok(tree.map(|tree| names(&tree)).unwrap_or_default())
        };
        let (old, new) = (
            parse(&old).context("Reading a directory")?,
            parse(&new).context("Reading a directory")?,
        );
        let mut all: Vec<&String> = old.keys().chain(new.keys()).collect();
        all.sort();
        all.dedup();
        for name in all {
            let (one, other) = (old.get(name), new.get(name));
            let file = |node: Option<&Node>| node.and_then(|node| node.file);
            let dir = |node: Option<&Node>| node.and_then(|node| node.dir);
            let path = format!("{path}{name}");
            match (file(one), file(other)) {
                (Some(one), Some(other)) if one != other => self.changed(&path),
                (Some(_), None) => self.removed(&path),
                (None, Some(_)) => self.added(&path),
                _ => {}
            }
            if dir(one).is_some() || dir(other).is_some() {
                self.dirs(&format!("{path}/"), dir(one), dir(other), depth + 1)?;
            }
        }
        Ok(())
    }

    fn added(&mut self, path: &str) {
        let file = file(path, &self.after);
        self.found.added.push(file);
    }

    fn removed(&mut self, path: &str) {
        let file = file(path, &self.before);
        self.found.removed.push(file);
    }

    fn changed(&mut self, path: &str) {
        let file = file(path, &self.after);
        self.found.changed.push(file);
    }
}

fn file(path: &str, owners: &Owners) -> DiffFile {
    let package = match path.ends_with('/') {
        true => None,
        false => owners.package_of(path.trim_start_matches('/')),
    };
    DiffFile {
        path: path.to_string(),
        package: package.map(str::to_string),
    }
}

/// What stands under a name.
#[derive(Debug, Clone, Copy)]
struct Node {
    file: Option<Digest>,
    dir: Option<Dir>,
}

type Names = std::collections::BTreeMap<String, Node>;

fn names(tree: &DirTree<'_>) -> Names {
    let node = |entry: Entry<'_>| match entry {
        Entry::File(name, object) => {
            let file = Some(Digest::from_bytes(*object));
            (name.to_string(), Node { file, dir: None })
        }
        Entry::Dir(name, tree, meta) => {
            let dir = Some((Digest::from_bytes(*tree), Digest::from_bytes(*meta)));
            (name.to_string(), Node { file: None, dir })
        }
    };
    tree.entries().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::Fixture;

    const OLD: &str = "file /var/lib/dpkg/status 0 0 644 Package: a\\nVersion: 1\\nStatus: install ok installed\\n\n\
        file /var/lib/dpkg/info/a.list 0 0 644 /usr/bin/a\\n/usr/bin/gone\\n\n\
        file /usr/bin/a 0 0 755 1\nfile /usr/bin/gone 0 0 755 1\nfile /usr/bin/same 0 0 755 1\n\
        file /usr/share/x/y 0 0 644 1\nfile /usr/lib/turn/deep 0 0 644 1";
    const NEW: &str = "file /var/lib/dpkg/status 0 0 644 Package: a\\nVersion: 2\\nStatus: install ok installed\\n\n\
        file /var/lib/dpkg/info/a.list 0 0 644 /usr/bin/a\\n/usr/bin/new\\n\n\
        file /usr/bin/a 0 0 755 2\nfile /usr/bin/new 0 0 755 1\nfile /usr/bin/same 0 0 755 1\n\
        dir /usr/share/x 0 0 700\nfile /usr/share/x/y 0 0 644 1\nfile /usr/lib/turn 0 0 644 1";

    fn diff(subdir: &str) -> Result<CommitDiff> {
        let fixture = Fixture::new().unwrap();
        let commits = [OLD, NEW].map(|lines| fixture.commit(lines).unwrap());
        let repo = Repo::open(fixture.path()).unwrap();
        let facts = |commit: &String| {
            repo.commit_facts(Digest::from_hex(commit).unwrap())
                .unwrap()
        };
        let [old, new] = [facts(&commits[0]), facts(&commits[1])];
        commit_diff(&repo, &old, &new, subdir)
    }

    fn lines(list: &[DiffFile]) -> Vec<String> {
        let line = |file: &DiffFile| match &file.package {
            Some(package) => format!("{} {package}", file.path),
            None => file.path.clone(),
        };
        list.iter().map(line).collect()
    }

    #[test]
    fn files_and_packages_are_told() {
        let found = diff("/").unwrap();
        assert_eq!(lines(&found.added), ["/usr/bin/new a", "/usr/lib/turn"]);
        let removed = ["/usr/bin/gone a", "/usr/lib/turn/", "/usr/lib/turn/deep"];
        assert_eq!(lines(&found.removed), removed);
        let changed = [
            "/usr/bin/a a",
            "/usr/share/x/",
            "/var/lib/dpkg/info/a.list a",
            "/var/lib/dpkg/status",
        ];
        assert_eq!(lines(&found.changed), changed);
        let [package] = &found.packages.changed[..] else {
            panic!("{:?}", found.packages);
        };
        assert_eq!((package.old.as_str(), package.new.as_str()), ("1", "2"));
    }

    #[test]
    fn a_directory_alone_can_be_compared() {
        let found = diff("usr/./share//").unwrap();
        assert_eq!(lines(&found.changed), ["/usr/share/x/"]);
        assert!(found.added.is_empty() && found.removed.is_empty());
        let found = diff("/usr/lib/turn/").unwrap();
        assert_eq!(
            lines(&found.removed),
            ["/usr/lib/turn/", "/usr/lib/turn/deep"]
        );
        let error = diff("//none/./x").unwrap_err();
        let missing: &NoSuchDirectory = error.downcast_ref().unwrap();
        assert_eq!(missing.0, "/none/x/");
    }
}
