//! File objects: what an ostree checksum covers. Metadata and content in, checksum out; pure.
//!
//! Source: libostree, ostree-core.c, "checksum of a content object".

use sha2::{Digest as _, Sha256};

use super::gvariant::{self, Xattrs};
use crate::image::Digest;

/// File type bits of a regular file.
pub const S_IFREG: u32 = 0o100_000;
/// File type bits of a symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// File type bits of a directory.
pub const S_IFDIR: u32 = 0o040_000;
/// Mask of the file type bits.
pub const S_IFMT: u32 = 0o170_000;

/// Everything about a file but its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileMeta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Target of a symbolic link, else empty.
    pub target: Vec<u8>,
    /// Sorted by name.
    pub xattrs: Xattrs,
}

impl FileMeta {
    /// Whether it is a symbolic link.
    pub const fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }

    /// A hasher that has taken the header; the content follows.
    pub fn hasher(&self) -> Sha256 {
        let header =
            gvariant::file_header(self.uid, self.gid, self.mode, &self.target, &self.xattrs);
        let mut hasher = Sha256::new();
        hasher.update((header.len() as u32).to_be_bytes());
        hasher.update([0; 4]);
        hasher.update(&header);
        hasher
    }

    /// The object's checksum with this content.
    pub fn checksum(&self, content: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(content);
        Digest::from_bytes(hasher.finalize().into())
    }
}

/// The kinds of object Bowline writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A file or symbolic link.
    File,
    /// Names in a directory.
    DirTree,
    /// Owner, mode and attributes of a directory.
    DirMeta,
    /// A commit.
    Commit,
    /// Detached metadata of a commit: signatures. Named by the commit, not by its content.
    CommitMeta,
}

impl ObjectKind {
    /// The kinds whose names are the hashes of their content.
    pub const NAMED_BY_CONTENT: [Self; 4] =
        [Self::File, Self::DirTree, Self::DirMeta, Self::Commit];

    /// The extension of a loose object's file name; archives keep files compressed.
    pub const fn extension(self, archive: bool) -> &'static str {
        match self {
            Self::File if archive => "filez",
            Self::File => "file",
            Self::DirTree => "dirtree",
            Self::DirMeta => "dirmeta",
            Self::Commit => "commit",
            Self::CommitMeta => "commitmeta",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostree::gio;
    use ostree::prelude::*;

    #[test]
    fn checksum_is_libostrees() {
        let xattrs = vec![
            (b"user.a".to_vec(), b"1\n".to_vec()),
            (b"user.b".to_vec(), vec![]),
        ];
        for (mode, target, content) in [
            (S_IFREG | 0o4755, "", &b"hello"[..]),
            (S_IFLNK | 0o777, "../x//y", b""),
        ] {
            let meta = FileMeta {
                uid: 5,
                gid: 70_000,
                mode,
                target: target.into(),
                xattrs: xattrs.clone(),
            };
            let info = gio::FileInfo::new();
            let regular = target.is_empty();
            info.set_file_type(if regular {
                gio::FileType::Regular
            } else {
                gio::FileType::SymbolicLink
            });
            info.set_size(content.len() as i64);
            info.set_attribute_uint32("unix::uid", 5);
            info.set_attribute_uint32("unix::gid", 70_000);
            info.set_attribute_uint32("unix::mode", mode);
            if !regular {
                info.set_symlink_target(target);
            }
            let nul = |n: &Vec<u8>| n.iter().copied().chain([0]).collect::<Vec<u8>>();
            let variant: Vec<_> = xattrs.iter().map(|(n, v)| (nul(n), v.clone())).collect();
            let input = gio::MemoryInputStream::from_bytes(&ostree::glib::Bytes::from(content));
            let theirs = ostree::checksum_file_from_input(
                &info,
                Some(&variant.to_variant()),
                regular.then_some(&input),
                ostree::ObjectType::File,
                gio::Cancellable::NONE,
            );
            assert_eq!(meta.checksum(content).hex(), theirs.unwrap().to_hex());
        }
    }
}
