//! Big files that come again. A path in an ordinary layer comes in, the file that the images here have
//! under it goes out; what comes is compared with that, and written only from where it differs. Trusts
//! what is here for nothing: an object's name is the hash of the bytes that came.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use super::dirtree::{DirTree, Entry};
use super::object::ObjectKind;
use crate::image::Digest;
use crate::sys::fs as sysfs;

/// Images that are looked at.
const MAX_IMAGES: usize = 4;
/// Largest directory that is looked at, bytes.
const MAX_TREE: u64 = 4 << 20;
/// Bytes that are compared at once.
const PART: usize = 64 << 10;

/// The trees of images in a repository that keeps the content of files as it is.
#[derive(Debug)]
pub(super) struct Alike {
    objects: OwnedFd,
    roots: Vec<Digest>,
}

impl Alike {
    /// Of the trees with these root directories.
    pub fn new(objects: OwnedFd, roots: BTreeSet<Digest>) -> Self {
        let roots = roots.into_iter().take(MAX_IMAGES).collect();
        Self { objects, roots }
    }

    /// A file that stands under a path and has this many bytes. What cannot be read counts as none.
    pub fn find(&self, path: &[String], size: u64) -> Option<File> {
        // Images keep there what layers have in /etc.
        let usr = path
            .first()
            .is_some_and(|top| top == "etc")
            .then_some("usr");
        let names = usr.into_iter().chain(path.iter().map(String::as_str));
        let names: Vec<&str> = names.collect();
        let mut files = self
            .roots
            .iter()
            .filter_map(|root| self.file(*root, &names));
        files.find(|file| file.metadata().is_ok_and(|meta| meta.len() == size))
    }

    fn file(&self, root: Digest, path: &[&str]) -> Option<File> {
        let (name, dirs) = path.split_last()?;
        let mut tree = root;
        for dir in dirs {
            match self.entry(tree, dir)? {
                Found::Dir(below) => tree = below,
                Found::File(_) => return None,
            }
        }
        match self.entry(tree, name)? {
            Found::File(file) => self.open(file, ObjectKind::File),
            Found::Dir(_) => None,
        }
    }

    fn entry(&self, tree: Digest, name: &str) -> Option<Found> {
        let mut data = Vec::new();
        let file = self.open(tree, ObjectKind::DirTree)?;
        file.take(MAX_TREE).read_to_end(&mut data).ok()?;
        Some(match DirTree::parse(&data).ok()?.find(name)? {
            Entry::File(_, file) => Found::File(Digest::from_bytes(*file)),
            Entry::Dir(_, tree, _) => Found::Dir(Digest::from_bytes(*tree)),
        })
    }

    fn open(&self, object: Digest, kind: ObjectKind) -> Option<File> {
        let hex = object.hex();
        let name = format!("{}/{}.{}", &hex[..2], &hex[2..], kind.extension(false));
        sysfs::open_optional(&self.objects, &name).ok()?
    }
}

enum Found {
    File(Digest),
    Dir(Digest),
}

/// A file that is made when what is written to it is no longer what another file begins with.
pub(super) struct Unlike<F> {
    make: F,
    so_far: SoFar,
}

/// What became of an [`Unlike`].
pub(super) enum SoFar {
    /// All that was written is what another file begins with.
    Same(Beginning),
    /// It was written to a new file.
    New(File),
    /// Nothing was written.
    Nothing,
}

/// The first bytes of a file.
pub(super) struct Beginning {
    file: File,
    length: u64,
}

impl<F: FnMut() -> io::Result<File>> Unlike<F> {
    /// Compares with `like`, and writes what differs to what `make` makes.
    pub fn new(like: Option<File>, make: F) -> Self {
        let so_far = like.map_or(SoFar::Nothing, |file| {
            SoFar::Same(Beginning { file, length: 0 })
        });
        Self { make, so_far }
    }

    /// What became of it.
    pub fn finish(self) -> SoFar {
        self.so_far
    }
}

impl<F: FnMut() -> io::Result<File>> Write for Unlike<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let new = match &mut self.so_far {
            SoFar::New(file) => return file.write(data),
            SoFar::Same(beginning) if beginning.goes_on(data) => {
                beginning.length += data.len() as u64;
                return Ok(data.len());
            }
            SoFar::Same(beginning) => {
                let mut file = (self.make)()?;
                beginning.copy_to(&mut file)?;
                file
            }
            SoFar::Nothing => (self.make)()?,
        };
        self.so_far = SoFar::New(new);
        self.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Beginning {
    /// Writes these bytes to a file.
    pub fn copy_to(&mut self, to: &mut File) -> io::Result<()> {
        let copied = io::copy(&mut (&mut self.file).take(self.length), to)?;
        match copied == self.length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Whether the file goes on with `data`.
    fn goes_on(&self, data: &[u8]) -> bool {
        let mut buffer = [0; PART];
        let mut at = self.length;
        data.chunks(PART).all(|part| {
            let there = &mut buffer[..part.len()];
            let read = self.file.read_exact_at(there, at);
            at += part.len() as u64;
            read.is_ok() && there == part
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn content(mut file: File) -> Vec<u8> {
        let mut found = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut found).unwrap();
        found
    }

    #[test]
    fn a_file_is_made_from_where_it_differs_and_holds_all() {
        let old: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let with = |at: usize| {
            let mut new = old.clone();
            new[at] ^= 1;
            new
        };
        for new in [
            with(0),
            with(70_000),
            with(199_999),
            [&old[..], b"x"].concat(),
        ] {
            for step in [1000, 65_536, 100_000, 300_000] {
                let mut unlike = Unlike::new(Some(file(&old)), || Ok(file(b"")));
                new.chunks(step)
                    .for_each(|part| unlike.write_all(part).unwrap());
                let SoFar::New(made) = unlike.finish() else {
                    panic!("{step}");
                };
                assert!(content(made) == new, "{step}");
            }
        }
        for same in [&old[..], &old[..100_000], b""] {
            let mut unlike = Unlike::new(Some(file(&old)), || panic!("nothing is to be made"));
            unlike.write_all(same).unwrap();
            let SoFar::Same(mut beginning) = unlike.finish() else {
                panic!("{}", same.len());
            };
            // Its attributes may be others, so that it is needed after all.
            let mut made = file(b"");
            beginning.copy_to(&mut made).unwrap();
            assert!(content(made) == same);
        }
        let mut unlike = Unlike::new(None, || Ok(file(b"")));
        unlike.write_all(b"x").unwrap();
        assert!(
            matches!(unlike.finish(), SoFar::New(made) if content(made.try_clone().unwrap()) == b"x")
        );
    }
}
