//! Places images come from: registries, OCI layouts, archives. A reference comes in, manifests
//! and blob streams go out. Never writes to a repository and never decides about signatures.

mod error;
mod options;
mod source;

pub use error::Error;
pub use options::{HostPaths, SourceOptions};
pub use source::{Blob, ImageSource, RawManifest, Resolved};
