//! From a resolved manifest to a merge commit in the repository: plan, fetch, import, merge. A
//! source and a repository come in, an image record goes out. Never deploys, never decides about
//! signatures.

mod chunked;
mod commit_tar;
mod fetch;
mod import;
mod keep;
mod plan;
mod prepare;
mod resume;
mod run;
mod steps;
mod stream;
mod unencapsulate;

pub use commit_tar::import_commit;
pub use import::LayerFailure;
pub use plan::{LayerState, PlannedLayer, PullPlan};
pub use prepare::{Prepared, PullOptions, Unsuitable, compare, prepare};
pub use run::run;
pub use steps::{Action, LayerStep, steps_of_stored};
pub use unencapsulate::{FetchCommit, NotEncapsulated, Unencapsulated, fetch_commit};
