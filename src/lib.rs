//! Bowline keeps image-based Linux hosts up to date from container registries.
//!
//! The walk, one stage, one room:
//!
//! ```text
//! ImageReference -> resolve -> Manifest -> PullPlan -> fetch -> verify -> import -> merge Commit -> DeployPlan -> deploy
//!  image/           transport/  image/     pull/plan   pull/    image/    repo/     repo/           deploy/plan   deploy/
//! ```
//!
//! A room imports only rooms on lower floors; `tests/layering.rs` keeps it true.

pub mod agent;
pub mod boot;
pub mod build;
pub mod clean;
pub mod cli;
pub mod config;
pub mod deploy;
pub mod etc_merge;
pub mod health;
pub mod host;
pub mod image;
pub mod install;
pub mod lint;
pub mod packages;
pub mod progress;
pub mod pull;
pub mod repo;
pub mod sign;
pub mod sys;
pub mod sysroot;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
pub mod trust;
pub mod unattended;
pub mod unpack;
pub mod upgrade;
