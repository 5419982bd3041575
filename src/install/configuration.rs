//! How an image wants to be installed, without installing it. An image comes in, its configuration
//! goes out. What is fetched for it lies in a scratch directory and goes again.

use std::path::Path;

use anyhow::Result;
use fn_error_context::context;

use super::request::Wanted;
use super::{InstallError, Scratch, check_root, fill};
use crate::config::InstallConfig;

/// Fetches the image into a scratch directory below `place` and reads its configuration. What
/// cannot be installed is told all the same.
#[context("Reading how {} wants to be installed", wanted.image.imgref)]
pub async fn configuration(wanted: &Wanted, place: &Path) -> Result<InstallConfig> {
    check_root()?;
    // Named as no target is: it shares nothing with an installation that goes on.
    let name = format!("configuration of {}", wanted.image);
    let mut scratch = Scratch::open(place, Path::new(&name))?;
    let config = {
        let sysroot = scratch.sysroot().map_err(|error| scratch.blame(error))?;
        let fetched = fill::fetch(&sysroot, wanted).await;
        let fetched = fetched.map_err(|error| scratch.blame(error))?;
        let tree = sysroot.commit_tree(&fetched.record.commit)?;
        InstallConfig::load(&tree, &wanted.arch).map_err(InstallError::of_image_file)?
    };
    scratch.finish()?;
    Ok(config)
}
