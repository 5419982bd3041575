//! Why a sysroot cannot be opened or locked, sorted by what a caller does about it, and the way
//! from libostree's errors to ours. Never looks at the text of a message.

use std::io;
use std::path::PathBuf;

use ostree::{gio, glib};
use thiserror::Error;

/// A sysroot that cannot be used as it is.
#[derive(Debug, Error)]
pub enum SysrootError {
    /// Another process, ours or libostree's, holds the lock.
    #[error("another operation holds {}", .0.join("ostree/lock").display())]
    Busy(PathBuf),
    /// The path does not exist or is no directory.
    #[error("{} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    /// The running system was not set up with ostree.
    #[error("this system has no /ostree/repo: it does not boot from an image")]
    NotImageBased,
    /// The path holds something, but no ostree repository.
    #[error("{} is not a sysroot: it has no ostree/repo", .0.display())]
    NoSysroot(PathBuf),
    /// An empty directory, which only `rebase` turns into a sysroot.
    #[error("{} is empty: nothing is deployed there yet", .0.display())]
    Empty(PathBuf),
    /// A directory that should become a sysroot has other content.
    #[error("{} is neither a sysroot nor empty", .0.display())]
    NotEmpty(PathBuf),
    /// The file system is mounted read-only.
    #[error("{} is on a file system that is mounted read-only", .0.display())]
    ReadOnly(PathBuf),
    /// This user may not write there.
    #[error("this user may not change {}", .0.display())]
    NoPermission(PathBuf),
    /// A deployment that was there a moment ago.
    #[error("deployment {0} is gone")]
    NoDeployment(String),
}

/// Turns a libostree error into one whose kind the command line can tell: errors of the system
/// become `std::io::Error`s, the others stay what they are.
pub(super) fn from_glib(error: glib::Error) -> anyhow::Error {
    match io_kind(&error) {
        Some(kind) => io::Error::new(kind, error).into(),
        None => error.into(),
    }
}

pub(super) fn io_kind(error: &glib::Error) -> Option<io::ErrorKind> {
    use gio::IOErrorEnum as G;
    Some(match error.kind::<G>()? {
        G::NoSpace => io::ErrorKind::StorageFull,
        G::PermissionDenied => io::ErrorKind::PermissionDenied,
        G::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        G::NotFound => io::ErrorKind::NotFound,
        _ => return None,
    })
}
