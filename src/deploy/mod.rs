//! From a merge commit to a deployment that boots, and back. A snapshot of the host and a wish
//! come in; plans (pure values) and changed boot entries go out. Never fetches anything.

mod bootloader;
pub mod cleanup;
mod error;
mod kargs;
pub mod outlook;
mod plan;
mod plan_esp;
mod plan_kargs;
mod rollback;
mod stage;
mod trial;

pub use bootloader::{catch_up, check_proven, next_boot, record_store, record_stores};
pub use error::DeployError;
pub use kargs::{Kargs, Owner};
pub use outlook::{Outlook, outlook};
pub use plan::{
    Decision, DeployPlan, Method, Room, Snapshot, Wish, already_there, followed, plan, preflight,
};
pub use plan_esp::EspRoom;
pub use plan_kargs::{KargsDecision, KargsWish, kargs_base, plan_kargs};
pub use rollback::{RollbackPlan, plan_rollback, roll_back};
pub use stage::{carry_out, finish, next_kargs, set_kargs, snapshot};
pub use trial::prepare_trial;
