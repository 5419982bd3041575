//! The check of /var: a host keeps its own, so what an image has there is at most copied once. A
//! file system comes in, sentences go out.

use anyhow::Result;
use rustix::fs::FileType;

use super::rootfs::{Rootfs, few};
use super::tmpfiles::Made;
use crate::sys::tree::{EntryKind, FileTree as _};

/// Directories that every host has.
const OWN: [&str; 1] = ["/var/tmp"];

pub(super) fn described(rootfs: &Rootfs) -> Result<Vec<String>> {
    let made = made(rootfs)?;
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    rootfs.walk("var", |node| {
        let name = node.name();
        let is_dir = node.kind == FileType::Directory;
        if made.makes(&name) || OWN.contains(&name.as_str()) {
            return Ok(is_dir);
        }
        if !is_dir {
            files.push(format!(
                "{name} is not part of updates: put it below /usr or /etc, or remove it at the end \
                 of the step that makes it"
            ));
        } else if !made.makes_below(&name) {
            directories.push(format!(
                "{name} is not made on hosts: write `d {name} MODE USER GROUP -` to a file in \
                 /usr/lib/tmpfiles.d, or remove it"
            ));
            // What is in it comes to hosts no more than it does itself.
            return Ok(false);
        }
        Ok(is_dir)
    })?;
    Ok([few(directories), few(files)].concat())
}

fn made(rootfs: &Rootfs) -> Result<Made> {
    let mut made = Made::default();
    for dir in ["usr/lib/tmpfiles.d", "etc/tmpfiles.d"] {
        for (name, kind) in rootfs.tree.entries(dir)? {
            if kind == EntryKind::File && name.ends_with(".conf") {
                made.add(&rootfs.text(&format!("{dir}/{name}"))?.unwrap_or_default());
            }
        }
    }
    Ok(made)
}
