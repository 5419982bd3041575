//! The image store in an ostree repository.

pub mod gvariant;
pub mod catalog;
mod commit;
mod derived_tree;
mod error;
mod import_derived;
mod import_ostree;
mod loose;
mod object;
mod pax;
mod selinux;
mod staging;
mod store;
mod tar_stream;
mod tree;
pub mod refs;

pub use error::LayerError;
pub use store::{Repo, RepoUnsupported, SharedLock};
