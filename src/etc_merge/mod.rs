//! What libostree's merge of `/etc` will do, known before it runs. Three listings come in (the old
//! image's defaults, `/etc` as it is, the new image's defaults); the merged listing, the conflicts
//! and one classified outcome per path go out. Pure but for [`list`] and [`list_beside`],
//! which read a directory.
//! Never changes a file: the merge itself is libostree's.
//!
//! Source: libostree, ostree-sysroot-deploy.c (`merge_configuration_from`), ostree-diff.c.

mod diff;
mod list;
mod merge;
mod preview;
mod tree;

pub use diff::{Change, changes};
pub use list::{list, list_beside};
pub use merge::{Conflict, ConflictKind, Merged, Specials, merge};
pub use preview::{Default, Outcome, Preview, preview};
pub use tree::{Entry, Kind, Tree};
