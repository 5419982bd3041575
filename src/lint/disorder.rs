//! Checks for things that are where they must not be. A file system comes in, sentences go out.

use anyhow::Result;
use rustix::fs::FileType;

use super::rootfs::{Node, Rootfs, is_utf8};

pub(super) fn etc(rootfs: &Rootfs) -> Result<Vec<String>> {
    let both = !rootfs.children("etc")?.is_empty() && !rootfs.children("usr/etc")?.is_empty();
    let told = "there are both /etc and /usr/etc: what is in /usr/etc was put there by mistake; \
                move it to /etc";
    Ok(if both { vec![told.into()] } else { Vec::new() })
}

pub(super) fn var_run(rootfs: &Rootfs) -> Result<Vec<String>> {
    let told = "/var/run is a directory, and what is written there survives reboots: make it a \
                link to /run, or leave that to tmpfiles.d";
    Ok(match rootfs.is_dir("var/run")? {
        true => vec![told.into()],
        false => Vec::new(),
    })
}

pub(super) fn utf8(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    rootfs.walk("", |node| {
        if !node.path.file_name().is_none_or(is_utf8) {
            findings.push(format!(
                "the name of {} is not UTF-8: rename it",
                node.name()
            ));
            // Below it, every path would be told again.
            return Ok(false);
        }
        if node.kind == FileType::Symlink && !is_utf8(rootfs.target(node)?.as_os_str()) {
            let name = node.name();
            findings.push(format!(
                "the target of the link {name} is not UTF-8: change it"
            ));
        }
        Ok(true)
    })?;
    Ok(findings)
}

pub(super) fn boot(rootfs: &Rootfs) -> Result<Vec<String>> {
    let found = rootfs.children("boot")?;
    let told = found.iter().map(|node| {
        format!(
            "{} is not seen on a host, where another file system is mounted on /boot: remove it",
            node.name()
        )
    });
    Ok(told.collect())
}

pub(super) fn run_tmp(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for top in ["run", "tmp"] {
        rootfs.walk(top, |node| {
            if node.kind != FileType::Directory && !is_left(node) {
                findings.push(format!("{} is not seen on a host: remove it", node.name()));
            }
            Ok(true)
        })?;
    }
    Ok(findings)
}

/// Programs that build images leave empty directories and files in /run, to mount on.
fn is_left(node: &Node) -> bool {
    node.kind == FileType::RegularFile && node.size == 0 && node.path.starts_with("run")
}

pub(super) fn builder(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for name in ["etc/hostname", "etc/resolv.conf", "etc/hosts"] {
        let node = rootfs.node(name)?;
        if node.is_some_and(|n| n.kind == FileType::RegularFile && n.size == 0) {
            findings.push(format!(
                "/{name} is an empty file, as programs leave it that build images: write what it \
                 is to hold, or remove it"
            ));
        }
    }
    Ok(findings)
}
