//! The image store in an ostree repository: layers and images as commits, refs that name them, and
//! the way from a layer's bytes to objects. Tar streams and manifests come in, commits go out.
//! Never fetches anything and never deploys.
//!
//! ```text
//! refs/heads/ostree/container/blob/<digest>     one commit per layer, by the digest of its blob and
//!                                               once more by its diff_id (see `refs`)
//! refs/heads/ostree/container/image/<reference> the merge commit of an image
//! tmp/bowline-*                                 staging of a pull (see `staging`)
//! extensions/bowline/contents                   which object has a content (see `contents`)
//! extensions/bowline/blobs/*                    what interrupted pulls have fetched (see `kept`)
//! extensions/bowline/pruned                     how it was after the last prune (see `pruned`)
//! extensions/bowline/records/*                  how to put layers together again (see `record`)
//! ```

mod alike;
mod base_commit;
pub mod catalog;
mod commit;
mod commit_check;
mod commit_dir;
mod commit_facts;
mod commit_sign;
pub mod contents;
mod derived_tree;
mod detached;
mod digests;
mod directory;
pub mod dirtree;
mod ed25519;
mod error;
pub mod flatpak;
pub mod gc;
pub mod gvariant;
mod hashing;
mod import_derived;
mod import_ostree;
pub mod kept;
pub mod layer;
pub mod layer_stage;
mod loose;
pub mod merge;
pub mod object;
mod object_file;
mod open_dirs;
mod pax;
#[cfg(feature = "testing")]
pub mod probe;
mod pruned;
mod record;
pub mod refs;
mod selinux;
mod sound;
mod staged;
pub mod staging;
mod store;
mod system;
mod tar_extensions;
mod tar_sparse;
pub mod tar_stream;
mod transfer;
mod tree;
mod union;
mod vouched;

pub use base_commit::BaseCommit;
pub use catalog::{ImageRecord, Inventory, StoredLayer};
pub use commit_check::{CommitCheck, CommitSigner, CommitUnsigned};
pub use commit_dir::{CommitWords, EtcTwice};
pub use commit_facts::{CommitFacts, NoSuchCommit};
pub use commit_sign::{CommitKey, CommitSignError};
pub use contents::ContentIndex;
pub use error::LayerError;
pub use gc::PruneReport;
pub use object::ObjectKind;
pub use record::{NoRecord, RebuildError};
pub use sound::Damaged;
pub use store::{Repo, RepoUnsupported};
pub use system::system_error_kind;
pub use tar_stream::TarError;
pub use transfer::Transfer;
