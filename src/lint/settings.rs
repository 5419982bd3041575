//! Checks of the files that Bowline reads from an image. A file system comes in, what their
//! parsers say goes out.

use anyhow::{Error, Result};

use super::rootfs::Rootfs;
use crate::boot::kargs_d::{ImageKargs, KargsDError};
use crate::config::{self, ConfigError, InstallConfig};

pub(super) fn kargs(rootfs: &Rootfs) -> Result<Vec<String>> {
    told(ImageKargs::read(&rootfs.tree), |error| {
        error.is::<KargsDError>()
    })
}

pub(super) fn install(rootfs: &Rootfs) -> Result<Vec<String>> {
    let loaded = InstallConfig::load(&rootfs.tree, &crate::image::host_arch());
    told(loaded, |error| error.is::<ConfigError>())
}

pub(super) fn settings(rootfs: &Rootfs) -> Result<Vec<String>> {
    told(config::load_from(&rootfs.tree), |error| {
        error.is::<ConfigError>()
    })
}

/// What a parser says is a finding; what cannot be read at all is an error.
fn told<T>(parsed: Result<T>, is_finding: fn(&Error) -> bool) -> Result<Vec<String>> {
    match parsed {
        Ok(_) => Ok(Vec::new()),
        Err(error) if is_finding(&error) => Ok(vec![format!("{error:#}")]),
        Err(error) => Err(error),
    }
}
