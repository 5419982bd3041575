//! From an ostree commit to what others read: tar streams, layers, images. A commit in a repository comes in;
//! archives, or an image in a destination, go out. Never changes the repository.

mod checked;
pub mod chunk;
pub mod compress;
pub mod content_meta;
mod encapsulate;
mod flatpak;
pub mod image;
mod listing;
mod object_tar;
pub mod tar_export;

pub use checked::DamagedObject;
pub use content_meta::{ContentMeta, ContentMetaError};
pub use encapsulate::{EncapsulateOptions, Encapsulated, LayerPlan, encapsulate};
pub use flatpak::{NotFlatpak, encapsulate_flatpak};
pub use listing::Listing;

#[cfg(test)]
mod tests;
