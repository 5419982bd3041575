//! From a reference to a merge commit in the repository: resolve, ask the policy, plan, fetch, import,
//! merge. A source, rules and a repository come in, an image record goes out. Never deploys, and never
//! fetches anything of an image that has not been accepted.

mod accept;
mod chunked;
mod commit_tar;
mod fetch;
mod import;
mod judge_commit;
mod keep;
mod plan;
mod prepare;
#[cfg(feature = "testing")]
pub mod probe;
mod resume;
mod run;
mod steps;
mod stream;
mod unencapsulate;

pub use accept::{Accepted, accept, accept_copy, judge, noted};
pub use commit_tar::{ArchiveFailure, import_commit};
pub use import::LayerFailure;
pub use judge_commit::{CommitJudgement, judge_commit};
pub use plan::{LayerState, PlannedLayer, PullPlan};
pub use prepare::{Prepared, PullOptions, Unsuitable, compare, insist_on_arch, prepare};
pub use run::run;
pub use steps::{Action, LayerStep, steps_of_stored};
pub use stream::{Failure, split};
pub use unencapsulate::{FetchCommit, NotEncapsulated, Unencapsulated, fetch_commit};
