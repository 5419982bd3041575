//! Who owns which file of a root filesystem: the package databases that are in it, extended
//! attributes, and where neither says anything, the directory. Files of the tree come in through
//! [`Files`]; packages and their paths go out to a [`Sink`]. Never changes anything, never runs a
//! package manager, and never believes a database: everything read has a limit.

mod apk;
mod component;
mod dpkg;
mod files;
mod frequency;
mod lines;
mod owner;
mod owners;
mod pacman;
mod rpm;
mod rpm_header;

use anyhow::Result;

pub use component::{Component, XATTR_COMPONENT};
pub use files::{DirFiles, Files};
pub use owner::{ALWAYS_CHANGES, Owner, OwnerId};
pub use owners::Owners;

/// A package as its database tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The source that it is built from, with others maybe; its name where nothing else is known.
    pub source: String,
    /// Its version, with epoch and release.
    pub version: String,
    /// When it was built, in seconds since 1970, where the database knows.
    pub built: Option<i64>,
    /// Its releases as far as its changelog tells, the newest first.
    pub releases: Vec<Release>,
}

/// A release of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Whether it was made for a distribution in development (Debian's unstable and experimental).
    pub development: bool,
}

/// A package database that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the package database cannot be read")]
pub struct DamagedDatabase(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Takes what is in the databases.
pub trait Sink {
    /// A package; the paths that follow are its own.
    fn package(&mut self, package: Package);

    /// A path of the last package, relative to the root, directories among them.
    fn path(&mut self, path: &[u8]);
}

/// What is asked of the databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Names and versions.
    Packages,
    /// Their paths and histories, too.
    Paths,
}

/// Reads all package databases of a tree; returns how many there are. Formats: dpkg, rpm (SQLite),
/// apk and pacman.
///
/// # Errors
///
/// Fails when a database is damaged, or larger than any that is known.
pub fn read(files: &dyn Files, detail: Detail, sink: &mut dyn Sink) -> Result<usize> {
    let mut found = 0;
    for read in [dpkg::read, rpm::read, apk::read, pacman::read] {
        let read = read(files, detail, sink);
        found += usize::from(read.map_err(|error| DamagedDatabase(error.into()))?);
    }
    Ok(found)
}

/// Whether a file of a tree may be needed by [`read`] with [`Detail::Packages`].
pub fn is_database(path: &str) -> bool {
    dpkg::is_database(path)
        || rpm::PATHS.contains(&path)
        || apk::PATHS.contains(&path)
        || pacman::is_database(path)
}

/// The names and versions of all packages of a tree, ascending.
pub fn list(files: &dyn Files) -> Result<Vec<Package>> {
    struct List(Vec<Package>);
    impl Sink for List {
        fn package(&mut self, package: Package) {
            self.0.push(package);
        }
        fn path(&mut self, _: &[u8]) {}
    }
    let mut list = List(Vec::new());
    read(files, Detail::Packages, &mut list)?;
    list.0
        .sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    list.0.dedup();
    Ok(list.0)
}
