//! What tests need and no user: compiled with feature `testing` only. May import any room; no
//! room imports it.

pub mod registry;
