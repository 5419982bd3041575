//! Deployments on disk: a path comes in; plain data about deployments and a handle that can write
//! them go out. Wraps `ostree::Sysroot`; decides nothing about which deployment should exist.
//!
//! ```text
//! ostree/lock                                     held while anything is written
//! ostree/repo                                     objects, commits, refs
//! ostree/deploy/STATEROOT/var                     shared by all deployments of a stateroot
//! ostree/deploy/STATEROOT/deploy/COMMIT.SERIAL    one deployment; beside it COMMIT.SERIAL.origin
//! boot/loader/entries/ostree-N.conf               one boot loader entry per deployment
//! ```

mod cached_update;
mod commit_tree;
mod deployment;
mod error;
mod etc;
mod handle;
mod init;
mod locked;
mod origin;
mod staged_record;
mod staged_store;
mod survivor;
mod tree;

pub use cached_update::CachedUpdate;
pub use commit_tree::CommitTree;
pub use deployment::{Deployment, DeploymentId, Slot, assign_slots, booted, leading, merge_from};
pub use error::SysrootError;
pub use etc::specials;
pub use handle::{FreeSpace, Sysroot};
pub use init::{initialize, initialize_beside};
pub use locked::{LockedSysroot, NewDeployment};
pub use origin::{Origin, OriginError};
pub use staged_record::{Fate, StagedRecord};
pub use survivor::Survivor;
pub use tree::{Kernel, TreeFacts};
