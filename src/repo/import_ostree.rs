//! Layers of an encapsulated ostree commit. A tar stream with the repository layout inside comes
//! in, verified objects go out to staging. Every object is hashed and must match its name; nothing
//! outside `sysroot/ostree/repo` is looked at.
//!
//! Layout: docs of ostree-ext, "tar format"; all three generations of its extended attributes.

use std::collections::HashMap;
use std::io::BufRead;

use super::LayerError;
use super::commit;
use super::commit_check::CommitCheck;
use super::digests::Digests;
use super::dirtree::{DirTree, TreeBuilder};
use super::gvariant::{self, Malformed, Xattrs};
use super::layer_stage::{LayerStage, NoContent};
use super::object::{FileMeta, ObjectKind, S_IFDIR, S_IFLNK, S_IFREG};
use super::record::Tape;
use super::tar_stream::{Entry, Kind, TarStream};
use crate::image::Digest;

/// Largest set of extended attributes, bytes.
const MAX_XATTRS: u64 = 1 << 20;
/// Largest metadata object, bytes.
const MAX_METADATA: u64 = 10 << 20;
/// Bytes of attribute sets that are remembered by name, in all.
const MAX_XATTRS_KEPT: usize = 16 << 20;
const REPO: &str = "sysroot/ostree/repo/";

/// What an ostree layer held.
#[derive(Debug, Default)]
pub struct OstreeLayer {
    /// The commit of a base layer.
    pub commit: Option<Digest>,
    /// All file objects, whether they were new or not. One that came twice is an error; whoever sorts
    /// them finds it.
    pub files: Digests,
    /// What the stream had beside the content of objects.
    pub tape: Option<Tape>,
}

/// Which objects a layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OstreeLayerKind {
    /// The commit layer: the commit first, then metadata and files.
    Base,
    /// Files only.
    Chunk,
}

/// Imports one layer whole. Where there is a `check`, the commit's signatures must follow it at once,
/// and nothing is written before they have been found good.
pub fn import<R: BufRead>(
    mut tar: TarStream<R>,
    kind: OstreeLayerKind,
    stage: &mut LayerStage,
    check: Option<&CommitCheck>,
) -> Result<OstreeLayer, LayerError> {
    let mut import = Import {
        kind,
        stage,
        check,
        unverified: None,
        layer: OstreeLayer::default(),
        xattrs: XattrSets::default(),
    };
    while let Some(entry) = tar.next_entry()? {
        import.entry(&entry, &mut tar)?;
    }
    import.require_verified()?;
    if import.xattrs.pending.is_some() {
        return Err(refuse(
            "the end of the layer",
            "attributes without their file",
        ));
    }
    if kind == OstreeLayerKind::Base && import.layer.commit.is_none() {
        return Err(refuse(
            "the end of the layer",
            "the commit layer has no commit",
        ));
    }
    let mut layer = import.layer;
    layer.tape = tar.drain()?;
    if let Some(commit) = layer.commit {
        stage.no_other_detached_metadata(commit);
    }
    Ok(layer)
}

/// Attribute sets seen in this layer.
#[derive(Debug, Default)]
struct XattrSets {
    /// By the sha256 of their bytes; bounded by `MAX_XATTRS_KEPT`.
    known: HashMap<String, Xattrs>,
    kept: usize,
    /// For the file object that must come next.
    pending: Option<(Digest, Xattrs)>,
}

struct Import<'a> {
    kind: OstreeLayerKind,
    stage: &'a mut LayerStage,
    check: Option<&'a CommitCheck>,
    /// The commit, until its signatures have come.
    unverified: Option<(Digest, Vec<u8>)>,
    layer: OstreeLayer,
    xattrs: XattrSets,
}

impl Import<'_> {
    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        let (name, extension) = match place(entry)? {
            Place::Nowhere => return Ok(()),
            Place::XattrSet(name) => {
                self.require_verified()?;
                return self.xattr_set(name, entry, tar);
            }
            Place::Object(name, extension) => (name, extension),
        };
        if extension != "commitmeta" {
            self.require_verified()?;
        }
        match extension {
            "file" => self.file(name, entry, tar),
            "file-xattrs" => self.xattr_set(&name.hex(), entry, tar),
            "file-xattrs-link" | "file.xattrs" => self.xattr_link(name, entry, tar),
            "commit" => self.commit(name, entry, tar),
            "commitmeta" => self.commit_meta(name, entry, tar),
            "dirtree" => self.metadata(ObjectKind::DirTree, name, entry, tar),
            "dirmeta" => self.metadata(ObjectKind::DirMeta, name, entry, tar),
            _ => Err(refuse(
                &entry.display(),
                "it is of no kind that ostree knows",
            )),
        }
    }

    fn file<R: BufRead>(
        &mut self,
        name: Digest,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        self.require_commit(entry)?;
        let path = entry.display();
        let xattrs = match self.xattrs.pending.take() {
            Some((owner, xattrs)) if owner == name => xattrs,
            Some(_) => return Err(refuse(&path, "the attributes before it are another file's")),
            None => return Err(refuse(&path, "its attributes do not stand before it")),
        };
        self.layer.files.push(name, || self.stage.unnamed())?;
        let mut meta = FileMeta {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            target: Vec::new(),
            xattrs,
        };
        match entry.kind {
            Kind::Regular => {
                meta.mode |= S_IFREG;
                tar.leave_out();
                self.stage.file(&meta, entry.size, Some(name), tar)?;
                tar.is_content_of((name, ObjectKind::File))?;
            }
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(refuse(&path, "it is a symbolic link to nothing"));
                }
                meta.mode |= S_IFLNK;
                meta.target.clone_from(&entry.link);
                self.stage.file(&meta, 0, Some(name), &mut NoContent)?;
            }
            _ => {
                return Err(refuse(
                    &path,
                    "it is neither a regular file nor a symbolic link",
                ));
            }
        }
        Ok(())
    }

    fn commit<R: BufRead>(
        &mut self,
        name: Digest,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        if self.kind == OstreeLayerKind::Base && self.layer.commit.is_some() {
            return Err(refuse(&entry.display(), "the layer has a second commit"));
        }
        if self.kind == OstreeLayerKind::Base && self.layer.files.len() > 0 {
            return Err(refuse(
                &entry.display(),
                "the commit is not the first object",
            ));
        }
        let data = self.read_metadata(ObjectKind::Commit, name, entry, tar)?;
        match self.check {
            Some(_) => self.unverified = Some((name, data)),
            None => drop(self.stage.metadata(ObjectKind::Commit, &data)?),
        }
        self.layer.commit = Some(name);
        Ok(())
    }

    /// Refuses to go on past a commit whose signatures have not come.
    fn require_verified(&mut self) -> Result<(), LayerError> {
        match (self.check, self.unverified.take()) {
            (Some(check), Some((name, data))) => Ok(check.verify(name, &data, None)?),
            _ => Ok(()),
        }
    }

    fn commit_meta<R: BufRead>(
        &mut self,
        name: Digest,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        if self.layer.commit != Some(name) {
            return Err(refuse(&entry.display(), "it belongs to another commit"));
        }
        let data = read_detached(entry, tar)?;
        if let (Some(check), Some((name, commit))) = (self.check, self.unverified.take()) {
            check.verify(name, &commit, Some(&data))?;
            self.stage.metadata(ObjectKind::Commit, &commit)?;
        }
        Ok(self.stage.detached_metadata(name, &data)?)
    }

    fn metadata<R: BufRead>(
        &mut self,
        kind: ObjectKind,
        name: Digest,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        self.require_commit(entry)?;
        let data = self.read_metadata(kind, name, entry, tar)?;
        self.stage.metadata(kind, &data)?;
        Ok(())
    }

    /// The bytes of an object, which give its name and are of its kind.
    fn read_metadata<R: BufRead>(
        &self,
        kind: ObjectKind,
        name: Digest,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<Vec<u8>, LayerError> {
        if self.kind == OstreeLayerKind::Chunk {
            return Err(refuse(
                &entry.display(),
                "a chunk layer may only have file objects",
            ));
        }
        read_object(kind, name, entry, tar)
    }

    /// A set of attributes under the sha256 of its bytes, for links that follow.
    fn xattr_set<R: BufRead>(
        &mut self,
        name: &str,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        let (data, xattrs) = read_xattrs(entry, tar)?;
        let found = Digest::of(&data);
        if found.hex() != name {
            return Err(LayerError::Checksum {
                name: entry.display(),
                found,
            });
        }
        self.xattrs.kept += data.len();
        if self.xattrs.kept > MAX_XATTRS_KEPT {
            return Err(refuse(
                &entry.display(),
                "the layer's attributes are too large in all",
            ));
        }
        self.xattrs.known.insert(name.into(), xattrs);
        Ok(())
    }

    /// The attributes of the file object that must follow: a link to a set, or the set itself.
    fn xattr_link<R: BufRead>(
        &mut self,
        owner: Digest,
        entry: &Entry,
        tar: &mut TarStream<R>,
    ) -> Result<(), LayerError> {
        let path = entry.display();
        if self.xattrs.pending.is_some() {
            return Err(refuse(&path, "the attributes before it have no file"));
        }
        let xattrs = match entry.kind {
            Kind::Regular => read_xattrs(entry, tar)?.1,
            Kind::HardLink => {
                let target = String::from_utf8_lossy(&entry.link);
                let name =
                    set_name(&target).ok_or_else(|| refuse(&path, "its target has no name"))?;
                let known = self.xattrs.known.get(&name).cloned();
                known.ok_or_else(|| refuse(&path, "its target is not in this layer"))?
            }
            _ => {
                return Err(refuse(
                    &path,
                    "it is neither a regular file nor a hard link",
                ));
            }
        };
        self.xattrs.pending = Some((owner, xattrs));
        Ok(())
    }

    fn require_commit(&self, entry: &Entry) -> Result<(), LayerError> {
        match (self.kind, self.layer.commit) {
            (OstreeLayerKind::Base, None) => Err(refuse(
                &entry.display(),
                "the commit is not the first object",
            )),
            _ => Ok(()),
        }
    }
}

/// Where an entry belongs in a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'e> {
    /// Outside, or where nothing that counts is.
    Nowhere,
    /// A set of extended attributes, by its name.
    XattrSet(&'e str),
    /// An object, by its name and its file name's extension.
    Object(Digest, &'e str),
}

/// Where an entry of an ostree layer belongs.
pub(super) fn place(entry: &Entry) -> Result<Place<'_>, LayerError> {
    let path = std::str::from_utf8(&entry.path).map_err(|_| LayerError::Path {
        path: entry.display(),
        reason: "has a path that is not UTF-8",
    })?;
    let path = path.strip_prefix("./").unwrap_or(path);
    let Some(path) = path.strip_prefix(REPO) else {
        return Ok(Place::Nowhere);
    };
    if entry.kind == Kind::Directory || path == "config" || path.starts_with("refs") {
        return Ok(Place::Nowhere);
    }
    if let Some(name) = path.strip_prefix("xattrs/") {
        return Ok(Place::XattrSet(name));
    }
    let object = path
        .strip_prefix("objects/")
        .and_then(|p| p.split_once('/'));
    let object = object.and_then(|(dir, rest)| Some((dir, rest.split_once('.')?)));
    let Some((dir, (rest, extension))) = object else {
        return Err(refuse(path, "it is not where objects are"));
    };
    let name = Digest::from_hex(&format!("{dir}{rest}"));
    let name = name.map_err(|_| refuse(path, "its name is not a checksum"))?;
    Ok(Place::Object(name, extension))
}

/// The bytes of a metadata object, which give its name and are of its kind.
pub(super) fn read_object<R: BufRead>(
    kind: ObjectKind,
    name: Digest,
    entry: &Entry,
    tar: &mut TarStream<R>,
) -> Result<Vec<u8>, LayerError> {
    tar.leave_out();
    let data = read(entry, tar, MAX_METADATA)?;
    tar.is_content_of((name, kind))?;
    let found = Digest::of(&data);
    if found != name {
        return Err(LayerError::Checksum {
            name: entry.display(),
            found,
        });
    }
    validate(kind, &data).map_err(|source| malformed(entry, source))?;
    Ok(data)
}

/// What is noted about a commit.
pub(super) fn read_detached<R: BufRead>(
    entry: &Entry,
    tar: &mut TarStream<R>,
) -> Result<Vec<u8>, LayerError> {
    let data = read(entry, tar, MAX_METADATA)?;
    commit::validate_detached(&data).map_err(|source| malformed(entry, source))?;
    Ok(data)
}

/// The checksum in the path of an attribute set: `…/objects/ab/cd….file-xattrs` or `…/xattrs/abcd…`.
fn set_name(target: &str) -> Option<String> {
    let (dirs, file) = target.rsplit_once('/')?;
    match file.strip_suffix(".file-xattrs") {
        Some(rest) => Some(format!("{}{rest}", dirs.rsplit('/').next()?)),
        None => Some(file.into()),
    }
}

fn read_xattrs<R: BufRead>(
    entry: &Entry,
    tar: &mut TarStream<R>,
) -> Result<(Vec<u8>, Xattrs), LayerError> {
    let data = read(entry, tar, MAX_XATTRS)?;
    let xattrs = gvariant::parse_xattrs(&data).map_err(|source| malformed(entry, source))?;
    Ok((data, xattrs))
}

/// A checksum that fits says nothing about the bytes being an object.
fn validate(kind: ObjectKind, data: &[u8]) -> Result<(), Malformed> {
    match kind {
        ObjectKind::DirTree => {
            let mut normal = TreeBuilder::default();
            DirTree::parse(data)?
                .entries()
                .for_each(|entry| normal.entry(&entry));
            match normal.finish() == data {
                true => Ok(()),
                false => Err(Malformed("directory tree (not in normal form)")),
            }
        }
        ObjectKind::DirMeta => {
            let (uid, gid, mode, xattrs) = gvariant::parse_metadata(data)?;
            let normal = gvariant::metadata(uid, gid, mode, &xattrs) == data;
            match normal && mode & !0o7777 == S_IFDIR {
                true => Ok(()),
                false => Err(Malformed("directory metadata")),
            }
        }
        ObjectKind::Commit => commit::validate(data),
        _ => Ok(()),
    }
}

fn malformed(entry: &Entry, source: Malformed) -> LayerError {
    LayerError::Malformed {
        name: entry.display(),
        source,
    }
}

fn read<R: BufRead>(
    entry: &Entry,
    tar: &mut TarStream<R>,
    limit: u64,
) -> Result<Vec<u8>, LayerError> {
    if entry.kind != Kind::Regular {
        return Err(refuse(&entry.display(), "it is not a regular file"));
    }
    if entry.size > limit {
        return Err(refuse(
            &entry.display(),
            "it is too large (limits: metadata 10 MiB, attributes 1 MiB)",
        ));
    }
    let mut data = Vec::with_capacity(entry.size as usize);
    while let Some(chunk) = tar.chunk()? {
        data.extend_from_slice(chunk);
    }
    Ok(data)
}

/// Refuses file objects that a layer has twice.
pub fn require_once(files: Digests) -> Result<(), LayerError> {
    let mut last = None;
    files.sorted(|file| match last.replace(file) == Some(file) {
        true => Err(twice(file)),
        false => Ok(()),
    })
}

/// The error of a file object that a layer has twice.
pub fn twice(file: Digest) -> LayerError {
    let hex = file.hex();
    let name = format!("{REPO}objects/{}/{}.file", &hex[..2], &hex[2..]);
    refuse(&name, "it stands in the layer twice")
}

pub(super) fn refuse(name: &str, reason: &'static str) -> LayerError {
    LayerError::Object {
        name: name.into(),
        reason,
    }
}
