//! The facts that the mirror's plan needs: what is on an ESP that is ours, and what libostree's
//! entries want there. Directories come in, plain values go out. Reads only.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use fn_error_context::context;

use super::{Counting, FILES, NEW, Present, PresentEntry, Source, Wanted, WantedEntry};
use crate::boot::entry::BlsEntry;
use crate::boot::esp::names::{self, ENTRIES, MirrorName};
use crate::boot::loader;

/// The keys of an entry that name files.
const FILE_KEYS: [&str; 3] = ["linux", "initrd", "devicetree"];

/// Looks at an ESP.
#[context("Looking at the EFI system partition")]
pub fn look(esp: &Path) -> Result<Present> {
    let stat = rustix::fs::statvfs(esp)?;
    let mut present = Present {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        cluster: stat.f_frsize,
        ..Present::default()
    };
    for (file, name, entry) in names::list(esp)? {
        present.entries.push(PresentEntry {
            uses: uses(&entry),
            text: entry.to_string(),
            file,
            name,
        });
    }
    for name in list(&esp.join(ENTRIES))? {
        let ours = |name: &str| MirrorName::parse(name).is_some();
        if name.strip_suffix(NEW).is_some_and(ours) {
            let path = format!("{ENTRIES}/{name}");
            let size = fs::symlink_metadata(esp.join(&path))?.len();
            present.leftovers.insert(path, size);
        }
    }
    look_at_files(esp, FILES, &mut present)?;
    Ok(present)
}

fn look_at_files(esp: &Path, dir: &str, present: &mut Present) -> Result<()> {
    for name in list(&esp.join(dir))? {
        let path = format!("{dir}/{name}");
        let found = fs::symlink_metadata(esp.join(&path)).with_context(|| path.clone())?;
        if found.is_dir() {
            look_at_files(esp, &path, present)?;
        } else if name.ends_with(NEW) {
            present.leftovers.insert(path, found.len());
        } else {
            present.files.insert(path, found.len());
        }
    }
    Ok(())
}

/// What libostree's entries of a sysroot want on the ESP.
///
/// # Errors
/// A kernel that an entry names and that is not there.
#[context("Reading what the EFI system partition should hold")]
pub fn wanted(sysroot: &Path, counting: Counting) -> Result<Wanted> {
    let entries = loader::entries(sysroot)?.into_iter();
    let entries = entries.map(|(_, entry)| wanted_entry(sysroot, &entry));
    Ok(Wanted {
        entries: entries.collect::<Result<_>>()?,
        counting,
    })
}

fn wanted_entry(sysroot: &Path, entry: &BlsEntry) -> Result<WantedEntry> {
    let mut files = Vec::new();
    let text = entry.map_values(|key, value| {
        if !FILE_KEYS.contains(&key) {
            return Ok(value.to_owned());
        }
        let mut paths = Vec::new();
        for path in value.split_ascii_whitespace() {
            let source = source(sysroot, path)?;
            paths.push(format!("/{}", source.to));
            files.push(source);
        }
        anyhow::Ok(paths.join(" "))
    })?;
    let text = text.to_string();
    Ok(WantedEntry { text, files })
}

/// Entries name files from the root of `boot`, or (`sysroot.bootprefix`) with `/boot`.
fn source(sysroot: &Path, path: &str) -> Result<Source> {
    let below = path.strip_prefix("/boot/").unwrap_or(path);
    let from = sysroot.join("boot").join(below.trim_start_matches('/'));
    let found = fs::metadata(&from).with_context(|| format!("A boot entry names {path}"))?;
    Ok(Source {
        to: place(Path::new(path)),
        size: found.len(),
        from,
    })
}

/// The path below the ESP: libostree's directory names hold the checksum of what is inside.
fn place(path: &Path) -> String {
    let name = |part: Option<&std::ffi::OsStr>| {
        let text = part.unwrap_or_default().to_string_lossy().into_owned();
        text.replace(
            |c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c),
            "_",
        )
    };
    let dir = path.parent().and_then(Path::file_name);
    format!("{FILES}/{}/{}", name(dir), name(path.file_name()))
}

fn uses(entry: &BlsEntry) -> Vec<String> {
    let values = FILE_KEYS.iter().flat_map(|key| entry.all(key));
    let paths = values.flat_map(str::split_ascii_whitespace);
    paths
        .map(|path| path.trim_start_matches('/').to_owned())
        .collect()
}

/// The names in a directory; none where there is no directory. Others' names may be any bytes.
fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| dir.display().to_string())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry
            .with_context(|| dir.display().to_string())?
            .file_name();
        names.extend(name.into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::mirror::refresh;
    use crate::boot::{BootSetup, Bootloader};

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn entries_of_both_libostrees_are_mirrored_beside_what_others_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let (root, esp) = (dir.path(), dir.path().join("efi"));
        for (version, prefix) in [(2, "/boot"), (1, "")] {
            let text = format!(
                "title t{version}\nversion {version}\noptions rw ostree=/o/{version}\n\
                 linux {prefix}/ostree/os-a{version}/vmlinuz-6\n\
                 initrd {prefix}/ostree/os-a{version}/initramfs-6.img\nx-key kept\n"
            );
            write(
                root,
                &format!("boot/loader/entries/ostree-{version}.conf"),
                &text,
            );
            let kernel = format!("boot/ostree/os-a{version}");
            write(root, &format!("{kernel}/vmlinuz-6"), "kernel");
            write(root, &format!("{kernel}/initramfs-6.img"), "initramfs");
        }
        write(&esp, "loader/entries/windows.conf", "title other\n");
        write(&esp, "loader/entries/bowline-3-1.conf", "title old\n");
        write(&esp, "loader/entries/bowline-4-1.conf.new", "half");
        write(&esp, "bowline/os-old/vmlinuz-5", "old");
        let setup = BootSetup {
            bootloader: Bootloader::SystemdBoot,
            esp: Some(esp.display().to_string()),
        };
        assert!(refresh(root, &setup, Counting::Fresh(2)).unwrap());
        let expected = [
            "bowline/os-a1/initramfs-6.img",
            "bowline/os-a1/vmlinuz-6",
            "bowline/os-a2/initramfs-6.img",
            "bowline/os-a2/vmlinuz-6",
            "loader/entries/bowline-4-1.conf",
            "loader/entries/bowline-4-2+2.conf",
            "loader/entries/windows.conf",
        ];
        assert_eq!(tree(&esp), expected);
        let first = fs::read_to_string(esp.join(expected[5])).unwrap();
        let text = "title t2\nversion 2\noptions rw ostree=/o/2\nlinux /bowline/os-a2/vmlinuz-6\n\
                    initrd /bowline/os-a2/initramfs-6.img\nx-key kept\n";
        assert_eq!(first, text);
        assert_eq!(fs::read(esp.join(expected[1])).unwrap(), b"kernel");
        assert!(!refresh(root, &setup, Counting::Keep(3)).unwrap());
        fs::remove_file(root.join("boot/ostree/os-a1/vmlinuz-6")).unwrap();
        let error = format!("{:#}", refresh(root, &setup, Counting::Off).unwrap_err());
        assert!(error.contains("names /ostree/os-a1/vmlinuz-6"), "{error}");
        assert_eq!(tree(&esp), expected, "nothing was changed");
        let none = BootSetup::default();
        assert!(!refresh(root, &none, Counting::Off).unwrap());
    }
}
