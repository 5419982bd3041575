//! Fixture lines to ostree commits. Text comes in; commits in an archive repository of a
//! temporary directory go out, with owners, modes and extended attributes as written, and without
//! needing root. Never writes outside that directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fn_error_context::context;
use ostree::glib;
use ostree::prelude::*;
use tempfile::TempDir;

use super::lines::{Entry, Kind, parse};

const NONE: Option<&ostree::gio::Cancellable> = None;

/// The time of every commit made without another one: 2026-01-01T00:00:00Z.
pub const EPOCH: u64 = 1_767_225_600;

/// A small bootable system, as fixture lines.
pub const OS: &str = "
    dir /boot 0 0 755
    dir /proc 0 0 755
    dir /run 0 0 755
    dir /sys 0 0 755
    dir /dev 0 0 755
    dir /sysroot 0 0 755
    dir /var 0 0 755
    dir /tmp 0 0 1777
    link /ostree sysroot/ostree
    file /usr/bin/hello 0 0 755 #!/bin/sh\\necho hello\\n
    link /usr/bin/hi hello
    hardlink /usr/bin/hello2 /usr/bin/hello
    file /usr/bin/ping 0 0 4755 ping\\n
    file /usr/lib/os-release 0 0 644 ID=fixture\\nPRETTY_NAME=\"Fixture OS\"\\n
    file /usr/lib/empty 0 0 644
    file /usr/lib/modules/6.1.0/vmlinuz 0 0 644 a kernel\\n
    file /usr/lib/modules/6.1.0/initramfs.img 0 0 644 an initramfs\\n
    data /usr/lib/big 0 0 644 300000 1
    file /usr/etc/motd 0 0 644 version 1\\n
    file /usr/etc/hosts 0 0 644 127.0.0.1 localhost\\n
    file /usr/share/doc 0 0 600 some words\\n
";

/// What a commit says beside its tree.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Subject line.
    pub subject: String,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Text metadata (`version`, `ostree.linux` …).
    pub metadata: Vec<(String, String)>,
    /// Whether to set `ostree.bootable`.
    pub bootable: bool,
}

impl Default for CommitOptions {
    fn default() -> Self {
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        Self {
            subject: "fixture".into(),
            timestamp: EPOCH,
            metadata: vec![pair("version", "1"), pair("ostree.linux", "6.1.0")],
            bootable: true,
        }
    }
}

impl CommitOptions {
    fn variant(&self) -> glib::Variant {
        let dict = glib::VariantDict::new(None);
        for (key, value) in &self.metadata {
            dict.insert(key, value);
        }
        if self.bootable {
            dict.insert("ostree.bootable", true);
        }
        dict.end()
    }
}

/// An archive repository in a temporary directory.
#[derive(Debug)]
pub struct Fixture {
    repo: ostree::Repo,
    path: PathBuf,
    _dir: TempDir,
}

impl Fixture {
    /// Makes an empty repository.
    #[context("Making a fixture repository")]
    pub fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        let path = dir.path().join("repo");
        std::fs::create_dir(&path)?;
        let repo = ostree::Repo::new_for_path(&path);
        repo.create(ostree::RepoMode::Archive, NONE)?;
        Ok(Self {
            repo,
            path,
            _dir: dir,
        })
    }

    /// The repository.
    pub const fn repo(&self) -> &ostree::Repo {
        &self.repo
    }

    /// Where the repository lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Commits the tree of some fixture lines with [`CommitOptions::default`].
    pub fn commit(&self, lines: &str) -> Result<String> {
        self.commit_with(lines, &CommitOptions::default())
    }

    /// Commits the tree of some fixture lines; the checksum goes out.
    #[context("Committing a fixture")]
    pub fn commit_with(&self, lines: &str, options: &CommitOptions) -> Result<String> {
        let transaction = self.repo.auto_transaction(NONE)?;
        let tree = ostree::MutableTree::new();
        self.dir_metadata(&tree, &Entry::new("/", 0o755, Kind::Dir))?;
        for entry in parse(lines)? {
            self.add(&tree, &entry)
                .with_context(|| format!("Adding {}", entry.path))?;
        }
        let commit = write_commit(&self.repo, &tree, options)?;
        transaction.commit(NONE)?;
        Ok(commit)
    }

    fn add(&self, root: &ostree::MutableTree, entry: &Entry) -> Result<()> {
        let path = entry.path.trim_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let tree = self.ensure_dirs(root, parent)?;
        let xattrs = xattrs_variant(entry);
        let checksum = match &entry.kind {
            Kind::Dir if name.is_empty() => return self.dir_metadata(root, entry),
            Kind::Dir => return self.dir_metadata(&tree.ensure_dir(name)?, entry),
            Kind::File(data) => {
                let mode = regular(entry.mode);
                let (uid, gid) = (entry.uid, entry.gid);
                self.repo
                    .write_regfile_inline(None, uid, gid, mode, Some(&xattrs), data, NONE)?
            }
            Kind::Symlink(target) => {
                let (uid, gid) = (entry.uid, entry.gid);
                self.repo
                    .write_symlink(None, uid, gid, Some(&xattrs), target, NONE)?
            }
            Kind::Hardlink(target) => {
                let (parent, name) = target.rsplit_once('/').unwrap_or(("", target));
                let (file, _) = self.ensure_dirs(root, parent)?.lookup(name)?;
                file.with_context(|| format!("{target} is not a file"))?
            }
            Kind::Char(..) | Kind::Fifo => bail!("an ostree commit holds no devices and no pipes"),
        };
        Ok(tree.replace_file(name, &checksum)?)
    }

    /// Walks to a directory and makes what is missing, root's with mode 0755.
    fn ensure_dirs(&self, root: &ostree::MutableTree, path: &str) -> Result<ostree::MutableTree> {
        let mut tree = root.clone();
        for name in path.split('/').filter(|n| !n.is_empty()) {
            let is_new = !tree.copy_subdirs().contains_key(name);
            tree = tree.ensure_dir(name)?;
            if is_new {
                self.dir_metadata(&tree, &Entry::new(name, 0o755, Kind::Dir))?;
            }
        }
        Ok(tree)
    }

    fn dir_metadata(&self, tree: &ostree::MutableTree, entry: &Entry) -> Result<()> {
        let mode = 0o040_000 | entry.mode;
        // Numbers stand in network byte order (libostree, "OSTREE_DIRMETA_GVARIANT_FORMAT").
        let numbers = (entry.uid.to_be(), entry.gid.to_be(), mode.to_be());
        let meta = (numbers.0, numbers.1, numbers.2, xattrs_pairs(entry)).to_variant();
        let kind = ostree::ObjectType::DirMeta;
        let checksum = self.repo.write_metadata(kind, None, &meta, NONE)?;
        tree.set_metadata_checksum(&checksum.to_string());
        Ok(())
    }
}

/// Writes a finished tree and its commit; a transaction must be open.
pub(super) fn write_commit(
    repo: &ostree::Repo,
    tree: &ostree::MutableTree,
    options: &CommitOptions,
) -> Result<String> {
    let root = repo.write_mtree(tree, NONE)?;
    let root = root.downcast::<ostree::RepoFile>();
    let root = root.ok().context("libostree gave a tree of another kind")?;
    let subject = Some(options.subject.as_str());
    let metadata = options.variant();
    let time = options.timestamp;
    let commit =
        repo.write_commit_with_time(None, subject, None, Some(&metadata), &root, time, NONE)?;
    Ok(commit.into())
}

const fn regular(mode: u32) -> u32 {
    0o100_000 | mode
}

fn xattrs_variant(entry: &Entry) -> glib::Variant {
    xattrs_pairs(entry).to_variant()
}

/// Names with their final NUL and values, as ostree stores them.
fn xattrs_pairs(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = entry.xattrs.iter();
    let pairs = pairs.map(|(name, value)| ([name.as_bytes(), b"\0"].concat(), value.clone()));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_modes_and_xattrs_arrive_and_the_checksum_is_stable() {
        let fixture = Fixture::new().unwrap();
        let lines = "file /usr/a 7 8 4755 text\nxattr /usr/a user.x y\nhardlink /b usr/a";
        let commit = fixture.commit(lines).unwrap();
        assert_eq!(commit, Fixture::new().unwrap().commit(lines).unwrap());

        let (root, _) = fixture.repo().read_commit(&commit, NONE).unwrap();
        let object = |path: &str| {
            let file = root.resolve_relative_path(path);
            let file = file.downcast::<ostree::RepoFile>().unwrap();
            file.ensure_resolved().unwrap();
            file.checksum().to_string()
        };
        assert_eq!(object("usr/a"), object("b"));
        let (_, info, xattrs) = fixture.repo().load_file(&object("b"), NONE).unwrap();
        let number = |key: &str| info.attribute_uint32(key);
        let owner = (
            number("unix::uid"),
            number("unix::gid"),
            number("unix::mode"),
        );
        assert_eq!(owner, (7, 8, 0o104_755));
        let expected = vec![(b"user.x\0".to_vec(), b"y".to_vec())];
        assert_eq!(xattrs.get::<Vec<(Vec<u8>, Vec<u8>)>>().unwrap(), expected);
    }

    #[test]
    fn a_directory_keeps_what_its_own_line_says() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture
            .commit("dir /tmp 1 2 1777\nfile /tmp/x 0 0 644")
            .unwrap();
        let (root, _) = fixture.repo().read_commit(&commit, NONE).unwrap();
        let tmp = root.resolve_relative_path("tmp");
        let tmp = tmp.downcast::<ostree::RepoFile>().unwrap();
        tmp.ensure_resolved().unwrap();
        let meta = tmp.tree_get_metadata_checksum().unwrap();
        let meta = fixture.repo().read_dirmeta(&meta).unwrap();
        assert_eq!((meta.uid, meta.gid, meta.mode), (1, 2, 0o041_777));
    }
}
