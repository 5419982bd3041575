//! Places images come from and go to: registries, OCI layouts, archives. A reference comes in,
//! manifests and blob streams go out, or the other way round. Never writes to a repository and
//! never decides about signatures.

mod attachments;
mod auth;
mod certs;
mod config_file;
mod dir;
mod docker_archive;
mod error;
mod files;
mod helper;
mod oci_layout;
mod open;
mod options;
#[cfg(feature = "testing")]
pub mod probe;
pub mod push;
mod rate;
mod registries_conf;
mod registries_d;
mod registry;
mod resolve;
mod source;
mod tar_index;
mod web;

pub use attachments::{MAX_SIGNATURES, SIGSTORE_LAYER, signature_tag};
pub use error::Error;
pub use open::open;
pub use options::{HostPaths, SourceOptions};
pub use rate::RateLimit;
pub use registries_d::signature_directory;
pub use registry::RegistrySource;
pub use resolve::{fetch_config, resolve};
pub use source::{Blob, ImageSource, RawManifest, Resolved};
pub use web::open_url;
