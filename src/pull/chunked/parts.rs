//! What is known about one layer that is fetched in parts. Its table of contents and tar-split data
//! come in as they were fetched, in a file; after a look at the repository, the ranges that must
//! be fetched go out, and a reader of the tar stream.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::assemble::Assembled;
use super::table::{At, Row, Rows, Table, TableWriter};
use super::toc::{TocFile, read_toc};
use crate::image::{Chunked, Digest, Layer, LayerKind};
use crate::pull::stream::Cancel;
use crate::repo::{ContentIndex, ObjectKind, Repo};

/// Most ranges of one layer: what remains of an image whose every second file is new.
const MAX_RANGES: usize = 1 << 20;

/// A table of contents that has been read, before anything was looked up.
#[derive(Debug)]
pub struct Contents {
    /// Table of contents and tar-split data, compressed, as they stand in the blob.
    spool: File,
    chunked: Chunked,
    table: Table,
    kind: LayerKind,
}

impl Contents {
    /// Reads and checks what was fetched. `scratch` makes empty files.
    pub fn read(
        spool: File,
        layer: &Layer,
        chunked: Chunked,
        scratch: &dyn Fn() -> io::Result<File>,
    ) -> Result<Self> {
        let (toc, split) = (&chunked.toc, &chunked.tar_split);
        let start = chunked.bytes().start;
        let part = |bytes: &Range<u64>| {
            let length = bytes.end - bytes.start;
            io::Result::Ok(At::new(&spool, bytes.start - start)?.take(length))
        };
        check(part(&toc.bytes)?, chunked.toc_digest).context("Checking the table of contents")?;
        let mut table = TableWriter::new(scratch()?);
        let inflated = zstd::Decoder::new(part(&toc.bytes)?)?.take(toc.inflated);
        let split_digest = read_toc(BufReader::new(inflated), toc.bytes.start, &mut |file| {
            Ok(table.push(&row(&file, layer.kind))?)
        })?;
        check(part(&split.bytes)?, split_digest).context("Checking the tar-split data")?;
        let table = table.finish()?;
        Ok(Self {
            spool,
            chunked,
            table,
            kind: layer.kind,
        })
    }

    /// Bytes that were fetched.
    pub fn listed(&self) -> u64 {
        let listed = self.chunked.bytes();
        listed.end - listed.start
    }

    /// Adds the sizes of files whose objects must be found by their content.
    pub fn sizes(&self, sizes: &mut HashSet<u64>) -> Result<()> {
        if self.kind == LayerKind::Derived {
            for row in self.table.rows()? {
                sizes.insert(row?.size);
            }
        }
        Ok(())
    }

    /// Looks up what is here.
    pub fn resolve(
        self,
        repo: &Repo,
        index: &ContentIndex,
        scratch: &dyn Fn() -> io::Result<File>,
    ) -> Result<Parts> {
        let mut table = TableWriter::new(scratch()?);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let (mut reused, mut reused_files) = (0, 0);
        for row in self.table.rows()? {
            let mut row = row?;
            let hint = row.object.or_else(|| index.lookup(&row.digest));
            row.object = hint.filter(|object| has(repo, *object, row.size));
            if row.object.is_some() {
                reused += row.bytes.end - row.bytes.start;
                reused_files += 1;
            } else {
                add(&mut ranges, &row.bytes);
            }
            ensure!(ranges.len() <= MAX_RANGES, "it is in too many parts");
            table.push(&row)?;
        }
        Ok(Parts {
            to_fetch: ranges.iter().map(|r| r.end - r.start).sum(),
            spool: self.spool,
            chunked: self.chunked,
            table: table.finish()?,
            ranges,
            reused,
            reused_files,
        })
    }
}

/// A layer of which it is known what must be fetched.
#[derive(Debug)]
pub struct Parts {
    spool: File,
    chunked: Chunked,
    table: Table,
    /// What must be fetched of the blob, in order.
    pub ranges: Vec<Range<u64>>,
    /// Bytes that must be fetched.
    pub to_fetch: u64,
    /// Bytes of the blob whose content is here already.
    pub reused: u64,
    /// Files whose content is here already.
    pub reused_files: u64,
}

impl Parts {
    /// The layer's tar stream. `fetched` gives the bytes of [`ranges`](Self::ranges).
    pub fn tar<F: Read>(
        &self,
        repo: Repo,
        fetched: F,
        cancel: Cancel,
    ) -> Result<Assembled<impl Read + use<F>, F>> {
        let split = &self.chunked.tar_split;
        let bytes = split.bytes.start - self.chunked.bytes().start;
        let length = split.bytes.end - split.bytes.start;
        let split = At::new(&self.spool, bytes)?.take(length);
        let rows: Rows = self.table.rows()?;
        Assembled::new(split, rows, repo, fetched, cancel)
    }
}

fn check(mut part: impl Read, expected: Digest) -> Result<()> {
    let mut hasher = Sha256::new();
    io::copy(&mut part, &mut hasher)?;
    let found = Digest::from_bytes(hasher.finalize().into());
    ensure!(
        found == expected,
        "its digest is {found}, but {expected} was promised"
    );
    Ok(())
}

/// A file as the table has it; in a chunk of an ostree commit its name says which object it is.
fn row(file: &TocFile, kind: LayerKind) -> Row {
    Row {
        size: file.size,
        digest: file.digest,
        bytes: file.bytes.clone(),
        object: (kind != LayerKind::Derived)
            .then(|| object_in(&file.name))
            .flatten(),
    }
}

/// `sysroot/ostree/repo/objects/ab/cd….file`
fn object_in(path: &str) -> Option<Digest> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let object = path.strip_prefix("sysroot/ostree/repo/objects/")?;
    let (dir, rest) = object.strip_suffix(".file")?.split_once('/')?;
    Digest::from_hex(&format!("{dir}{rest}")).ok()
}

fn has(repo: &Repo, object: Digest, size: u64) -> bool {
    let here = repo.has(object, ObjectKind::File).unwrap_or(false);
    here && repo
        .file_meta(object)
        .is_ok_and(|(meta, found)| found == size && !meta.is_symlink())
}

/// Adds a range behind the others.
fn add(ranges: &mut Vec<Range<u64>>, bytes: &Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == bytes.start => last.end = bytes.end,
        _ => ranges.push(bytes.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        let digest = Digest::of(b"x");
        let (dir, rest) = (digest.hex()[..2].to_owned(), digest.hex()[2..].to_owned());
        let table = [
            (
                format!("sysroot/ostree/repo/objects/{dir}/{rest}.file"),
                Some(digest),
            ),
            (
                format!("./sysroot/ostree/repo/objects/{dir}/{rest}.file"),
                Some(digest),
            ),
            (
                format!("sysroot/ostree/repo/objects/{dir}/{rest}.dirtree"),
                None,
            ),
            (
                format!("sysroot/ostree/repo/objects/{dir}{rest}.file"),
                None,
            ),
            (format!("usr/{dir}/{rest}.file"), None),
        ];
        for (path, expected) in table {
            assert_eq!(object_in(&path), expected, "{path}");
        }
    }
}
