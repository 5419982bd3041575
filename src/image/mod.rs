//! The words of the image world, pure: references, digests, manifests, configs, which layer is
//! what. Text and bytes come in, validated values go out. Never touches a file or the network.

mod chunked;
mod config;
mod digest;
mod index;
mod layout;
mod manifest;
mod platform;
mod reference;
mod registry_name;
mod signature;
#[cfg(test)]
pub(crate) mod vectors;
mod verify;
mod version;

pub use chunked::{Chunked, Part};
pub use config::{HistoryEntry, ImageConfig};
pub use digest::{Digest, DigestError, to_hex};
pub use index::{Index, IndexEntry};
pub use layout::{Compression, ImageLayout, LABEL_FINAL_DIFFID, Layer, LayerKind, LayoutError};
pub use manifest::{
    ANNOTATION_COMPONENTS, Descriptor, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    ManifestOrIndex, is_manifest_type,
};
pub use platform::{Platform, host_arch, is_arch, normalize_arch, rust_arch};
pub use reference::{
    ImageReference, OstreeImageReference, ReferenceError, SignatureSource, Transport,
};
pub use registry_name::RegistryName;
pub use signature::{SignatureContent, StoredSignature};
pub use verify::{VerifyError, VerifyingReader};
pub use version::compare_versions;
