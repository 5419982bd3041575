//! Checks of the files that Bowline reads from an image. A file system comes in, what their
//! parsers say goes out.

use anyhow::{Error, Result};

use super::host;
use super::rootfs::Rootfs;
use crate::boot::kargs_d::{ImageKargs, KargsDError};
use crate::boot::title;
use crate::config::{self, ConfigError, InstallConfig};
use crate::image;

pub(super) fn kargs(rootfs: &Rootfs) -> Result<Vec<String>> {
    told(ImageKargs::read(&rootfs.tree), |error| {
        error.is::<KargsDError>()
    })
}

pub(super) fn install(rootfs: &Rootfs) -> Result<Vec<String>> {
    let loaded = InstallConfig::load(&rootfs.tree, &image::host_arch());
    told(loaded, |error| error.is::<ConfigError>())
}

pub(super) fn settings(rootfs: &Rootfs) -> Result<Vec<String>> {
    told(config::load_from(&rootfs.tree), |error| {
        error.is::<ConfigError>()
    })
}

/// What would be refused where our GRUB boots the host. What cannot be parsed is told elsewhere.
pub(super) fn grub(rootfs: &Rootfs) -> Result<Vec<String>> {
    let refused = "which GRUB would take for its own: only hosts with systemd-boot take this image";
    let mut told = Vec::new();
    let title = host::os_release_text(rootfs)?;
    let title = title.and_then(|text| title::of_os_release(&text));
    let title = title.and_then(|title| Some((title::grub_obstacle(&title)?, title)));
    if let Some((character, title)) = title {
        told.push(format!(
            "the image calls itself {title} in /usr/lib/os-release, with {character}, {refused}"
        ));
    }
    let args = ImageKargs::read(&rootfs.tree).unwrap_or_default();
    for arg in args.for_arch(&image::host_arch()).iter() {
        if let Some(character) = arg.grub_obstacle() {
            told.push(format!(
                "the kernel argument {arg} has {character}, {refused}"
            ));
        }
    }
    Ok(told)
}

/// What a parser says is a finding; what cannot be read at all is an error.
fn told<T>(parsed: Result<T>, is_finding: fn(&Error) -> bool) -> Result<Vec<String>> {
    match parsed {
        Ok(_) => Ok(Vec::new()),
        Err(error) if is_finding(&error) => Ok(vec![format!("{error:#}")]),
        Err(error) => Err(error),
    }
}
