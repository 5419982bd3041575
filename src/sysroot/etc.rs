//! The defaults that an image brings for `/etc`, and the files that it brings in `/var`, read from
//! its commit. A checksum comes in, a listing goes out. Nothing is checked out or changed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fn_error_context::context;
use ostree::gio;
use ostree::prelude::*;
use sha2::{Digest as _, Sha256};

use super::error::from_glib;
use super::handle::NO_CANCEL;
use super::tree::children;
use super::{DeploymentId, Sysroot};
use crate::etc_merge::{self, Entry, Kind, Specials, Tree};
use crate::image::Digest;

/// Where the defaults are; the second name is that of trees that were never deployed.
const DEFAULTS: [&str; 2] = ["usr/etc", "etc"];
/// Deepest nesting of directories that is followed.
const MAX_DEPTH: usize = 512;
/// Bytes of a file that are hashed at once.
const PART: usize = 64 << 10;

impl Sysroot {
    /// The defaults for `/etc` in a commit.
    #[context("Reading the defaults for /etc in commit {commit}")]
    pub fn defaults_of_commit(&self, commit: &str) -> Result<Tree> {
        let root = self.root_of(commit)?;
        for name in DEFAULTS {
            let mut entries = Vec::new();
            walk(
                &root.resolve_relative_path(name),
                Path::new(""),
                &mut |path, info, file| {
                    entries.push((path.to_owned(), entry(info, file)?));
                    Ok(())
                },
            )?;
            if !entries.is_empty() {
                return Ok(entries.into_iter().collect());
            }
        }
        Ok(Tree::default())
    }

    /// The defaults for `/etc` that a deployment has.
    pub fn defaults_of_deployment(&self, id: &DeploymentId) -> Result<Tree> {
        etc_merge::list(&self.directory(id).join("usr/etc"))
    }

    /// A deployment's `/etc` as it is.
    pub fn etc_of_deployment(&self, id: &DeploymentId) -> Result<Tree> {
        etc_merge::list(&self.directory(id).join("etc"))
    }

    /// The same, to be compared with its defaults: what was added to them is not read.
    pub fn etc_beside_defaults(&self, id: &DeploymentId, defaults: &Tree) -> Result<Tree> {
        etc_merge::list_beside(&self.directory(id).join("etc"), defaults)
    }

    /// Files and links below `/var` of a commit that its stateroot does not have: `/var` belongs to
    /// the host, and a deployment fills it only while it is empty.
    #[context("Looking for files in /var of commit {commit}")]
    pub fn var_left_behind(&self, commit: &str, stateroot: &str) -> Result<Vec<PathBuf>> {
        let ours = self
            .path()
            .join("ostree/deploy")
            .join(stateroot)
            .join("var");
        let var = self.root_of(commit)?.resolve_relative_path("var");
        let mut missing = Vec::new();
        walk(&var, Path::new(""), &mut |path, info, _| {
            let is_dir = info.file_type() == gio::FileType::Directory;
            if !is_dir && ours.join(path).symlink_metadata().is_err() {
                missing.push(path.to_owned());
            }
            Ok(())
        })?;
        missing.sort();
        Ok(missing)
    }

    fn root_of(&self, commit: &str) -> Result<gio::File> {
        let found = self.inner.repo().read_commit(commit, NO_CANCEL);
        Ok(found.map_err(from_glib)?.0)
    }
}

/// What the merge of the running libostree does about fifos, sockets and devices.
pub fn specials() -> Specials {
    match ostree::check_version(2024, 2) {
        true => Specials::Skipped,
        false => Specials::Fatal,
    }
}

type Visit<'a> = dyn FnMut(&Path, &gio::FileInfo, &gio::File) -> Result<()> + 'a;

/// Visits everything below a directory of a commit, a directory before what it holds.
fn walk(directory: &gio::File, path: &Path, visit: &mut Visit<'_>) -> Result<()> {
    if path.components().count() > MAX_DEPTH {
        bail!("directories are nested more than {MAX_DEPTH} deep");
    }
    for (info, file) in children(directory)? {
        let path = path.join(info.name());
        visit(&path, &info, &file)?;
        if info.file_type() == gio::FileType::Directory {
            walk(&file, &path, visit)?;
        }
    }
    Ok(())
}

fn entry(info: &gio::FileInfo, file: &gio::File) -> Result<Entry> {
    let number = |name| info.attribute_uint32(name);
    let kind = match info.file_type() {
        gio::FileType::Directory => Kind::Directory,
        gio::FileType::SymbolicLink => Kind::Link(info.symlink_target().unwrap_or_default()),
        _ => Kind::File {
            content: Some(digest(file)?),
        },
    };
    Ok(Entry {
        mode: match kind {
            Kind::Link(_) => 0o777,
            _ => number("unix::mode") & 0o7777,
        },
        kind,
        uid: number("unix::uid"),
        gid: number("unix::gid"),
    })
}

fn digest(file: &gio::File) -> Result<Digest> {
    let file = file.downcast_ref::<ostree::RepoFile>();
    let file = file.context("a file of a commit has no checksum")?;
    // Reading the file itself gives a stream that is not what its type says.
    let loaded = file.repo().load_file(&file.checksum(), NO_CANCEL);
    let (input, _, _) = loaded.map_err(from_glib)?;
    let mut hasher = Sha256::new();
    while let Some(input) = &input {
        let part = input.read_bytes(PART, NO_CANCEL).map_err(from_glib)?;
        if part.is_empty() {
            break;
        }
        hasher.update(&part);
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}
