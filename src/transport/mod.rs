//! Places images come from: registries, OCI layouts, archives. A reference comes in, manifests
//! and blob streams go out. Never writes to a repository and never decides about signatures.

mod error;
mod source;

pub use error::Error;
pub use source::{Blob, ImageSource, RawManifest, Resolved};
