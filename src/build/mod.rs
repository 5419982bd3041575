//! From a repository to what others read: tar streams, layers, images. A commit or a stored image comes in;
//! archives, or an image in a destination, go out. Never changes the repository.

mod checked;
pub mod chunk;
mod commit_diff;
mod commit_files;
pub mod compare;
pub mod compress;
mod container_config;
pub mod content_meta;
mod contents;
mod encapsulate;
mod flatpak;
pub mod image;
mod layer_files;
mod listing;
mod object_tar;
pub mod reexport;
pub mod tar_export;
mod write_layers;

pub use checked::DamagedObject;
pub use commit_diff::{CommitDiff, DiffFile, NoSuchDirectory, commit_diff};
pub use commit_files::CommitFiles;
pub use container_config::{ContainerConfigError, container_config};
pub use content_meta::{ContentMeta, ContentMetaError};
pub use contents::{Contents, plan_layers};
pub use encapsulate::{EncapsulateOptions, Encapsulated, LayerPlan, check, encapsulate};
pub use flatpak::{NotFlatpak, check_flatpak, encapsulate_flatpak};
pub use layer_files::LayerFiles;
pub use listing::Listing;

#[cfg(test)]
mod tests;
