//! Whether an image may be used: policy.json and the signatures it asks for. References, digests and
//! signatures that others have fetched come in, a verdict goes out. Never fetches anything, never
//! starts a program, and never writes.

mod certificate;
mod check;
mod identity;
mod json;
mod judge;
mod material;
mod named;
pub mod openpgp;
pub mod pem;
mod policy;
#[cfg(feature = "testing")]
pub mod probe;
mod public_key;
mod rekor;
mod requirement;
mod scope;
pub mod sigstore;
pub mod simple;
mod stored;
#[cfg(test)]
mod tests;
mod verdict;

pub use check::{Judgement, PolicyPaths, Rules, Ruling, Subject};
pub use policy::Policy;
pub use requirement::Requirement;
pub use verdict::{Denied, Kind, Reason, Step, Verdict, VerifiedBy};
