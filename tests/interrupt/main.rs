//! Commands killed in the middle of a system call, at many calls: afterwards the repository is
//! whole, what was there before is there, and the same command finishes the job.
//!
//! Needs root and the programs `ostree` and `strace` (Debian packages of these names); without
//! strace, or where tracing is forbidden, it says so and checks nothing.

#![allow(clippy::print_stderr, reason = "a test that cannot run says why")]

mod deploy;
mod kill;
mod once;
mod pull;
