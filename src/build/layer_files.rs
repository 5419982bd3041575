//! The package databases in layers of an image, without storing the layers. Tar streams come in, base
//! first; the files of [`crate::packages`] go out. Large ones wait in scratch files, and nothing else of a
//! layer is kept.
//!
//! In the layers of an encapsulated commit a file stands under the name of its object, and the names that it
//! really has follow as hard links.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::image::Compression;
use crate::packages::{Files, is_database};
use crate::repo::tar_stream::{Kind, TarStream};
use crate::sys::fs as sysfs;

/// Files up to this size in bytes stay in memory while they may be needed.
const SMALL: u64 = 1 << 20;

/// The most of one database in bytes, and the most files that databases are made of.
const MAX_FILE: u64 = 4 << 30;
const MAX_FILES: usize = 100_000;

/// Bytes read from a layer at once.
const BUFFER: usize = 128 << 10;

/// Where the objects of a commit stand.
const OBJECTS: &str = "sysroot/ostree/repo/objects/";
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// What is known of the databases after some layers.
#[derive(Debug)]
pub struct LayerFiles {
    scratch: PathBuf,
    files: BTreeMap<String, Stored>,
}

#[derive(Debug)]
enum Stored {
    Small(Vec<u8>),
    Large(File),
}

impl LayerFiles {
    /// Knows nothing yet; large files will wait in the directory `scratch`, without a name.
    pub fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.into(),
            files: BTreeMap::new(),
        }
    }

    /// Whether no database was in any layer.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The paths of all that is known, ascending.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Reads a layer to its end.
    pub fn take(&mut self, blob: impl Read, compression: Compression) -> Result<()> {
        let mut blob = BufReader::with_capacity(BUFFER, blob);
        let tar: Box<dyn Read + '_> = match compression {
            Compression::None => Box::new(&mut blob),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut blob)),
            Compression::Zstd => {
                Box::new(zstd::Decoder::with_buffer(&mut blob).context("Starting zstd")?)
            }
        };
        self.entries(BufReader::with_capacity(BUFFER, tar))?;
        // Whoever checks the blob wants to see all of it.
        io::copy(&mut blob, &mut io::sink())?;
        Ok(())
    }

    fn entries(&mut self, tar: impl BufRead) -> Result<()> {
        let mut tar = TarStream::new(tar, None);
        let (mut object, mut found) = (None, BTreeMap::new());
        while let Some(entry) = tar.next_entry()? {
            let Some(path) = clean(&entry.path) else {
                continue;
            };
            match entry.kind {
                Kind::Regular if path.starts_with(OBJECTS) => {
                    object = match path.ends_with(".file") {
                        true => Some((path, self.store(entry.size, &mut tar)?)),
                        false => None,
                    };
                }
                Kind::Regular if self.whiteout(&path) => {}
                Kind::Regular if is_database(&path) => {
                    found.insert(path, self.store(entry.size, &mut tar)?);
                }
                Kind::HardLink if is_database(&path) => {
                    let target = clean(&entry.link).unwrap_or_default();
                    let here = object.as_ref().filter(|(name, _)| *name == target);
                    let here = here.map(|(_, stored)| stored);
                    let known = found.get(&target).or_else(|| self.files.get(&target));
                    if let Some(stored) = here.or(known) {
                        found.insert(path, stored.copy()?);
                    }
                }
                _ => {}
            }
            ensure!(
                self.files.len() + found.len() <= MAX_FILES,
                "its package databases have more than {MAX_FILES} files"
            );
        }
        tar.drain()?;
        // Marks remove what is in the layers below, wherever in their own they stand.
        self.files.append(&mut found);
        Ok(())
    }

    fn store<R: BufRead>(&self, size: u64, tar: &mut TarStream<R>) -> Result<Stored> {
        ensure!(
            size <= MAX_FILE,
            "a file in it has {size} bytes, more than {MAX_FILE}"
        );
        if size <= SMALL {
            let mut data = Vec::new();
            while let Some(chunk) = tar.chunk()? {
                data.extend_from_slice(chunk);
            }
            return Ok(Stored::Small(data));
        }
        let open = sysfs::open_dir_path(&self.scratch).and_then(sysfs::unnamed);
        let mut file =
            open.with_context(|| format!("Making a file in {}", self.scratch.display()))?;
        while let Some(chunk) = tar.chunk()? {
            file.write_all(chunk)?;
        }
        Ok(Stored::Large(file))
    }

    /// Removes what a mark of this name removes from the layers below; whether it is such a mark.
    fn whiteout(&mut self, path: &str) -> bool {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(removed) = name.strip_prefix(WHITEOUT) else {
            return false;
        };
        let target = match (name == OPAQUE, dir) {
            (true, _) => dir.to_string(),
            (false, "") => removed.to_string(),
            (false, _) => format!("{dir}/{removed}"),
        };
        let below = |file: &str| {
            file.strip_prefix(&*target)
                .is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        self.files.retain(|file, _| !below(file));
        true
    }
}

impl Stored {
    fn copy(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Small(data) => Self::Small(data.clone()),
            Self::Large(file) => Self::Large(file.try_clone()?),
        })
    }
}

/// A path without `./` and slashes around it; `None` for what no database is called.
fn clean(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let path = path.trim_start_matches("./").trim_matches('/');
    (!path.is_empty()).then(|| path.to_string())
}

impl Files for LayerFiles {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.files.get(path).map(|stored| match stored {
            Stored::Small(data) => Box::new(&data[..]) as Box<dyn Read>,
            Stored::Large(file) => Box::new(At { file, offset: 0 }),
        }))
    }

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let below = |path: &String| {
            let rest = path.strip_prefix(dir)?.strip_prefix('/')?;
            rest.split('/').next().map(str::to_string)
        };
        let mut names: Vec<String> = self.files.keys().filter_map(below).collect();
        names.dedup();
        Ok(names)
    }
}

/// Reads a file from its beginning, whoever reads it beside.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use tar::EntryType;

    use super::*;
    use crate::packages;

    const STATUS: &str = "var/lib/dpkg/status";

    fn header(path: &str, kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_path(path).unwrap();
        header.set_cksum();
        header
    }

    fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let mut entry = match text.strip_prefix("-> ") {
                Some(target) => {
                    let mut link = header(path, EntryType::Link, 0);
                    link.set_link_name(target).unwrap();
                    link
                }
                None => header(path, EntryType::Regular, text.len() as u64),
            };
            entry.set_cksum();
            let data = if text.starts_with("-> ") { "" } else { text };
            tar.append(&entry, data.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn package(name: &str, version: &str) -> String {
        format!("Package: {name}\nVersion: {version}\nStatus: install ok installed\n")
    }

    fn read(layers: &[Vec<u8>]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let mut files = LayerFiles::new(dir.path());
        for layer in layers {
            files.take(&layer[..], Compression::None).unwrap();
        }
        let list = packages::list(&files).unwrap();
        list.into_iter().map(|p| (p.name, p.version)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(name, version): &(&str, &str)| (name.to_string(), version.to_string());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn later_layers_replace_and_remove() {
        let first = layer(&[("./var/lib/dpkg/status", &package("a", "1"))]);
        let second = layer(&[(STATUS, &package("a", "2"))]);
        let gone = layer(&[("var/lib/.wh.dpkg", "")]);
        let opaque = layer(&[("var/lib/.wh..wh..opq", ""), (STATUS, &package("b", "1"))]);
        assert_eq!(read(std::slice::from_ref(&first)), pairs(&[("a", "1")]));
        assert_eq!(read(&[first.clone(), second]), pairs(&[("a", "2")]));
        assert_eq!(read(&[first.clone(), gone]), []);
        assert_eq!(read(&[first.clone(), opaque]), pairs(&[("b", "1")]));
        let late = layer(&[(STATUS, &package("b", "1")), ("var/lib/.wh..wh..opq", "")]);
        assert_eq!(read(&[first.clone(), late]), pairs(&[("b", "1")]));
        // Some writers end a layer behind the last byte of content.
        let length = package("a", "1").len() + 512;
        assert_eq!(read(&[first[..length].to_vec()]), pairs(&[("a", "1")]));
    }

    #[test]
    fn objects_are_found_by_the_links_behind_them() {
        let (one, two) = (package("a", "1"), package("no", "1"));
        let object = "sysroot/ostree/repo/objects/ab/cd.file";
        let other = "sysroot/ostree/repo/objects/ab/ef.file";
        let link = format!("-> {object}");
        let layer = layer(&[
            (other, &two),
            (object, &one),
            ("usr/share/x", &link),
            ("usr/lib/sysimage/dpkg/status", &link),
        ]);
        assert_eq!(read(&[layer]), pairs(&[("a", "1")]));
    }

    #[test]
    fn large_databases_wait_in_a_file_and_compressed_layers_are_read() {
        let mut status = package("big", "9");
        status.push_str(&format!("Description: {}\n", "x".repeat(900_000)));
        status.push_str(&format!("Other: {}\n", "y".repeat(900_000)));
        let tar = layer(&[(STATUS, &status)]);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tar).unwrap();
        let zst = zstd::encode_all(&tar[..], 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (blob, compression) in [
            (gz.finish().unwrap(), Compression::Gzip),
            (zst, Compression::Zstd),
        ] {
            let mut files = LayerFiles::new(dir.path());
            assert!(files.is_empty());
            files.take(&blob[..], compression).unwrap();
            for _ in 0..2 {
                assert_eq!(packages::list(&files).unwrap()[0].version, "9");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_harmless(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..30)
        ) {
            let mut tar = layer(&[
                ("sysroot/ostree/repo/objects/ab/cd.file", &package("a", "1")),
                (STATUS, "-> sysroot/ostree/repo/objects/ab/cd.file"),
                ("var/lib/.wh.x", ""),
            ]);
            for (at, byte) in changes {
                let at = at.index(tar.len());
                tar[at] = byte;
            }
            let dir = tempfile::tempdir().unwrap();
            let mut files = LayerFiles::new(dir.path());
            let _ = files.take(&tar[..], Compression::None);
            prop_assert!(files.files.len() <= 2);
        }
    }
}
