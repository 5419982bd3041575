//! `bowline image …` from outside, on repositories in temporary directories. Needs the programs
//! `ostree` (for fsck) and `bash`, and no network beyond loopback. The tests in `host.rs` need root
//! and say so where they cannot run.

mod commands;
mod failures;
mod host;
mod registry;
mod scene;
mod unpack;
