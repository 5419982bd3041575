//! Installing files of a boot loader where another system's may be: each one that is replaced is
//! kept beside. A directory with the new files comes in; at every instant each place has the old
//! file or the new one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;

use crate::sys::fs::copy_file;

/// Copies every file below `from` to `to`; what was there goes to `kept`. Boot entries, and what
/// firmware starts, come last. Gives the paths that were replaced, below `to`.
#[context("Copying boot files to {}", to.display())]
pub fn install(from: &Path, to: &Path, kept: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    list(from, Path::new(""), &mut files)?;
    files.sort_by_key(|file| order(file));
    let mut replaced = Vec::new();
    for file in files {
        if install_file(&from.join(&file), &to.join(&file), &kept.join(&file))? {
            replaced.push(file);
        }
    }
    Ok(replaced)
}

/// Kernels first, then entries, then what is started by firmware.
fn order(file: &Path) -> (u8, PathBuf) {
    let rank = match file
        .components()
        .next()
        .map(|first| first.as_os_str().to_owned())
    {
        Some(first) if first.eq_ignore_ascii_case("loader") => 1,
        Some(first) if first.eq_ignore_ascii_case("EFI") => 2,
        _ => 0,
    };
    (rank, file.into())
}

fn list(base: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(base.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => list(base, &path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// Replaces one file; true where another one was there, which is at `kept` now.
fn install_file(from: &Path, to: &Path, kept: &Path) -> Result<bool> {
    let what = || format!("Writing {}", to.display());
    let dir = to.parent().context("a file has no directory")?;
    fs::create_dir_all(dir).with_context(what)?;
    let replaced = keep(from, to, kept).with_context(what)?;
    copy_file(from, to).with_context(what)?;
    Ok(replaced)
}

fn keep(from: &Path, to: &Path, kept: &Path) -> Result<bool> {
    let old = match fs::read(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    if old == fs::read(from)? {
        return Ok(false);
    }
    // An earlier, interrupted run kept the one that counts; what stands there is whole.
    if !kept.exists() {
        let dir = kept.parent().context("a file has no directory")?;
        fs::create_dir_all(dir)?;
        copy_file(to, kept)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_is_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        };
        write("new/EFI/BOOT/BOOTX64.EFI", "ours");
        write("new/bowline/k/vmlinuz", "kernel");
        write("esp/EFI/BOOT/BOOTX64.EFI", "theirs");
        write("esp/EFI/debian/shim.efi", "theirs");
        // Of a run that ended in the middle of keeping it.
        write("kept/EFI/BOOT/BOOTX64.EFI.new", "the");
        let run = || install(&path("new"), &path("esp"), &path("kept")).unwrap();
        assert_eq!(run(), [Path::new("EFI/BOOT/BOOTX64.EFI")]);
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!(read("esp/EFI/BOOT/BOOTX64.EFI"), "ours");
        assert_eq!(read("esp/bowline/k/vmlinuz"), "kernel");
        assert_eq!(read("esp/EFI/debian/shim.efi"), "theirs");
        assert_eq!(read("kept/EFI/BOOT/BOOTX64.EFI"), "theirs");
        assert_eq!(run(), [""; 0].map(PathBuf::from));
        write("new/EFI/BOOT/BOOTX64.EFI", "newer");
        assert_eq!(run().len(), 1);
        assert_eq!(read("kept/EFI/BOOT/BOOTX64.EFI"), "theirs");
    }

    #[test]
    fn what_firmware_starts_comes_last() {
        let mut files = ["EFI/BOOT/X.EFI", "loader/entries/a.conf", "bowline/k"].map(PathBuf::from);
        files.sort_by_key(|file| order(file));
        assert_eq!(
            files.map(|f| f.display().to_string()).join(" "),
            "bowline/k loader/entries/a.conf EFI/BOOT/X.EFI"
        );
    }
}
