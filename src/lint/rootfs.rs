//! The file system under test: paths come in, what stands there goes out. What is mounted on it,
//! such as the `/proc` and `/etc/resolv.conf` of a build, is not part of it. Never follows a link
//! out of it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags};

use crate::sys::tree::{DirTree, FileTree};

/// The largest text file that a check reads, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// Bytes of a program that are looked at.
const MAX_PROGRAM: u64 = 8 << 20;

/// Findings of one kind that are told one by one.
const MAX_TOLD: usize = 5;

/// A file system, by its root.
#[derive(Debug)]
pub(super) struct Rootfs {
    path: PathBuf,
    pub(super) tree: DirTree,
    mount: u64,
}

/// A name in the file system.
#[derive(Debug)]
pub(super) struct Node {
    /// The path relative to the root.
    pub(super) path: PathBuf,
    pub(super) kind: FileType,
    pub(super) size: u64,
}

impl Node {
    /// The path as messages name it; bytes that are not UTF-8 are replaced.
    pub(super) fn name(&self) -> String {
        format!("/{}", self.path.display())
    }
}

impl Rootfs {
    pub(super) fn open(root: &Path) -> Result<Self> {
        // A root that is a link is followed; nothing below it is.
        let path = fs::canonicalize(root).context("Finding it")?;
        Ok(Self {
            tree: DirTree::open(&path)?,
            mount: stat(&path)?.mount,
            path,
        })
    }

    /// What stands at a path, links not followed; `None` where there is nothing, or a mount.
    pub(super) fn node(&self, path: impl AsRef<Path>) -> Result<Option<Node>> {
        let path = path.as_ref();
        let parents = path
            .ancestors()
            .skip(1)
            .filter(|p| !p.as_os_str().is_empty());
        for parent in parents {
            // `usr/lib` that is a link would lead anywhere.
            match stat(&self.path.join(parent)) {
                Ok(found) if found.kind == FileType::Directory => {}
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        match stat(&self.path.join(path)) {
            Ok(found) if found.mount == self.mount => Ok(Some(Node {
                path: path.into(),
                kind: found.kind,
                size: found.size,
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("Looking at /{}", path.display())),
        }
    }

    pub(super) fn is_dir(&self, path: &str) -> Result<bool> {
        let node = self.node(path)?;
        Ok(node.is_some_and(|node| node.kind == FileType::Directory))
    }

    /// Whether there is a directory of this name, be it a mount where the image is being built.
    pub(super) fn is_mount_point(&self, name: &str) -> bool {
        let found = stat(&self.path.join(name));
        found.is_ok_and(|found| found.kind == FileType::Directory)
    }

    /// The target of a link.
    pub(super) fn target(&self, node: &Node) -> Result<PathBuf> {
        let target = fs::read_link(self.path.join(&node.path));
        target.with_context(|| format!("Reading the link {}", node.name()))
    }

    /// What is in a directory, sorted by name; nothing where there is none. Mounts are left out.
    pub(super) fn children(&self, dir: impl AsRef<Path>) -> Result<Vec<Node>> {
        let dir = dir.as_ref();
        let context = || format!("Reading the directory /{}", dir.display());
        let is_root = dir.as_os_str().is_empty();
        if !is_root
            && self
                .node(dir)?
                .is_none_or(|n| n.kind != FileType::Directory)
        {
            return Ok(Vec::new());
        }
        let mut nodes = Vec::new();
        for entry in fs::read_dir(self.path.join(dir)).with_context(context)? {
            let path = dir.join(entry.with_context(context)?.file_name());
            let found = stat(&self.path.join(&path)).with_context(context)?;
            if found.mount == self.mount {
                let (kind, size) = (found.kind, found.size);
                nodes.push(Node { path, kind, size });
            }
        }
        nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(nodes)
    }

    /// Shows everything below a directory to `visit`, parents first; of a directory for which it
    /// says `false`, nothing more.
    pub(super) fn walk(
        &self,
        dir: &str,
        mut visit: impl FnMut(&Node) -> Result<bool>,
    ) -> Result<()> {
        let mut open = vec![PathBuf::from(dir)];
        while let Some(dir) = open.pop() {
            for node in self.children(&dir)? {
                if visit(&node)? && node.kind == FileType::Directory {
                    open.push(node.path);
                }
            }
        }
        Ok(())
    }

    /// A regular file that is no link; `None` where there is none.
    pub(super) fn file(&self, path: impl AsRef<Path>) -> Result<Option<fs::File>> {
        let path = path.as_ref();
        let found = self.node(path)?;
        if found.is_none_or(|node| node.kind != FileType::RegularFile) {
            return Ok(None);
        }
        let file = fs::File::open(self.path.join(path));
        let file = file.with_context(|| format!("Opening /{}", path.display()))?;
        Ok(Some(file))
    }

    /// Whether a program has these bytes in it.
    pub(super) fn contains(&self, path: &str, wanted: &[u8]) -> Result<bool> {
        let Some(file) = self.file(path)? else {
            return Ok(false);
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_PROGRAM).read_to_end(&mut bytes);
        read.with_context(|| format!("Reading /{path}"))?;
        Ok(bytes.windows(wanted.len()).any(|part| part == wanted))
    }

    /// The text of a file, links followed within the file system; `None` where there is none.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>> {
        let text = self.tree.read(path, MAX_TEXT);
        text.with_context(|| format!("Reading /{path}"))
    }
}

struct Stat {
    kind: FileType,
    size: u64,
    mount: u64,
}

fn stat(path: &Path) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MNT_ID;
    let found = rustix::fs::statx(CWD, path, flags, wanted)?;
    // Kernels before 5.8 do not tell mounts; the device does nearly as well.
    let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let device = (u64::from(found.stx_dev_major) << 32) | u64::from(found.stx_dev_minor);
    Ok(Stat {
        kind: FileType::from_raw_mode(found.stx_mode.into()),
        size: found.stx_size,
        mount: if told { found.stx_mnt_id } else { device },
    })
}

/// The first findings of many, and how many more there are.
pub(super) fn few(mut findings: Vec<String>) -> Vec<String> {
    let more = findings.len().saturating_sub(MAX_TOLD);
    if more > 1 {
        findings.truncate(MAX_TOLD);
        findings.push(format!("and {more} more like these"));
    }
    findings
}

pub(super) fn is_utf8(text: &OsStr) -> bool {
    std::str::from_utf8(text.as_bytes()).is_ok()
}
