//! The words of the image world, pure: references, digests, manifests, configs, which layer is
//! what. Text and bytes come in, validated values go out. Never touches a file or the network.

mod digest;
mod layout;
mod manifest;
mod reference;

pub use digest::{Digest, DigestError, to_hex};
pub use layout::{Compression, ImageLayout, Layer, LayerKind, LayoutError};
pub use manifest::{
    Descriptor, HistoryEntry, ImageConfig, Index, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    ManifestOrIndex, Platform, host_arch,
};
pub use reference::{
    ImageReference, OstreeImageReference, ReferenceError, RegistryName, SignatureSource, Transport,
};
