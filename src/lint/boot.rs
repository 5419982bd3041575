//! Checks of what a boot needs: kernel, initramfs, directories to mount on. A file system comes in,
//! sentences go out.

use anyhow::Result;
use rustix::fs::FileType;

use super::initramfs;
use super::rootfs::{Node, Rootfs};

const MODULES: &str = "usr/lib/modules";

/// The directories of kernels.
fn kernels(rootfs: &Rootfs) -> Result<Vec<Node>> {
    let mut found = Vec::new();
    for dir in rootfs.children(MODULES)? {
        let kernel = rootfs.node(dir.path.join("vmlinuz"))?;
        if kernel.is_some_and(|k| k.kind == FileType::RegularFile && k.size > 0) {
            found.push(dir);
        }
    }
    Ok(found)
}

pub(super) fn kernel(rootfs: &Rootfs) -> Result<Vec<String>> {
    let kernels = kernels(rootfs)?;
    let names: Vec<String> = kernels.iter().map(Node::name).collect();
    Ok(match names.len() {
        0 => vec![
            "there is no kernel: install one, and move it to /usr/lib/modules/VERSION/vmlinuz"
                .into(),
        ],
        1 => Vec::new(),
        _ => vec![format!(
            "there are several kernels, and nobody can tell which one boots; remove all but one \
             of {}",
            names.join(", ")
        )],
    })
}

pub(super) fn initramfs(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for dir in kernels(rootfs)? {
        let file = rootfs.node(dir.path.join("initramfs.img"))?;
        if file.is_none_or(|f| f.kind != FileType::RegularFile || f.size == 0) {
            let version = dir.path.file_name().unwrap_or_default();
            let version = version.to_string_lossy();
            findings.push(format!(
                "{}/initramfs.img is missing or empty: make it with `dracut --kver {version} \
                 /usr/lib/modules/{version}/initramfs.img`",
                dir.name()
            ));
        }
    }
    Ok(findings)
}

/// The program of libostree that the initramfs runs, and its settings.
const PREPARE_ROOT: &str = "usr/lib/ostree/ostree-prepare-root";
const PREPARE_ROOT_CONF: &str = "usr/lib/ostree/prepare-root.conf";

pub(super) fn prepare_root(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    if rootfs.node(PREPARE_ROOT)?.is_none() {
        findings.push(format!(
            "there is no /{PREPARE_ROOT}: install libostree's programs for the boot (ostree-boot on \
             Debian)"
        ));
    }
    for dir in kernels(rootfs)? {
        let Some(file) = rootfs.file(dir.path.join("initramfs.img"))? else {
            continue;
        };
        if initramfs::has(file, "ostree-prepare-root") == Some(false) {
            findings.push(format!(
                "{}/initramfs.img has no ostree-prepare-root in it, and cannot boot a deployment: make \
                 it anew with dracut's module `ostree`",
                dir.name()
            ));
        }
    }
    Ok(findings)
}

pub(super) fn composefs(rootfs: &Rootfs) -> Result<Vec<String>> {
    if !rootfs.contains(PREPARE_ROOT, b"composefs")? {
        return Ok(Vec::new());
    }
    let set = |value: &str| ["true", "yes", "1", "maybe", "signed", "verity"].contains(&value);
    let on = setting(rootfs, ("[composefs]", "enabled"))?.is_some_and(|value| set(&value));
    let told = format!(
        "/{PREPARE_ROOT_CONF} does not set enabled=true in [composefs]: the root of hosts can be written \
         to, and nothing checks what is in it"
    );
    Ok(if on { Vec::new() } else { vec![told] })
}

/// The last value of a key in prepare-root.conf.
fn setting(rootfs: &Rootfs, (wanted, key): (&str, &str)) -> Result<Option<String>> {
    let text = rootfs.text(PREPARE_ROOT_CONF)?.unwrap_or_default();
    let (mut section, mut found) = ("", None);
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let Some((name, value)) = line.split_once('=') {
            if section == wanted && name.trim() == key {
                found = Some(value.trim().to_lowercase());
            }
        }
    }
    Ok(found)
}

pub(super) fn base_directories(rootfs: &Rootfs) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for name in [
        "boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "usr", "var",
    ] {
        if !rootfs.is_mount_point(name) {
            findings.push(format!("/{name} is no directory: make it"));
        }
    }
    let link = rootfs.node("ostree")?;
    let target = link.filter(|n| n.kind == FileType::Symlink);
    let target = target.map(|node| rootfs.target(&node)).transpose()?;
    if target.is_none_or(|t| t.as_os_str() != "sysroot/ostree") {
        findings.push("/ostree is no link to sysroot/ostree: make it with `ln -s`".into());
    }
    Ok(findings)
}

pub(super) fn readonly(rootfs: &Rootfs) -> Result<Vec<String>> {
    let on = |value: Option<String>| value.is_some_and(|v| ["true", "yes", "1"].contains(&&*v));
    let told = format!(
        "/{PREPARE_ROOT_CONF} does not set readonly=true in [sysroot]: any program can write below \
         /sysroot, and so into deployments"
    );
    let readonly = setting(rootfs, ("[sysroot]", "readonly"))?;
    let composefs = setting(rootfs, ("[composefs]", "enabled"))?;
    Ok(if on(readonly) || on(composefs) {
        Vec::new()
    } else {
        vec![told]
    })
}
