//! An ostree repository as Bowline uses it: a handle on libostree's, and direct reads of loose
//! objects. Checksums in, objects out. Never writes under a final name; that is `staging`'s.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use fn_error_context::context;
use ostree::gio;
use ostree::glib::Bytes;
use rustix::fs::{AtFlags, FileType, Mode};
use thiserror::Error;

use super::gvariant;
use super::layer_stage::Chunks;
use super::loose;
use super::object::{FileMeta, ObjectKind};
use super::staging::{self, NoPulls, Staging, StorageMode};
use super::tar_stream::TarError;
use super::union::TreeReader;
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// Largest metadata object that is read, bytes (libostree's own limit is 128 MiB).
const MAX_METADATA: u64 = 128 << 20;
/// Bytes of a file object that are read at once.
pub(super) const CONTENT_PART: usize = 64 << 10;
/// The way to what only Bowline knows.
const EXTENSION_DIRS: [&str; 2] = ["extensions", "bowline"];
/// Where those who may not write to the repository put what they need for a moment.
const READERS_SCRATCH: &str = "/var/tmp";

/// A repository whose mode or configuration Bowline cannot write into.
#[derive(Debug, Error)]
pub enum RepoUnsupported {
    /// A mode that does not keep what an OS needs.
    #[error(
        "the repository has mode {0}, but only bare, bare-user and archive repositories can hold OS images"
    )]
    Mode(String),
    /// fs-verity is asked for on every object.
    #[error("the repository asks for fs-verity on every object, which this version does not set")]
    Verity,
}

/// Asks for the size of an object's content, bytes.
pub(super) type SizeOf<'a> = &'a dyn Fn() -> Option<u64>;

/// An open repository. Send, not Sync: one handle per thread.
#[derive(Debug)]
pub struct Repo {
    repo: ostree::Repo,
    dir: OwnedFd,
    objects: OwnedFd,
    mode: StorageMode,
}

/// Key of what a repository keeps free, in bytes; without it, it is 3% of the whole file system.
pub(super) const RESERVE: &str = "min-free-space-size";
/// What a repository keeps free that is there for one piece of work: its bytes go elsewhere or away.
pub(super) const SCRATCH_RESERVE: &str = "64MB";

impl Repo {
    /// Opens the repository in a directory.
    #[context("Opening ostree repository {}", path.display())]
    pub fn open(path: &Path) -> Result<Self> {
        let repo = ostree::Repo::new(&gio::File::for_path(path));
        repo.open(gio::Cancellable::NONE)?;
        Self::wrap(repo)
    }

    /// Takes a repository that is open already.
    pub fn wrap(repo: ostree::Repo) -> Result<Self> {
        let dir = repo.dfd_borrow().try_clone_to_owned()?;
        let mode = match repo.mode() {
            ostree::RepoMode::Bare => StorageMode::Bare,
            ostree::RepoMode::BareUser => StorageMode::BareUser,
            ostree::RepoMode::Archive => StorageMode::Archive,
            other => return Err(RepoUnsupported::Mode(format!("{other:?}")).into()),
        };
        let objects = sysfs::open_dir(&dir, "objects").context("Opening its objects")?;
        Ok(Self {
            repo,
            dir,
            objects,
            mode,
        })
    }

    /// A second handle on the same repository, for another thread.
    pub fn reopen(&self) -> Result<Self> {
        let dir = self.repo.dfd_borrow();
        let repo = ostree::Repo::open_at_dir(dir, ".").context("Reopening the repository")?;
        Self::wrap(repo)
    }

    /// libostree's handle.
    pub const fn ostree(&self) -> &ostree::Repo {
        &self.repo
    }

    /// Its directory.
    pub(super) const fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Its directory, for somebody else to hold.
    pub fn directory(&self) -> std::io::Result<OwnedFd> {
        self.dir.try_clone()
    }

    /// The directory of its objects.
    pub(super) const fn objects(&self) -> &OwnedFd {
        &self.objects
    }

    /// How files are stored.
    pub const fn mode(&self) -> StorageMode {
        self.mode
    }

    /// Takes the shared repository lock for as long as the result lives: nobody prunes meanwhile.
    /// Waits as long as the repository's `core.lock-timeout-secs` says.
    fn lock_shared(&self) -> Result<SharedLock> {
        let repo = self.reopen()?.repo;
        repo.prepare_transaction(gio::Cancellable::NONE)
            .context("Taking the lock of the ostree repository")?;
        Ok(SharedLock(repo))
    }

    /// A staging directory in this repository; nobody prunes for as long as it lives.
    pub fn staging(&self) -> Result<Staging> {
        let flag = |group: &str, key: &str| self.repo.config().string(group, key).ok();
        let is = |value: Option<ostree::glib::GString>, words: &[&str]| {
            value.is_some_and(|v| words.contains(&v.as_str()))
        };
        if is(flag("ex-integrity", "fsverity"), &["yes", "true", "1"]) {
            return Err(RepoUnsupported::Verity.into());
        }
        let sync = !is(flag("core", "fsync"), &["false", "0"]);
        let dir = self
            .dir
            .try_clone()
            .context("Duplicating a directory handle")?;
        let staging = Staging::new(dir, self.mode, sync, self.reserve()?);
        let staging = staging.context("Making a staging directory in the repository")?;
        let staging = staging.knowing(self.image_roots()?)?;
        // In this order: a prune waits for the staging directory before it takes the lock.
        Ok(staging.holding(self.lock_shared()?))
    }

    /// Waits until no pull runs, and keeps it so; removes what interrupted pulls left behind.
    pub(super) fn wait_for_pulls(&self) -> Result<NoPulls> {
        staging::wait_for_pulls(&self.dir).context("Waiting for pulls to end")
    }

    /// Bytes that may still be written to the repository's file system, under its
    /// `min-free-space-*` configuration.
    pub fn available_bytes(&self) -> Result<u64> {
        let free = sysfs::available_bytes(&self.dir).context("Asking for free space")?;
        Ok(free.saturating_sub(self.reserve()?))
    }

    /// Bytes that its configuration keeps free.
    pub fn reserve(&self) -> Result<u64> {
        let reserve = self.repo.min_free_space_bytes();
        reserve.context("Asking what must stay free")
    }

    /// Has the repository in a directory keep as little free as work needs that ends soon, or from
    /// now on what its future place asks for. Repositories that are open already do not notice.
    #[context("Configuring ostree repository {}", path.display())]
    pub fn keep_little_free(path: &Path, little: bool) -> Result<()> {
        let repo = ostree::Repo::new_for_path(path);
        repo.open(gio::Cancellable::NONE)?;
        let config = repo.copy_config();
        match little {
            true => config.set_string("core", RESERVE, SCRATCH_RESERVE),
            false => config.remove_key("core", RESERVE)?,
        }
        Ok(repo.write_config(&config)?)
    }

    /// The commit a ref points to.
    pub fn resolve_ref(&self, name: &str) -> Result<Option<String>> {
        let commit = self.repo.resolve_rev(name, true);
        let commit = commit.with_context(|| format!("Resolving ref {name}"))?;
        Ok(commit.map(Into::into))
    }

    /// Whether an object is here; a commit that is partial is.
    pub fn has(&self, checksum: Digest, kind: ObjectKind) -> Result<bool> {
        let name = self.loose_path(checksum, kind);
        sysfs::exists(&self.objects, &name).with_context(|| format!("Looking for object {name}"))
    }

    pub(super) fn loose_path(&self, checksum: Digest, kind: ObjectKind) -> String {
        let mut name = checksum.hex();
        name.insert(2, '/');
        name.push('.');
        name.push_str(kind.extension(self.mode == StorageMode::Archive));
        name
    }

    /// The bytes of an object that is no file and has its name from them. An error of the type
    /// [`Damaged`](super::Damaged) where they are others by now.
    pub fn metadata_object(&self, checksum: Digest, kind: ObjectKind) -> Result<Vec<u8>> {
        let data = self.object_bytes(checksum, kind)?;
        let data = data.ok_or_else(|| {
            let name = self.loose_path(checksum, kind);
            anyhow!("object {name} is missing: run `ostree fsck` on the repository")
        })?;
        match Digest::of(&data) == checksum {
            true => Ok(data),
            false => Err(self.damaged(checksum, kind).into()),
        }
    }

    /// The bytes of a metadata object as they lie there, verified by nobody; `None` where there is none.
    pub(super) fn object_bytes(
        &self,
        checksum: Digest,
        kind: ObjectKind,
    ) -> Result<Option<Vec<u8>>> {
        let name = self.loose_path(checksum, kind);
        let data = sysfs::read_optional(&self.objects, &name, MAX_METADATA);
        data.with_context(|| format!("Reading object {name}"))
    }

    /// Root of a commit: its dirtree and dirmeta. An error of the type [`Damaged`](super::Damaged) where the commit is
    /// not what its name says.
    #[context("Reading commit {commit}")]
    pub fn commit_root(&self, commit: &str) -> Result<(Digest, Digest)> {
        let (variant, _) = self.repo.load_commit(commit)?;
        let checksum = Digest::from_hex(commit)?;
        if Digest::of(variant.data()) != checksum {
            return Err(self.damaged(checksum, ObjectKind::Commit).into());
        }
        let member = |index| {
            let bytes = variant.child_value(index);
            let bytes: [u8; 32] = bytes.data().try_into().context("Reading its root")?;
            anyhow::Ok(Digest::from_bytes(bytes))
        };
        Ok((member(6)?, member(7)?))
    }

    /// Whether a commit is here with all it refers to, as far as its state says.
    pub fn has_complete_commit(&self, commit: &str) -> Result<bool> {
        let Ok(checksum) = Digest::from_hex(commit) else {
            return Ok(false);
        };
        if !self.has(checksum, ObjectKind::Commit)? {
            return Ok(false);
        }
        let (_, state) = self.repo.load_commit(commit)?;
        Ok(!state.contains(ostree::RepoCommitState::PARTIAL))
    }

    /// Metadata of a directory.
    pub fn dirmeta(&self, checksum: Digest) -> Result<FileMeta> {
        let data = self.metadata_object(checksum, ObjectKind::DirMeta)?;
        let (uid, gid, mode, xattrs) = gvariant::parse_metadata(&data)?;
        Ok(FileMeta {
            uid,
            gid,
            mode,
            target: Vec::new(),
            xattrs,
        })
    }

    /// Metadata of a file object and the size of its content.
    #[context("Reading metadata of file object {checksum}")]
    pub fn file_meta(&self, checksum: Digest) -> Result<(FileMeta, u64)> {
        let name = self.loose_path(checksum, ObjectKind::File);
        loose::file(self.mode, &self.objects, &name)
    }

    /// Content of a regular file object as a stream; nothing of it is verified. An error for a link
    /// in repositories that keep links as links.
    #[context("Opening file object {checksum}")]
    pub fn file_reader(&self, checksum: Digest) -> Result<Box<dyn Read + Send>> {
        let name = self.loose_path(checksum, ObjectKind::File);
        loose::content(self.mode, &self.objects, &name)
    }

    /// The bytes of an object that is stored as it is: any but a file.
    #[context("Opening object {checksum}")]
    pub(super) fn plain_reader(&self, checksum: Digest, kind: ObjectKind) -> Result<Box<dyn Read>> {
        let name = self.loose_path(checksum, kind);
        let file = sysfs::open_optional(&self.objects, &name)?;
        Ok(Box::new(file.context("there is no such object")?))
    }

    /// Calls `visit` with every file object, and a way to learn the size of its content; links may
    /// be among them.
    pub(super) fn each_file_object(
        &self,
        mut visit: impl FnMut(Digest, SizeOf<'_>) -> Result<()>,
    ) -> Result<()> {
        let suffix = format!(
            ".{}",
            ObjectKind::File.extension(self.mode == StorageMode::Archive)
        );
        for part in 0..=255u8 {
            let part = format!("{part:02x}");
            if !sysfs::exists(&self.objects, &part)? {
                continue;
            }
            let dir = sysfs::open_dir(&self.objects, &part)?;
            for name in sysfs::list(&dir)? {
                let rest = name.strip_suffix(&suffix);
                let Some(Ok(object)) = rest.map(|r| Digest::from_hex(&format!("{part}{r}"))) else {
                    continue;
                };
                visit(object, &|| self.stored_size(object, &dir, &name))?;
            }
        }
        Ok(())
    }

    fn stored_size(&self, object: Digest, dir: &OwnedFd, name: &str) -> Option<u64> {
        if self.mode == StorageMode::Archive {
            return self.file_meta(object).ok().map(|(_, size)| size);
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then_some(stat.st_size as u64)
    }

    /// Where Bowline keeps what belongs to this repository and to no one else; made when missing.
    pub(super) fn extension_dir(&self) -> io::Result<OwnedFd> {
        let mut dir = self.dir.try_clone()?;
        for name in EXTENSION_DIRS {
            sysfs::ensure_dir(&dir, name)?;
            dir = sysfs::open_dir(&dir, name)?;
        }
        Ok(dir)
    }

    /// Puts a whole file at `name` of a directory of the repository, durably and in one step; `write`
    /// gives it its content. Interrupted, the old file is there or the new one. What then lies in the
    /// repository's `tmp` libostree removes after a day.
    pub(super) fn replace(
        &self,
        dir: impl AsFd,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let tmp = sysfs::open_dir(&self.dir, "tmp")?;
        let new = sysfs::random_name("replace-");
        let mut file = sysfs::create_new(&tmp, &new)?;
        let replaced = (|| {
            write(&mut file)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            file.sync_all()?;
            Ok(rustix::fs::renameat(&tmp, &new, &dir, name)?)
        })();
        if replaced.is_err() {
            sysfs::remove_all(&tmp, &new)?;
        }
        replaced.and_then(|()| Ok(rustix::fs::fsync(dir)?))
    }

    /// The same where it is there already.
    pub(super) fn found_extension_dir(&self) -> io::Result<OwnedFd> {
        let dir = self.dir.try_clone()?;
        let open = |dir, name| sysfs::open_dir(dir, name);
        EXTENSION_DIRS.into_iter().try_fold(dir, open)
    }

    /// A file without a name on the repository's file system, or, for those who may only read there,
    /// in `/var/tmp`.
    pub fn scratch_file(&self) -> io::Result<File> {
        let here = sysfs::open_dir(&self.dir, "tmp").and_then(sysfs::unnamed);
        here.or_else(|_| sysfs::unnamed(sysfs::open_dir_path(Path::new(READERS_SCRATCH))?))
    }

    /// Content of a regular file object, slice by slice; a link has none. Nothing of it is verified.
    pub(super) fn open_content(&self, checksum: Digest) -> Result<FileContent> {
        let loaded = self.repo.load_file(&checksum.hex(), gio::Cancellable::NONE);
        let (input, _, _) = loaded.with_context(|| format!("Opening file object {checksum}"))?;
        let part = Bytes::from_static(&[]);
        Ok(FileContent { input, part })
    }

    /// Content of a regular file object, at most `limit` bytes. An error of the type [`Damaged`](super::Damaged) where
    /// it is not what the object's name says.
    pub fn file_content(&self, checksum: Digest, limit: u64) -> Result<Vec<u8>> {
        let (meta, _) = self.file_meta(checksum)?;
        let mut content = self.sound_content(checksum, &meta)?;
        let mut data = Vec::new();
        let read = |e| anyhow::Error::from(e).context(format!("Reading file object {checksum}"));
        while let Some(part) = content.chunk().map_err(read)? {
            data.extend_from_slice(part);
            if data.len() as u64 > limit {
                return Err(anyhow!(
                    "file object {checksum} is larger than {limit} bytes"
                ));
            }
        }
        content.finish()?;
        Ok(data)
    }
}

/// Content of a file object on its way out of a repository.
#[derive(Debug)]
pub(super) struct FileContent {
    input: Option<gio::InputStream>,
    part: Bytes,
}

impl Chunks for FileContent {
    fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        use ostree::prelude::*;
        let Some(input) = &self.input else {
            return Ok(None);
        };
        let part = input.read_bytes(CONTENT_PART, gio::Cancellable::NONE);
        self.part = part.map_err(io::Error::other)?;
        Ok((!self.part.is_empty()).then_some(&self.part[..]))
    }
}

impl TreeReader for Repo {
    fn tree(&self, checksum: Digest) -> Result<Vec<u8>> {
        self.metadata_object(checksum, ObjectKind::DirTree)
    }

    fn is_symlink(&self, checksum: Digest) -> Result<bool> {
        Ok(self.file_meta(checksum)?.0.is_symlink())
    }
}

/// The shared lock of a repository; dropping it gives it back.
#[derive(Debug)]
pub struct SharedLock(ostree::Repo);

impl Drop for SharedLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.abort_transaction(gio::Cancellable::NONE) {
            tracing::warn!("giving back the lock of the ostree repository: {error}");
        }
    }
}
