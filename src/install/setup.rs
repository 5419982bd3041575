//! What the installed system must know about how it boots. Written once, read by the boot room of
//! the installed system.

use std::fs;
use std::path::Path;

use anyhow::Result;
use fn_error_context::context;

use super::request::Loader;

/// Writes `ostree/bowline/boot.yaml` of a sysroot; `esp` is the PARTUUID of the EFI system
/// partition.
#[context("Writing how {} boots", sysroot.display())]
pub fn write(sysroot: &Path, loader: Loader, esp: Option<&str>) -> Result<()> {
    let loader = match loader {
        Loader::Grub => "grub",
        Loader::SystemdBoot => "systemd-boot",
        Loader::None => "none",
    };
    let mut text = format!("bootloader: {loader}\n");
    if let Some(esp) = esp {
        text.push_str(&format!("esp: {esp}\n"));
    }
    let dir = sysroot.join("ostree/bowline");
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join("boot.yaml"), text)?)
}
