//! A flatpak's commit to an image as flatpak makes them: one layer with plain files, and labels that say what
//! the commit says. A commit in a repository comes in, an image in a destination goes out. Never writes
//! objects of a repository into the layer.
//!
//! Labels: flatpak, `flatpak_oci_add_labels_for_commit` and `flatpak build-bundle --oci`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tar::{Builder, EntryType, Header};
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::checked::CheckedContent;
use super::compress::{Compressor, LayerBlob};
use super::encapsulate::{EncapsulateOptions, Encapsulated, file_or_scratch, put_text};
use super::image::{ImageParts, ImageText, WrittenLayer, created};
use super::write_layers::send;
use crate::image::{Digest, host_arch, is_arch, normalize_arch};
use crate::repo::dirtree::{DirTree, Entry};
use crate::repo::flatpak::{METADATA_PREFIX, ORDER, PREFIX};
use crate::repo::object::{FileMeta, S_IFMT};
use crate::repo::{CommitFacts, ObjectKind, Repo};
use crate::transport::push::Destination;

/// Deepest directory that is followed.
const MAX_DEPTH: usize = 1000;
/// Keys of a flatpak's commit.
const KEY_REF: &str = "xa.ref";
const KEY_REFS: &str = "ostree.ref-binding";
const KEY_METADATA: &str = "xa.metadata";
const KEY_INSTALLED: &str = "xa.installed-size";

/// A commit that is no flatpak's.
#[derive(Debug, Error)]
#[error("commit {0} is no flatpak's: its metadata name no flatpak ref")]
pub struct NotFlatpak(pub Digest);

/// Whether a commit is a flatpak's, and says of itself what its image has to say.
pub fn check_flatpak(commit: &CommitFacts) -> Result<()> {
    labels(commit, &flatpak_ref(commit)?, 0).map(drop)
}

/// Writes the image of a flatpak.
pub async fn encapsulate_flatpak(
    repo: &Repo,
    commit: CommitFacts,
    options: &EncapsulateOptions,
    destination: Arc<Destination>,
) -> Result<Encapsulated> {
    check_flatpak(&commit)?;
    let compressor = Compressor::new(options.compression, options.threads)?;
    let (own, scratch) = (repo.reopen()?, options.scratch.clone());
    let file = destination.nameless();
    let written = spawn_blocking(move || -> Result<(CommitFacts, LayerBlob)> {
        let out = compressor.layer(file_or_scratch(file, &scratch)?)?;
        let blob = files(&own, &commit, out)?.finish()?;
        Ok((commit, blob))
    });
    let (commit, blob) = written.await.context("A worker died")??;
    send(&destination, &blob).await?;
    let layer = WrittenLayer {
        digest: blob.digest,
        size: blob.size,
        diff_id: blob.diff_id,
        annotations: blob.annotations,
        history: "bowline container encapsulate --flatpak".into(),
    };
    let text = text(&commit, options, &layer)?;
    let digest = put_text(&destination, text).await?;
    let layers = vec![layer];
    Ok(Encapsulated { digest, layers })
}

/// Config and manifest.
fn text(
    commit: &CommitFacts,
    options: &EncapsulateOptions,
    layer: &WrittenLayer,
) -> Result<ImageText> {
    let name = flatpak_ref(commit)?;
    let mut labels = labels(commit, &name, layer.size)?;
    labels.extend(options.wishes.labels.clone());
    let labels: Value = labels.into_iter().collect();
    let arch = name.split('/').nth(2).map(normalize_arch);
    let arch = arch.filter(|arch| is_arch(arch));
    let wanted = options.wishes.arch.clone();
    let parts = ImageParts {
        created: created(commit, &options.wishes)?,
        architecture: wanted.or(arch).unwrap_or_else(host_arch),
        config: BTreeMap::from([("Labels".into(), labels)]),
        annotations: BTreeMap::new(),
        layers: std::slice::from_ref(layer),
        compression: options.compression,
    };
    parts.render()
}

/// `app/org.example.App/x86_64/stable`.
fn flatpak_ref(commit: &CommitFacts) -> Result<String> {
    let bound = commit.texts(KEY_REFS)?.unwrap_or_default();
    let said = commit.text(KEY_REF)?.into_iter().chain(bound);
    let mut flatpaks = said.filter(|name| {
        let kind = name.starts_with("app/") || name.starts_with("runtime/");
        kind && name.split('/').count() == 4
    });
    Ok(flatpaks.next().ok_or(NotFlatpak(commit.checksum))?)
}

fn labels(commit: &CommitFacts, name: &str, size: u64) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| labels.insert(format!("{PREFIX}{name}"), value);
    label("ref", name.to_owned());
    label("commit", commit.checksum.hex());
    if let Some(parent) = commit.parent {
        label("parent-commit", parent.hex());
    }
    label("timestamp", commit.timestamp.to_string());
    label("subject", commit.subject.clone());
    label("body", commit.body.clone());
    if let Some(metadata) = commit.text(KEY_METADATA)? {
        label("metadata", metadata);
    }
    if let Some(installed) = commit.number(KEY_INSTALLED)? {
        label("installed-size", u64::from_be(installed).to_string());
    }
    label("download-size", size.to_string());
    let metadata = commit.metadata();
    let keys: Vec<&str> = metadata.iter().map(|(key, _)| key.as_str()).collect();
    labels.insert(ORDER.into(), keys.join(","));
    for (key, value) in &metadata {
        labels.insert(format!("{METADATA_PREFIX}{key}"), STANDARD.encode(value));
    }
    Ok(labels)
}

/// Writes the tree of a commit as plain files.
fn files<W: Write>(repo: &Repo, commit: &CommitFacts, out: W) -> Result<W> {
    let mut files = Files {
        repo,
        tar: Builder::new(out),
        time: commit.timestamp,
    };
    files.dir("./", commit.meta)?;
    files.tree("", commit.tree, 0)?;
    Ok(files.tar.into_inner()?)
}

struct Files<'a, W: Write> {
    repo: &'a Repo,
    tar: Builder<W>,
    time: u64,
}

impl<W: Write> Files<'_, W> {
    fn tree(&mut self, path: &str, tree: Digest, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("the directories are nested more than {MAX_DEPTH} deep");
        }
        let data = self.repo.metadata_object(tree, ObjectKind::DirTree)?;
        for entry in DirTree::parse(&data)?.entries() {
            match entry {
                Entry::File(name, object) => {
                    let path = format!("{path}{name}");
                    let written = self.file(&path, Digest::from_bytes(*object));
                    written.with_context(|| format!("Writing /{path}"))?;
                }
                Entry::Dir(name, tree, meta) => {
                    let path = format!("{path}{name}/");
                    self.dir(&path, Digest::from_bytes(*meta))?;
                    self.tree(&path, Digest::from_bytes(*tree), depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn dir(&mut self, path: &str, meta: Digest) -> Result<()> {
        let meta = self.repo.dirmeta(meta)?;
        let mut header = self.header(&meta, EntryType::Directory, 0)?;
        Ok(self.tar.append_data(&mut header, path, io::empty())?)
    }

    fn file(&mut self, path: &str, object: Digest) -> Result<()> {
        let (meta, size) = self.repo.file_meta(object)?;
        if meta.is_symlink() {
            let mut header = self.header(&meta, EntryType::Symlink, 0)?;
            let target = std::str::from_utf8(&meta.target).context("its target is not text")?;
            return match header.set_link_name_literal(target) {
                Ok(()) => Ok(self.tar.append_data(&mut header, path, io::empty())?),
                Err(_) => Ok(self.tar.append_link(&mut header, path, target)?),
            };
        }
        let mut header = self.header(&meta, EntryType::Regular, size)?;
        let mut content = CheckedContent::open(self.repo, object, &meta, size)?;
        self.tar.append_data(&mut header, path, &mut content)?;
        content.finish()
    }

    /// A header, with the extended attributes in front.
    fn header(&mut self, meta: &FileMeta, kind: EntryType, size: u64) -> Result<Header> {
        let records = meta.xattrs.iter().map(|(name, value)| {
            let name = std::str::from_utf8(name).context("the name of an attribute is not text")?;
            Ok((format!("SCHILY.xattr.{name}"), value.as_slice()))
        });
        let records = records.collect::<Result<Vec<_>>>()?;
        let records = records.iter().map(|(name, value)| (name.as_str(), *value));
        self.tar.append_pax_extensions(records)?;
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_uid(meta.uid.into());
        header.set_gid(meta.gid.into());
        header.set_mode(meta.mode & !S_IFMT);
        header.set_mtime(self.time);
        header.set_size(size);
        Ok(header)
    }
}
