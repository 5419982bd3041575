//! Places images come from: registries, OCI layouts, archives. A reference comes in, manifests
//! and blob streams go out. Never writes to a repository and never decides about signatures.

mod error;
mod files;
mod oci_layout;
mod open;
mod options;
mod resolve;
mod source;

pub use error::Error;
pub use open::open;
pub use options::{HostPaths, SourceOptions};
pub use resolve::{fetch_config, resolve};
pub use source::{Blob, ImageSource, RawManifest, Resolved};
