//! Objects of an ostree repository to tar entries, as the layers of an encapsulated commit hold
//! them. Checksums come in, entries go out. Never decides which object stands in which layer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use anyhow::{Context, Result};
use ostree::prelude::*;

use super::lines::{Entry, Kind};
use super::tar::{Dialect, Tar};
use crate::image::{Digest, to_hex};

const NONE: Option<&ostree::gio::Cancellable> = None;
const REPO: &str = "sysroot/ostree/repo";
const CONFIG: &[u8] = b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n";

/// File objects by checksum, with their paths in order.
pub(super) type Objects<'a> = BTreeMap<&'a str, &'a [String]>;

/// Where the extended attributes of a file object stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum XattrStyle {
    /// `xattrs/<sha256>` and a hard link `….file.xattrs`: the first generation.
    V0,
    /// `….file-xattrs` and a hard link `….file-xattrs-link`: ostree-ext up to 0.15.
    #[default]
    Linked,
    /// `….file-xattrs-link` as a regular file, and PAX records beside it: bootc.
    Inline,
}

/// One step of the commit layer's structure.
#[derive(Debug)]
pub(super) enum Step {
    /// A dirtree or dirmeta object that has not been written yet.
    Metadata(ostree::ObjectType, String),
    /// A directory by its real path, with the dirmeta that describes it.
    Dir(String, String),
}

/// Writes objects into a tar stream.
pub(super) struct ObjectWriter<'a, W> {
    repo: &'a ostree::Repo,
    tar: Tar<W>,
    style: XattrStyle,
    carriers: BTreeSet<String>,
}

impl<'a, W: Write> ObjectWriter<'a, W> {
    /// Starts a layer: the skeleton of a repository, in a commit layer behind the root directory.
    pub(super) fn start(
        repo: &'a ostree::Repo,
        out: W,
        style: XattrStyle,
        commit: bool,
    ) -> Result<Self> {
        let dialect = match style {
            XattrStyle::Inline => Dialect::Pax,
            _ => Dialect::Gnu,
        };
        let mut writer = Self {
            repo,
            tar: Tar::new(out, dialect),
            style,
            carriers: BTreeSet::new(),
        };
        if commit {
            writer.dir("./", 0o755)?;
        }
        writer.skeleton()?;
        Ok(writer)
    }

    pub(super) fn finish(self) -> Result<()> {
        self.tar.finish()?;
        Ok(())
    }

    pub(super) fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        Ok(self.tar.entry(&Entry::new(path, mode, Kind::Dir))?)
    }

    pub(super) fn file(&mut self, path: &str, size: usize) -> Result<()> {
        let kind = Kind::File(vec![0; size]);
        Ok(self.tar.entry(&Entry::new(path, 0o644, kind))?)
    }

    fn skeleton(&mut self) -> Result<()> {
        for path in ["sysroot", "sysroot/ostree", REPO] {
            self.dir(path, 0o755)?;
        }
        self.dir(&format!("{REPO}/objects"), 0o755)?;
        for prefix in 0..=255 {
            self.dir(&format!("{REPO}/objects/{prefix:02x}"), 0o755)?;
        }
        let refs = ["refs", "refs/heads", "refs/mirrors", "refs/remotes"];
        let others = ["state", "tmp", "tmp/cache"];
        for name in ["extensions"].iter().chain(&refs).chain(&others) {
            self.dir(&format!("{REPO}/{name}"), 0o755)?;
        }
        let kind = Kind::File(CONFIG.to_vec());
        let config = Entry::new(&format!("{REPO}/config"), 0o644, kind);
        Ok(self.tar.entry(&config)?)
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Metadata(kind, checksum) => self.metadata(*kind, checksum),
            Step::Dir(path, dirmeta) => {
                let meta = self.repo.read_dirmeta(dirmeta)?;
                let entry = Entry::new(&real_path(path), meta.mode & 0o7777, Kind::Dir);
                let (uid, gid) = (meta.uid, meta.gid);
                Ok(self.tar.entry(&Entry { uid, gid, ..entry })?)
            }
        }
    }

    pub(super) fn metadata(&mut self, kind: ostree::ObjectType, checksum: &str) -> Result<()> {
        let suffix = match kind {
            ostree::ObjectType::Commit => "commit",
            ostree::ObjectType::DirTree => "dirtree",
            _ => "dirmeta",
        };
        let bytes = self.repo.load_variant(kind, checksum)?.data().to_vec();
        let entry = Entry::new(&object(checksum, suffix), 0o644, Kind::File(bytes));
        self.tar.entry(&entry)?;
        // Detached metadata (signatures) stands right behind its commit.
        let detached = match kind {
            ostree::ObjectType::Commit => {
                self.repo.read_commit_detached_metadata(checksum, NONE)?
            }
            _ => None,
        };
        if let Some(detached) = detached {
            let kind = Kind::File(detached.data().to_vec());
            let path = object(checksum, "commitmeta");
            self.tar.entry(&Entry::new(&path, 0o644, kind))?;
        }
        Ok(())
    }

    pub(super) fn objects(&mut self, objects: &Objects<'_>) -> Result<()> {
        for (checksum, paths) in objects {
            let entry = self.object(checksum, checksum, true)?;
            for path in *paths {
                let kind = match &entry.kind {
                    Kind::File(data) if data.is_empty() => Kind::File(Vec::new()),
                    _ => Kind::Hardlink(object(checksum, "file")),
                };
                let path = real_path(path);
                self.tar.entry(&Entry {
                    path,
                    kind,
                    ..entry.clone()
                })?;
            }
        }
        Ok(())
    }
    /// Writes one file object under `name`, which is `checksum` unless something is to be wrong,
    /// with the carrier of its extended attributes in front; its metadata goes out for its links.
    pub(super) fn object(&mut self, checksum: &str, name: &str, carrier: bool) -> Result<Entry> {
        let (stream, info, xattrs) = self.repo.load_file(checksum, NONE)?;
        if carrier {
            self.carrier(name, &xattrs)?;
        }
        let number = |key: &str| info.attribute_uint32(key);
        let kind = match stream {
            Some(stream) => {
                let mut data = Vec::with_capacity(usize::try_from(info.size())?);
                stream.into_read().read_to_end(&mut data)?;
                Kind::File(data)
            }
            None => {
                let target = info
                    .symlink_target()
                    .context("a symbolic link has no target")?;
                Kind::Symlink(target.to_str().context("a target is not text")?.into())
            }
        };
        let mut entry = Entry {
            uid: number("unix::uid"),
            gid: number("unix::gid"),
            ..Entry::new(&object(name, "file"), number("unix::mode") & 0o7777, kind)
        };
        if self.style == XattrStyle::Inline {
            entry.xattrs = pax_xattrs(&xattrs)?;
        }
        self.tar.entry(&entry)?;
        entry.xattrs.clear();
        Ok(entry)
    }

    fn carrier(&mut self, name: &str, xattrs: &ostree::glib::Variant) -> Result<()> {
        let payload = xattrs.data().to_vec();
        let digest = Digest::of(&payload).hex();
        let (path, link) = match self.style {
            XattrStyle::V0 => (format!("{REPO}/xattrs/{digest}"), "file.xattrs"),
            _ => (object(&digest, "file-xattrs"), "file-xattrs-link"),
        };
        let link = object(name, link);
        if self.style == XattrStyle::Inline {
            let entry = Entry::new(&link, 0o644, Kind::File(payload));
            return Ok(self.tar.entry(&entry)?);
        }
        if self.carriers.insert(digest) {
            let entry = Entry::new(&path, 0o644, Kind::File(payload));
            self.tar.entry(&entry)?;
        }
        Ok(self
            .tar
            .entry(&Entry::new(&link, 0o644, Kind::Hardlink(path)))?)
    }
}

/// The PAX form of extended attributes; the label is left to the reader's policy.
fn pax_xattrs(xattrs: &ostree::glib::Variant) -> Result<Vec<(String, Vec<u8>)>> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = xattrs.get().context("xattrs of another type")?;
    let text = |name: Vec<u8>| String::from_utf8(name).map(|n| n.trim_end_matches('\0').into());
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| Ok((text(name)?, value)));
    let pairs: Vec<(String, Vec<u8>)> = pairs.collect::<Result<_>>()?;
    let kept = pairs
        .into_iter()
        .filter(|(name, _)| name != "security.selinux");
    Ok(kept.collect())
}

/// Where an object stands in a layer.
pub(super) fn object(checksum: &str, suffix: &str) -> String {
    format!(
        "{REPO}/objects/{}/{}.{suffix}",
        &checksum[..2],
        &checksum[2..]
    )
}

/// The path that stands in a layer for a path of the commit.
fn real_path(path: &str) -> String {
    match path.strip_prefix("usr/etc") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("etc{rest}"),
        _ => path.into(),
    }
}

/// A checksum as it stands in a GVariant (`ay`), in hex.
pub(super) fn hex(bytes: &ostree::glib::Variant) -> String {
    to_hex(bytes.data())
}
