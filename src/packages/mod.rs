//! Who owns which file of a root filesystem: the package databases that are in it, extended
//! attributes, and where neither says anything, the directory. Never changes anything, never runs
//! a package manager.

mod owner;

pub use owner::{ALWAYS_CHANGES, Owner};
