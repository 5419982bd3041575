//! From a resolved manifest to a merge commit in the repository: plan, fetch, import, merge. A
//! source and a repository come in, an image record goes out. Never deploys, never decides about
//! signatures.

mod chunked;
mod fetch;
mod import;
mod keep;
mod plan;
mod prepare;
mod resume;
mod run;
mod steps;
mod stream;

pub use import::LayerFailure;
pub use plan::{LayerState, PlannedLayer, PullPlan};
pub use prepare::{Prepared, PullOptions, Unsuitable, compare, prepare};
pub use run::run;
pub use steps::{Action, LayerStep, steps_of_stored};
