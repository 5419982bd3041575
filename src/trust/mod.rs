//! Whether an image may be used: policy.json and the signatures it asks for. References and
//! manifests come in, a verdict goes out. Never fetches an image and never writes anything.

mod check;
mod json;
mod policy;
mod requirement;
mod scope;
#[cfg(test)]
mod tests;

pub use check::{Denied, PolicyPaths, Reason, Verdict, check};
pub use policy::Policy;
pub use requirement::Requirement;
