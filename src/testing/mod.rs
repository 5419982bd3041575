//! What tests need and no user: compiled with feature `testing` only. May import any room; no
//! room imports it.

pub mod chunked;
pub mod encapsulate;
pub mod fixture;
pub mod lines;
mod objects;
pub mod oci;
pub mod parsers;
pub mod registry;
pub mod rootfs;
pub mod samples;
pub mod sysroot;
pub mod tar;

pub use encapsulate::{Encapsulation, Tamper, XattrStyle};
pub use fixture::{CommitOptions, Fixture, OS};
pub use oci::{Image, ImageBuilder, Layer};
pub use sysroot::ScratchSysroot;
