//! Which object has a content: an index from the sha256 digest of a file's content to a file object
//! that has it. Sizes that are looked for come in, hints go out. A cache: filled with what is asked
//! for, made anew when it is lost, and never believed, since whoever uses an object hashes it.
//!
//! ```text
//! REPO/extensions/bowline/contents     16 bytes of magic, then records of 64 bytes, sorted:
//!                                      digest of the content, name of the object
//! ```
//!
//! Nothing but hashing objects gives such digests, so only objects are hashed whose size is one of
//! those that are looked for. Never holds the index in memory: it can have a million records.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use anyhow::Result;
use fn_error_context::context;

use super::store::Repo;
use crate::image::Digest;
use crate::sys::fs as sysfs;

const MAGIC: &[u8; 16] = b"bowline content1";
const RECORD: usize = 64;
/// Most objects that are hashed at once; what remains is not reused this time.
const MAX_NEW: usize = 200_000;
const NAME: &str = "contents";

type Record = [u8; RECORD];

/// Answers which object has a content.
#[derive(Debug, Default)]
pub struct ContentIndex {
    file: Option<Sorted>,
    /// Sorted; they may not have come to the disk.
    fresh: Vec<Record>,
}

impl ContentIndex {
    /// The index of a repository, with all objects in it that have one of `sizes` (bytes).
    #[context("Indexing the content of local files")]
    pub fn for_sizes(repo: &Repo, sizes: &HashSet<u64>) -> Result<Self> {
        let file = Sorted::open(repo).unwrap_or_else(|error| {
            tracing::debug!("the index of local files is not used: {error}");
            None
        });
        let known = known_objects(file.as_ref())?;
        let mut found = Found::default();
        repo.each_file_object(|object, size| {
            let known = found.note(object, &known);
            let wanted = || size().is_some_and(|size| size > 0 && sizes.contains(&size));
            if !known && found.fresh.len() < MAX_NEW && wanted() {
                found.hash(repo, object);
            }
            Ok(())
        })?;
        found.fresh.sort_unstable();
        found.present.sort_unstable();
        if !found.fresh.is_empty() {
            // Without it the same objects are hashed again next time.
            if let Err(error) = save(repo, file.as_ref(), &found) {
                tracing::debug!("the index of local files is not kept: {error}");
            }
        }
        let fresh = found.fresh;
        Ok(Self { file, fresh })
    }

    /// An object that may have this content.
    pub fn lookup(&self, content: &Digest) -> Option<Digest> {
        let fresh = self.fresh.binary_search_by_key(&content.as_bytes(), key);
        let fresh = fresh.ok().map(|index| object(&self.fresh[index]));
        fresh.or_else(|| self.file.as_ref()?.lookup(content))
    }

    /// Throws the index of a repository away, when it has turned out to be wrong.
    pub fn forget(repo: &Repo) -> io::Result<()> {
        sysfs::remove_all(repo.extension_dir()?, NAME)
    }
}

fn key(record: &Record) -> &[u8; 32] {
    record.first_chunk().expect("a record has 64 bytes")
}

fn object(record: &Record) -> Digest {
    Digest::from_bytes(*record.last_chunk().expect("a record has 64 bytes"))
}

/// Enough of a name to tell a million objects apart; a mistake costs a hint.
fn prefix(digest: &[u8]) -> u64 {
    digest
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The objects that the index has, sorted.
fn known_objects(file: Option<&Sorted>) -> Result<Vec<u64>> {
    let mut known = Vec::new();
    if let Some(file) = file {
        for record in file.records() {
            known.push(prefix(object(&record?).as_bytes()));
        }
    }
    known.sort_unstable();
    Ok(known)
}

/// What a walk over the objects found.
#[derive(Debug, Default)]
struct Found {
    fresh: Vec<Record>,
    present: Vec<u64>,
}

impl Found {
    /// Notes that an object is here; tells whether the index has it.
    fn note(&mut self, object: Digest, known: &[u64]) -> bool {
        let short = prefix(object.as_bytes());
        self.present.push(short);
        known.binary_search(&short).is_ok()
    }

    fn hash(&mut self, repo: &Repo, object: Digest) {
        match content_digest(repo, object) {
            Ok(content) => {
                let mut record = [0; RECORD];
                record[..32].copy_from_slice(content.as_bytes());
                record[32..].copy_from_slice(object.as_bytes());
                self.fresh.push(record);
            }
            // It is gone, or a link.
            Err(error) => tracing::debug!("object {object} is not indexed: {error:#}"),
        }
    }
}

fn content_digest(repo: &Repo, object: Digest) -> Result<Digest> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut content = repo.file_reader(object)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Writes old and new records, without those whose objects are gone.
fn save(repo: &Repo, old: Option<&Sorted>, found: &Found) -> io::Result<()> {
    repo.replace(repo.extension_dir()?, NAME, |file| {
        let mut out = BufWriter::new(file);
        write(&mut out, old, found)?;
        out.flush()
    })
}

fn write(out: &mut impl Write, old: Option<&Sorted>, found: &Found) -> io::Result<()> {
    out.write_all(MAGIC)?;
    let mut fresh = found.fresh.iter().peekable();
    for record in old.map(Sorted::records).into_iter().flatten() {
        let record = record?;
        while let Some(earlier) = fresh.next_if(|fresh| **fresh < record) {
            out.write_all(earlier)?;
        }
        let short = prefix(object(&record).as_bytes());
        if found.present.binary_search(&short).is_ok() {
            out.write_all(&record)?;
        }
    }
    for record in fresh {
        out.write_all(record)?;
    }
    Ok(())
}

/// A file of sorted records.
#[derive(Debug)]
struct Sorted {
    file: File,
    count: u64,
}

impl Sorted {
    /// `None` where there is none that can be used.
    fn open(repo: &Repo) -> io::Result<Option<Self>> {
        let Some(file) = sysfs::open_optional(repo.extension_dir()?, NAME)? else {
            return Ok(None);
        };
        let mut magic = [0; MAGIC.len()];
        let length = file.metadata()?.len();
        let whole = length >= MAGIC.len() as u64 && file.read_exact_at(&mut magic, 0).is_ok();
        let records = length.saturating_sub(MAGIC.len() as u64);
        let usable = whole && magic == *MAGIC && records % RECORD as u64 == 0;
        Ok(usable.then(|| Self {
            file,
            count: records / RECORD as u64,
        }))
    }

    fn record(&self, index: u64) -> io::Result<Record> {
        let mut record = [0; RECORD];
        let offset = MAGIC.len() as u64 + index * RECORD as u64;
        self.file.read_exact_at(&mut record, offset)?;
        Ok(record)
    }

    fn records(&self) -> impl Iterator<Item = io::Result<Record>> {
        let mut input = BufReader::with_capacity(128 << 10, At(&self.file, MAGIC.len() as u64));
        (0..self.count).map(move |_| {
            let mut record = [0; RECORD];
            input.read_exact(&mut record).map(|()| record)
        })
    }

    /// Digests are spread evenly, so a guess by proportion is close.
    fn lookup(&self, content: &Digest) -> Option<Digest> {
        let wanted = prefix(content.as_bytes());
        let (mut low, mut high) = (0, self.count);
        let (mut least, mut most) = (0, u64::MAX);
        while low < high {
            let share = u128::from(wanted.saturating_sub(least)) * u128::from(high - low)
                / (u128::from(most.saturating_sub(least)) + 1);
            let guess = low + (share as u64).min(high - low - 1);
            let record = self.record(guess).ok()?;
            match key(&record).cmp(content.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(object(&record)),
                std::cmp::Ordering::Less => (low, least) = (guess + 1, prefix(key(&record))),
                std::cmp::Ordering::Greater => (high, most) = (guess, prefix(key(&record))),
            }
        }
        None
    }
}

/// Reads a file from a position on, whatever others do with its handle.
#[derive(Debug)]
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read_at(buffer, self.1)?;
        self.1 += length as u64;
        Ok(length)
    }
}
