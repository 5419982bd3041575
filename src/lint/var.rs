//! The check of /var: a host keeps its own, so what an image has there is at most copied once. A
//! file system comes in, sentences go out.

use anyhow::Result;
use rustix::fs::FileType;

use super::rootfs::{Node, Rootfs};
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
        if is_log(node) {
            return Ok(false);
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
    Ok([directories, files].concat())
}

pub(super) fn logs(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut found = Vec::new();
    rootfs.walk("var/log", |node| {
        if is_log(node) {
            found.push(format!(
                "{} tells of the build, not of any host: remove it at the end of the step that makes it",
                node.name()
            ));
        }
        Ok(true)
    })?;
    Ok(found)
}

fn is_log(node: &Node) -> bool {
    node.kind == FileType::RegularFile && node.size > 0 && node.path.starts_with("var/log")
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
