//! Where things are: the checkout, the cache, the evidence. Never writes anything but directories.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout that this package lies in.
pub fn checkout() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A directory below `target/boot-tests`, made if it is missing.
pub fn directory(name: &str) -> Result<PathBuf> {
    let path = checkout().join("target/boot-tests").join(name);
    fs::create_dir_all(&path).with_context(|| format!("Making {}", path.display()))?;
    Ok(path)
}

/// A directory below `target/boot-tests` without what an earlier run left in it.
pub fn fresh_directory(name: &str) -> Result<PathBuf> {
    let path = directory(name)?;
    fs::remove_dir_all(&path).with_context(|| format!("Emptying {}", path.display()))?;
    directory(name)
}

/// The program `forward`, which cargo builds beside the tests.
pub fn forwarder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("Finding this program")?;
    let mut above = own.ancestors().skip(1).take(2).map(|d| d.join("forward"));
    let found = above.find(|path| path.is_file());
    found.context("The program `forward` is missing: run the boot tests with `cargo test`")
}
