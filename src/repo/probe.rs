//! This room's parsers of outside bytes, for tests that feed them anything. Bytes come in; only a
//! panic would be wrong, or memory or time that grows without bound.

use super::dirtree::DirTree;
use super::tar_stream::TarStream;
use super::{commit, gvariant};

/// What is read of the content of a tar: a sparse file may claim to be any size.
const MAX_CONTENT: usize = 1 << 20;

/// A layer, uncompressed.
pub fn tar_stream(data: &[u8]) {
    let mut tar = TarStream::new(data, None);
    let mut left = MAX_CONTENT;
    while let Ok(Some(_)) = tar.next_entry() {
        while let Ok(Some(bytes)) = tar.chunk() {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                return;
            }
        }
    }
}

/// Objects and their headers: commits, trees, metadata, extended attributes.
pub fn objects(data: &[u8]) {
    // What they find is looked at by the tests of each.
    drop(commit::validate(data));
    drop(commit::validate_detached(data));
    drop(gvariant::parse_xattrs(data));
    drop(gvariant::parse_metadata(data));
    drop(gvariant::parse_archive_header(data));
    if let Ok(tree) = DirTree::parse(data) {
        assert_eq!(tree.entries().count(), tree.len());
    }
}
