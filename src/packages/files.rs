//! The files that package databases are read from: of a directory here; of commits and of layers
//! elsewhere.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// More names than any directory of a package database has.
const MAX_NAMES: usize = 200_000;

/// Read access to the files of a tree. Paths are relative to its root; links are resolved within it.
pub trait Files {
    /// Opens a regular file; `None` where there is none.
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>>;

    /// Names in a directory, ascending; none where there is no such directory. Names that are not
    /// UTF-8 are left out.
    fn names(&self, dir: &str) -> io::Result<Vec<String>>;
}

/// The files below a directory.
#[derive(Debug)]
pub struct DirFiles {
    root: OwnedFd,
}

impl DirFiles {
    /// Opens the tree whose root is the directory `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = crate::sys::fs::open_dir_path(path)?;
        Ok(Self { root })
    }

    fn open_in(&self, path: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), within) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Files for DirFiles {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        // A FIFO must not make us wait for a writer.
        let Some(fd) = self.open_in(path, OFlags::NONBLOCK)? else {
            return Ok(None);
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        let regular = kind == FileType::RegularFile;
        Ok(regular.then(|| Box::new(File::from(fd)) as Box<dyn Read>))
    }

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let Some(fd) = self.open_in(dir, OFlags::DIRECTORY)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            if names.len() == MAX_NAMES {
                let message = format!("{dir} has more than {MAX_NAMES} names");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_string()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use super::super::{Package, Sink};
    use super::*;

    /// Files in memory.
    #[derive(Debug, Default)]
    pub(in crate::packages) struct Memory(BTreeMap<String, Vec<u8>>);

    impl Memory {
        pub(in crate::packages) fn new(files: &[(&str, &str)]) -> Self {
            let files = files
                .iter()
                .map(|(path, text)| (path.to_string(), (*text).into()));
            Self(files.collect())
        }

        pub(in crate::packages) fn add(&mut self, path: &str, data: Vec<u8>) {
            self.0.insert(path.into(), data);
        }
    }

    impl Files for Memory {
        fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
            Ok(self
                .0
                .get(path)
                .map(|data| Box::new(&data[..]) as Box<dyn Read>))
        }

        fn names(&self, dir: &str) -> io::Result<Vec<String>> {
            let below = |path: &String| {
                let rest = path.strip_prefix(dir)?.strip_prefix('/')?;
                rest.split('/').next().map(str::to_string)
            };
            let mut names: Vec<String> = self.0.keys().filter_map(below).collect();
            names.dedup();
            Ok(names)
        }
    }

    /// What a sink was told.
    #[derive(Debug, Default)]
    pub(in crate::packages) struct Record {
        pub packages: Vec<Package>,
        pub paths: Vec<Vec<String>>,
    }

    impl Record {
        pub(in crate::packages) fn text(&self) -> String {
            let pairs = self.packages.iter().zip(&self.paths);
            let line = |(p, paths): (&Package, &Vec<String>)| {
                let paths: String = paths.iter().map(|path| format!(" {path}")).collect();
                format!("{} {} {}:{paths}\n", p.name, p.source, p.version)
            };
            pairs.map(line).collect()
        }
    }

    impl Sink for Record {
        fn package(&mut self, package: Package) {
            self.packages.push(package);
            self.paths.push(Vec::new());
        }

        fn path(&mut self, path: &[u8]) {
            let paths = self.paths.last_mut().expect("no package yet");
            paths.push(String::from_utf8_lossy(path).into_owned());
        }
    }

    #[test]
    fn links_of_a_directory_stay_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib/dpkg")).unwrap();
        std::fs::create_dir_all(root.join("var/lib")).unwrap();
        std::fs::write(root.join("usr/lib/dpkg/status"), "inside").unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("/usr/lib/dpkg", root.join("var/lib/dpkg")).unwrap();
        symlink("../../secret", root.join("out")).unwrap();
        let files = DirFiles::open(&root).unwrap();
        let mut text = String::new();
        let mut file = files.open("var/lib/dpkg/status").unwrap().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        assert_eq!(files.names("var/lib/dpkg").unwrap(), ["status"]);
        for none in ["out", "usr", "none", "usr/lib/dpkg/status/x"] {
            assert!(files.open(none).unwrap().is_none(), "{none}");
        }
        assert!(files.names("none").unwrap().is_empty());
    }
}
