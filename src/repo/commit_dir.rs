//! A root file system, or the tree of a commit, to the commit of an operating system: in the layout that
//! ostree asks for, with what a host makes anew left out. A directory or a commit comes in, a commit goes
//! out. Never changes the directory.
//!
//! `/etc` becomes `/usr/etc`; what is in `/dev`, `/proc`, `/sys`, `/run`, `/tmp` and `/sysroot` is left out, as
//! are sockets, pipes and devices; `/sysroot` and the link `/ostree` are added where they are missing. Where there
//! is an SELinux policy, all is labelled by it.

use std::path::Path;

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::gio;
use ostree::glib::prelude::*;
use ostree::glib::{Variant, VariantDict};

use super::directory::Writer;
use super::store::{RESERVE, Repo, SCRATCH_RESERVE};
use crate::sys::fs as sysfs;

const NONE: Option<&gio::Cancellable> = None;

/// `/etc` is there twice.
#[derive(Debug, thiserror::Error)]
#[error("it has files both in /etc and in /usr/etc: move them to one of the two")]
pub struct EtcTwice;

/// What a commit says.
#[derive(Debug, Clone, Default)]
pub struct CommitWords {
    /// One line.
    pub subject: String,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Its version.
    pub version: Option<String>,
    /// The release of its kernel; with one it is bootable.
    pub kernel: Option<String>,
}

impl Repo {
    /// Makes a repository for work, in a directory that is there and empty; any user can.
    #[context("Making a repository in {}", path.display())]
    pub fn create_scratch(path: &Path) -> Result<Self> {
        let repo = ostree::Repo::new_for_path(path);
        repo.create(ostree::RepoMode::BareUser, NONE)?;
        let config = repo.copy_config();
        // It goes away with the work.
        config.set_boolean("core", "fsync", false);
        config.set_string("core", RESERVE, SCRATCH_RESERVE);
        repo.write_config(&config)?;
        Self::open(path)
    }

    /// Commits a root file system.
    #[context("Making a commit of {}", root.display())]
    pub fn commit_dir(&self, root: &Path, words: &CommitWords) -> Result<String> {
        let repo = self.ostree();
        let transaction = repo.auto_transaction(NONE)?;
        let policy = ostree::SePolicy::new(&gio::File::for_path(root), NONE)?;
        let policy = policy.name().is_some().then_some(policy);
        let tree = ostree::MutableTree::new();
        Writer::new(repo, policy).write(&sysfs::open_dir_path(root)?, &tree)?;
        let commit = self.finish(&tree, words)?;
        transaction.commit(NONE)?;
        Ok(commit)
    }

    /// Commits the tree of another commit.
    #[context("Making a commit of the tree of {commit}")]
    pub fn commit_tree_of(&self, commit: &str, words: &CommitWords) -> Result<String> {
        let repo = self.ostree();
        let transaction = repo.auto_transaction(NONE)?;
        let tree = ostree::MutableTree::from_commit(repo, commit)?;
        let commit = self.finish(&tree, words)?;
        transaction.commit(NONE)?;
        Ok(commit)
    }

    fn finish(&self, tree: &ostree::MutableTree, words: &CommitWords) -> Result<String> {
        let repo = self.ostree();
        move_etc(repo, tree)?;
        ensure(tree, "sysroot")?;
        if !has(tree, "ostree") {
            let link = repo.write_symlink(None, 0, 0, None, "sysroot/ostree", NONE)?;
            tree.replace_file("ostree", &link)?;
        }
        let root = repo.write_mtree(tree, NONE)?;
        let root = root.downcast::<ostree::RepoFile>();
        let root = root
            .ok()
            .context("libostree returned something else than a tree")?;
        let metadata = VariantDict::new(None);
        if let Some(version) = &words.version {
            metadata.insert("version", version.as_str());
        }
        if let Some(kernel) = &words.kernel {
            metadata.insert("ostree.bootable", true);
            metadata.insert("ostree.linux", kernel.as_str());
        }
        let metadata: Variant = metadata.end();
        let subject = Some(words.subject.as_str());
        let commit = repo.write_commit_with_time(
            None,
            subject,
            None,
            Some(&metadata),
            &root,
            words.timestamp,
            NONE,
        )?;
        Ok(commit.into())
    }
}

fn has(tree: &ostree::MutableTree, name: &str) -> bool {
    tree.lookup(name).is_ok()
}

/// A directory, made like the one above it where it is missing.
fn ensure(tree: &ostree::MutableTree, name: &str) -> Result<ostree::MutableTree> {
    let is_new = !has(tree, name);
    let dir = tree.ensure_dir(name)?;
    if is_new {
        dir.set_metadata_checksum(&tree.metadata_checksum());
    }
    Ok(dir)
}

fn move_etc(repo: &ostree::Repo, tree: &ostree::MutableTree) -> Result<()> {
    let usr = tree.lookup("usr").ok().and_then(|(_, usr)| usr);
    let twice = usr.is_some_and(|usr| has(&usr, "etc"));
    match tree.lookup("etc") {
        Ok((_, Some(etc))) if is_empty(&etc) => {}
        Ok((_, Some(_))) if twice => return Err(EtcTwice.into()),
        Ok((_, Some(etc))) => move_to(repo, &etc, &ensure(tree, "usr")?)?,
        // A link to it; a host has an /etc of its own.
        Ok((Some(_), None)) if twice => {}
        _ => return Ok(()),
    }
    Ok(tree.remove("etc", true)?)
}

fn is_empty(tree: &ostree::MutableTree) -> bool {
    tree.copy_files().is_empty() && tree.copy_subdirs().is_empty()
}

fn move_to(
    repo: &ostree::Repo,
    etc: &ostree::MutableTree,
    usr: &ostree::MutableTree,
) -> Result<()> {
    let written = repo.write_mtree(etc, NONE)?;
    let written = written.downcast::<ostree::RepoFile>();
    let written = written
        .ok()
        .context("libostree returned something else than a tree")?;
    let (contents, meta) = (
        written
            .tree_get_contents_checksum()
            .context("/etc was not written")?,
        written
            .tree_get_metadata_checksum()
            .context("/etc was not written")?,
    );
    let moved = usr.ensure_dir("etc")?;
    moved.fill_empty_from_dirtree(repo, &contents, &meta);
    Ok(())
}

#[cfg(test)]
mod tests {
    use ostree::prelude::*;

    use super::*;

    fn words() -> CommitWords {
        CommitWords {
            subject: "a test".into(),
            timestamp: 7,
            version: Some("1".into()),
            kernel: Some("6.1".into()),
        }
    }

    /// The paths of a commit, as `ostree ls -R` has them.
    fn paths(repo: &Repo, commit: &str) -> Vec<String> {
        let (root, _) = repo.ostree().read_commit(commit, NONE).unwrap();
        let mut found = Vec::new();
        let mut todo = vec![root];
        while let Some(dir) = todo.pop() {
            let attributes = "standard::name,standard::type";
            let flags = gio::FileQueryInfoFlags::NOFOLLOW_SYMLINKS;
            for info in dir.enumerate_children(attributes, flags, NONE).unwrap() {
                let info = info.unwrap();
                let child = dir.child(info.name());
                found.push(child.path().unwrap_or_default().display().to_string());
                if info.file_type() == gio::FileType::Directory {
                    todo.push(child);
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn work_leaves_less_free_than_hosts_do() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        let reserve = || Repo::open(place).unwrap().reserve().unwrap();
        let little = Repo::create_scratch(place).unwrap().reserve().unwrap();
        assert_eq!(little, 64 << 20);
        Repo::keep_little_free(place, false).unwrap();
        assert_ne!(reserve(), little);
        Repo::keep_little_free(place, true).unwrap();
        assert_eq!(reserve(), little);
    }

    #[test]
    fn a_root_gets_the_layout_of_ostree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for name in ["etc", "usr/bin", "run/x", "tmp", "proc"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(root.join("etc/conf"), "1").unwrap();
        std::fs::write(root.join("usr/bin/a"), "2").unwrap();
        std::fs::write(root.join("tmp/left"), "3").unwrap();
        let place = dir.path().join("repo");
        std::fs::create_dir(&place).unwrap();
        let repo = Repo::create_scratch(&place).unwrap();
        let commit = repo.commit_dir(&root, &words()).unwrap();
        let found = paths(&repo, &commit);
        let wanted = [
            "/ostree",
            "/proc",
            "/run",
            "/sysroot",
            "/tmp",
            "/usr",
            "/usr/bin",
            "/usr/bin/a",
            "/usr/etc",
            "/usr/etc/conf",
        ];
        assert_eq!(found, wanted);
        assert_eq!(repo.commit_dir(&root, &words()).unwrap(), commit);
        assert_eq!(repo.commit_tree_of(&commit, &words()).unwrap(), commit);
        std::fs::create_dir_all(root.join("usr/etc")).unwrap();
        let error = repo.commit_dir(&root, &words()).unwrap_err();
        assert!(error.downcast_ref::<EtcTwice>().is_some(), "{error:#}");
        std::fs::remove_file(root.join("etc/conf")).unwrap();
        repo.commit_dir(&root, &words()).unwrap();
        std::fs::remove_dir(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("usr/etc", root.join("etc")).unwrap();
        std::fs::write(root.join("usr/etc/conf"), "1").unwrap();
        let linked = repo.commit_dir(&root, &words()).unwrap();
        assert_eq!(paths(&repo, &linked), wanted);
        let small = dir.path().join("small");
        std::fs::create_dir_all(small.join("etc")).unwrap();
        let empty = repo.commit_dir(&small, &words()).unwrap();
        assert_eq!(paths(&repo, &empty), ["/ostree", "/sysroot"]);
        std::fs::write(small.join("etc/conf"), "1").unwrap();
        let moved = repo.commit_dir(&small, &words()).unwrap();
        let wanted = ["/ostree", "/sysroot", "/usr", "/usr/etc", "/usr/etc/conf"];
        assert_eq!(paths(&repo, &moved), wanted);
    }
}
