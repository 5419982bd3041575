//! The image store in an ostree repository.

pub mod gvariant;
pub mod refs;
