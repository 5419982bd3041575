//! Settings that the image, the administrator and the running system give. The root of a tree
//! comes in; merged and checked settings go out, or an error that names the file, the line and
//! what is allowed. Never imports a stage, and never writes.
//!
//! ```text
//! usr/lib/bowline/*.yaml     of the image
//! etc/bowline/*.yaml         of the administrator
//! run/bowline/*.yaml         until the next boot
//! ```
//!
//! Files of a directory are read in the order of their names, directories in the order above.
//! What is read later wins, key by key; lists are replaced as a whole.

mod error;
pub mod human;
pub mod install;
mod layers;
mod settings;

use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;

pub use error::ConfigError;
pub use install::InstallConfig;
pub use settings::{Demand, Health, Settings, Trust, Update, Willing};

use crate::sys::tree::{DirTree, FileTree};

/// Directories with settings, the weakest first.
const PLACES: [&str; 3] = ["usr/lib/bowline", "etc/bowline", "run/bowline"];

/// The settings of the system whose root is `root`. Broken settings are a [`ConfigError`].
#[context("Reading the settings of {}", root.display())]
pub fn load(root: &Path) -> Result<Settings> {
    let tree = DirTree::open(root).context("Opening it")?;
    load_from(&tree)
}

/// The settings that a tree holds.
pub fn load_from(tree: &dyn FileTree) -> Result<Settings> {
    let mut settings = Settings::default();
    for path in layers::files(tree, &PLACES, "yaml")? {
        let text = layers::read(tree, &path)?;
        settings.apply(layers::yaml(&tree.name(&path), &text)?);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
