//! Writes the objects of one layer into its staging directory, in the form the repository's mode
//! asks for. File metadata and content come in, checksums go out. Never touches a final name, and keeps
//! nothing that the repository or another layer of the pull has.

mod files;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::alike::Alike;
use super::hashing::Hashing;
use super::loose;
use super::object::{FileMeta, ObjectKind};
use super::record::{self, Tape};
use super::sound::Damaged;
use super::staged::{LayerNumber, ObjectName, Staged};
use super::staging::StorageMode;
use super::tar_stream::TarError;
use super::tree::TreeStore;
use crate::image::Digest;
use crate::sys::amount::bytes;
use crate::sys::fs as sysfs;

/// Bytes that are written between two looks at the free space.
const CLAIM_STEP: u64 = 16 << 20;
/// What a file costs the file system beside its content, bytes.
const CLAIM_FILE: u64 = 512;
/// Bytes of a streamed object that are hashed and written at once.
const STREAM_BUFFER: usize = 64 << 10;
/// Largest directory tree that is read back, bytes.
const MAX_TREE: u64 = 128 << 20;

/// Gives the content of a file slice by slice.
pub trait Chunks {
    /// The next slice, `None` at the end.
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError>;
}

impl<R: io::BufRead> Chunks for super::tar_stream::TarStream<R> {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        Self::chunk(self)
    }
}

/// What a symbolic link has beside its target.
#[derive(Debug)]
pub(super) struct NoContent;

impl Chunks for NoContent {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        Ok(None)
    }
}

/// What a layer is to publish beside what is in its directory.
pub(super) struct Objects {
    /// The layer, whose directory has this name.
    pub number: LayerNumber,
    /// Objects in other layers' directories.
    pub leans: HashSet<ObjectName>,
    /// Objects in its directory that are to stay there.
    pub forgotten: BTreeSet<ObjectName>,
    /// The commit whose detached metadata this layer has.
    pub detached: Option<Digest>,
    /// Commits that must not have detached metadata.
    pub plain: Vec<Digest>,
    /// The diff_id that its record is for.
    pub record: Option<Digest>,
}

/// Objects of one layer. One thread writes them.
#[derive(Debug)]
pub struct LayerStage {
    dir: OwnedFd,
    objects: OwnedFd,
    mode: StorageMode,
    /// What the layers of the pull have staged, and which of them this is.
    shared: Arc<Staged>,
    number: LayerNumber,
    /// What the repository's images have; `None` where it keeps no content as it is.
    alike: Option<Arc<Alike>>,
    /// What it needs of other layers.
    leans: HashSet<ObjectName>,
    /// What it has written and does not need.
    forgotten: BTreeSet<ObjectName>,
    /// The commit that it has detached metadata of, and commits that have none.
    detached: Option<Digest>,
    plain: Vec<Digest>,
    /// Whose record is among its files.
    record: Option<Digest>,
    buffer: Vec<u8>,
    bytes: u64,
    reserve: u64,
    claimed: u64,
    /// File objects that are in the repository and damaged.
    pub(super) damaged: HashSet<Digest>,
}

impl LayerStage {
    /// Writes into the first of two directories; the second has the objects of the repository.
    /// `reserve` bytes stay free.
    pub(super) fn new(
        (dir, objects): (OwnedFd, OwnedFd),
        (shared, number): (Arc<Staged>, LayerNumber),
        alike: Option<Arc<Alike>>,
        mode: StorageMode,
        reserve: u64,
    ) -> Self {
        Self {
            dir,
            objects,
            mode,
            shared,
            number,
            alike,
            leans: HashSet::new(),
            forgotten: BTreeSet::new(),
            detached: None,
            plain: Vec::new(),
            record: None,
            buffer: Vec::new(),
            bytes: 0,
            reserve,
            claimed: 0,
            damaged: HashSet::new(),
        }
    }

    /// What is to be published, whoever has staged it.
    pub(super) fn into_objects(self) -> Objects {
        Objects {
            number: self.number,
            leans: self.leans,
            forgotten: self.forgotten,
            plain: self
                .plain
                .into_iter()
                .filter(|c| self.detached != Some(*c))
                .collect(),
            detached: self.detached,
            record: self.record,
        }
    }

    /// Begins the record of this layer.
    pub(super) fn begin_record(&mut self, diff_id: Digest) -> io::Result<Tape> {
        sysfs::remove_all(&self.dir, record::STAGED)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&self.dir, record::STAGED, flags, mode)?;
        self.record = Some(diff_id);
        Tape::new(File::from(file))
    }

    /// Content of a regular file object that is staged or in the repository.
    pub(super) fn content(&self, object: ObjectName) -> anyhow::Result<Box<dyn Read>> {
        if let Some(name) = self.staged_name(object)? {
            // Another layer may have published it since.
            if sysfs::exists(&self.dir, &name)? {
                return Ok(loose::content(self.mode, &self.dir, &name)?);
            }
        }
        let mut name = self.file_name(object.0, object.1);
        name.insert(2, '/');
        Ok(loose::content(self.mode, &self.objects, &name)?)
    }

    /// A directory for anything else; it goes away with the staging directory.
    pub(super) fn scratch(&self) -> io::Result<OwnedFd> {
        sysfs::remove_all(&self.dir, "scratch")?;
        sysfs::ensure_dir(&self.dir, "scratch")?;
        sysfs::open_dir(&self.dir, "scratch")
    }

    /// Bytes written so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A file without a name, for anything else.
    pub(super) fn unnamed(&self) -> io::Result<File> {
        sysfs::unnamed(&self.dir)
    }

    /// Forgets objects; they are not published.
    pub fn forget(&mut self, objects: &BTreeSet<(Digest, ObjectKind)>) {
        self.leans.retain(|object| !objects.contains(object));
        self.forgotten.extend(objects);
    }

    /// Metadata of a file object that is staged; `None` for any other.
    pub fn staged_file(&self, checksum: Digest) -> anyhow::Result<Option<FileMeta>> {
        let Some(name) = self.staged_name((checksum, ObjectKind::File))? else {
            return Ok(None);
        };
        // Another layer may have published it since.
        match sysfs::exists(&self.dir, &name)? {
            true => Ok(Some(loose::file(self.mode, &self.dir, &name)?.0)),
            false => Ok(None),
        }
    }

    /// Where an object is, seen from this layer's directory, if a layer has staged it.
    fn staged_name(&self, object: ObjectName) -> io::Result<Option<String>> {
        let layer = self.shared.layer_of(object)?;
        let name = self.file_name(object.0, object.1);
        Ok(layer.map(|layer| format!("../{layer}/{name}")))
    }

    /// Whether a file object that this layer refers to is here, staged or before.
    pub fn has_file(&mut self, checksum: Digest) -> io::Result<bool> {
        self.has(checksum, ObjectKind::File)
    }

    /// Takes one metadata object; its name is the hash of its bytes.
    pub fn metadata(&mut self, kind: ObjectKind, data: &[u8]) -> io::Result<Digest> {
        let checksum = Digest::of(data);
        if !self.has(checksum, kind)? {
            let size = data.len() as u64;
            self.once((checksum, kind), size, |stage, name| {
                stage.write_plain(name, data)
            })?;
        }
        Ok(checksum)
    }

    /// Takes a metadata object that is written piece by piece.
    pub fn stream<E: From<io::Error>>(
        &mut self,
        kind: ObjectKind,
        write: impl FnOnce(&mut BufWriter<Hashing<File>>) -> Result<(), E>,
    ) -> Result<Digest, E> {
        sysfs::remove_all(&self.dir, "big")?;
        let file = Hashing::new(sysfs::create_new(&self.dir, "big")?);
        let mut out = BufWriter::with_capacity(STREAM_BUFFER, file);
        write(&mut out)?;
        let out = out.into_inner().map_err(io::Error::from)?;
        let (checksum, size, file) = out.finish();
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(io::Error::from)?;
        self.keep_big(checksum, kind, size)?;
        Ok(checksum)
    }

    /// Gives the file `big` its name, unless the object is here.
    fn keep_big(&mut self, checksum: Digest, kind: ObjectKind, size: u64) -> io::Result<()> {
        if !self.has(checksum, kind)? {
            self.once((checksum, kind), size, |stage, name| {
                Ok(rustix::fs::renameat(&stage.dir, "big", &stage.dir, name)?)
            })?;
        }
        sysfs::remove_all(&self.dir, "big")
    }

    /// Takes the detached metadata of this layer's commit. Its name says nothing of its content, so that no other
    /// layer may use it.
    pub fn detached_metadata(&mut self, commit: Digest, data: &[u8]) -> io::Result<()> {
        let name = self.file_name(commit, ObjectKind::CommitMeta);
        sysfs::remove_all(&self.dir, &name)?;
        self.write_plain(&name, data)?;
        self.detached = Some(commit);
        Ok(())
    }

    /// Notes that a commit of this layer has no detached metadata but what this layer brings: somebody else
    /// may have brought the same commit with other ones.
    pub fn no_other_detached_metadata(&mut self, commit: Digest) {
        self.plain.push(commit);
    }

    fn write_plain(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.claim(data.len() as u64)?;
        let mut file = sysfs::create_new(&self.dir, name)?;
        file.write_all(data)?;
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?)
    }

    /// Stages an object of `size` bytes, unless another layer has by now.
    fn once(
        &mut self,
        object: ObjectName,
        size: u64,
        write: impl FnOnce(&mut Self, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        let shared = self.shared.clone();
        match shared.turn(object, self.number)? {
            Some(turn) => {
                let name = self.file_name(object.0, object.1);
                write(self, &name)?;
                turn.done();
                self.bytes += size;
            }
            None => drop(self.lean(object)?),
        }
        Ok(())
    }

    /// Notes that this layer needs an object that is staged; tells whether it is.
    fn lean(&mut self, object: ObjectName) -> io::Result<bool> {
        let layer = self.shared.layer_of(object)?;
        if layer.is_some_and(|layer| layer != self.number) {
            self.leans.insert(object);
        }
        Ok(layer.is_some())
    }

    /// Refuses to write `size` bytes more where they would not leave enough free.
    fn claim(&mut self, size: u64) -> io::Result<()> {
        self.claimed += size + CLAIM_FILE;
        if self.claimed < CLAIM_STEP {
            return Ok(());
        }
        let wanted = std::mem::take(&mut self.claimed);
        let free = sysfs::available_bytes(&self.dir)?;
        if free.saturating_sub(self.reserve) >= wanted {
            return Ok(());
        }
        let text = format!(
            "{} are free, of which the repository's min-free-space keeps {}",
            bytes(free),
            bytes(self.reserve)
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    fn file_name(&self, checksum: Digest, kind: ObjectKind) -> String {
        format!(
            "{}.{}",
            checksum.hex(),
            kind.extension(self.mode == StorageMode::Archive)
        )
    }

    /// Whether the object is in the repository, or staged by a layer of this pull.
    fn has(&mut self, checksum: Digest, kind: ObjectKind) -> io::Result<bool> {
        if kind != ObjectKind::File || !self.damaged.contains(&checksum) {
            let mut name = self.file_name(checksum, kind);
            name.insert(2, '/');
            // First: what was published is not looked for in every layer's directory.
            if sysfs::exists(&self.objects, &name)? {
                return Ok(true);
            }
        }
        self.lean((checksum, kind))
    }
}

impl TreeStore for LayerStage {
    /// An error with a [`Damaged`] in it where the bytes are not what the name says.
    fn read_tree(&self, tree: Digest) -> io::Result<Vec<u8>> {
        let data = self.tree_bytes(tree)?;
        match Digest::of(&data) == tree {
            true => Ok(data),
            false => Err(io::Error::other(Damaged {
                object: self.file_name(tree, ObjectKind::DirTree),
            })),
        }
    }

    fn write_tree(&mut self, data: &[u8]) -> io::Result<Digest> {
        self.metadata(ObjectKind::DirTree, data)
    }
}

impl LayerStage {
    /// The bytes of a dirtree object, staged or in the repository, verified by nobody.
    fn tree_bytes(&self, tree: Digest) -> io::Result<Vec<u8>> {
        let mut name = self.file_name(tree, ObjectKind::DirTree);
        name.insert(2, '/');
        // First: what was published is not looked for in every layer's directory.
        if let Some(data) = sysfs::read_optional(&self.objects, &name, MAX_TREE)? {
            return Ok(data);
        }
        if let Some(staged) = self.staged_name((tree, ObjectKind::DirTree))? {
            if let Some(data) = sysfs::read_optional(&self.dir, &staged, MAX_TREE)? {
                return Ok(data);
            }
        }
        // Another layer may have published it since.
        let data = sysfs::read_optional(&self.objects, &name, MAX_TREE)?;
        data.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is missing")))
    }
}
