//! Whose each file of a tree is. The databases of the tree come in; an owner for any path goes out:
//! the component that was named for it, its package, the package that has all the rest of its
//! directory, and at last its directory.

use std::collections::HashMap;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::owner::{ALWAYS_CHANGES, Owner, OwnerId};
use super::{Component, Detail, Files, Package, Sink, frequency};

/// Files of no package from this size in bytes on have an owner of their own.
const LARGE: u64 = 1 << 20;

/// Changes per year of what nothing is known about.
const UNKNOWN: u32 = 12;

/// Changes per year of files that several packages have: whenever one of these packages changes.
const SHARED: u32 = 52;

/// Names of directories that tell what a file belongs to where there is no package database.
const DIRECTORY_DEPTH: usize = 3;

/// Where dpkg keeps files about each package, which change with the package.
const DPKG_INFO: [&str; 2] = ["usr/lib/sysimage/dpkg/info/", "var/lib/dpkg/info/"];

/// Directories of package databases: part of no package, though a package has the directory.
const DATABASES: [&str; 9] = [
    "usr/lib/sysimage/dpkg/",
    "var/lib/dpkg/",
    "usr/share/rpm/",
    "usr/lib/sysimage/rpm/",
    "var/lib/rpm/",
    "usr/lib/apk/",
    "lib/apk/",
    "usr/lib/sysimage/lib/pacman/",
    "var/lib/pacman/",
];

/// Owners of the files of a tree.
#[derive(Debug, Default)]
pub struct Owners {
    list: Vec<Owner>,
    /// By the hash of the path: a path costs 16 bytes, and a rare mistake costs nothing but a worse plan.
    paths: HashMap<u64, OwnerId>,
    /// By the hash of the path, the first owner of directories of which all known files are built of
    /// one source; else `None`.
    dirs: HashMap<u64, Option<OwnerId>>,
    packages: HashMap<String, OwnerId>,
    others: HashMap<Owner, OwnerId>,
}

impl Owners {
    /// Reads the databases of a tree.
    pub fn read(files: &dyn Files) -> Result<Self> {
        let mut collector = Collector::default();
        super::read(files, Detail::Paths, &mut collector)?;
        let mut owners = collector.owners;
        let frequencies = frequency::of(&collector.packages);
        for (package, change_frequency) in collector.packages.iter().zip(frequencies) {
            owners.list.push(Owner {
                group: Owner::new(&package.source, 0).name,
                version: Some(package.version.clone()),
                ..Owner::new(&package.name, change_frequency)
            });
        }
        Ok(owners)
    }

    /// All owners, by their number.
    pub fn list(&self) -> &[Owner] {
        &self.list
    }

    /// The package of a file, by name. The path is relative to the root.
    pub fn package_of(&self, path: &str) -> Option<&str> {
        let id = self.package(&canonical(path))?;
        Some(&self.list[id.0 as usize].name)
    }

    /// Whose a file is. The path is relative to the root, the size in bytes.
    pub fn of(&mut self, path: &str, size: u64, component: Option<&Component>) -> OwnerId {
        if let Some(component) = component {
            let owner = Owner::new(component.name(), UNKNOWN);
            return self.other(Owner {
                apart: true,
                ..owner
            });
        }
        if is_initramfs(path) {
            return self.apart("initramfs");
        }
        let path = canonical(path);
        if let Some(package) = self.package(&path) {
            return package;
        }
        if self.packages.is_empty() {
            return self.by_directory(&path, size);
        }
        let database = DATABASES.iter().any(|dir| path.starts_with(dir));
        match size >= LARGE && !database {
            true => self.other(Owner::new(&format!("/{path}"), UNKNOWN)),
            false => self.apart("unpackaged"),
        }
    }

    /// The owner of a file that is the same in several packages.
    pub fn shared(&mut self) -> OwnerId {
        self.other(Owner::new("shared", SHARED))
    }

    fn package(&self, path: &str) -> Option<OwnerId> {
        for dir in DPKG_INFO {
            if let Some(name) = path.strip_prefix(dir) {
                let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
                let stem = stem.split_once(':').map_or(stem, |(stem, _)| stem);
                return self.packages.get(stem).copied();
            }
        }
        // Where /usr/sbin is a link to bin, a database may still know the old name.
        let moved = path
            .strip_prefix("usr/bin/")
            .map(|name| format!("usr/sbin/{name}"));
        let compiled = compiled_from(path);
        let names = [Some(path), moved.as_deref(), compiled.as_deref()];
        let known = names
            .into_iter()
            .flatten()
            .find_map(|name| self.paths.get(&hash(name)));
        if let Some(owner) = known {
            return Some(*owner);
        }
        if DATABASES.iter().any(|dir| path.starts_with(dir)) {
            return None;
        }
        self.by_neighbours(path)
    }

    /// Made by a package's scripts, as a rule: what is beside the files of one package only.
    fn by_neighbours(&self, path: &str) -> Option<OwnerId> {
        let mut dir = path;
        while let Some((parent, _)) = dir.rsplit_once('/') {
            if let Some(owner) = self.dirs.get(&hash(parent)) {
                return *owner;
            }
            dir = parent;
        }
        None
    }

    fn by_directory(&mut self, path: &str, size: u64) -> OwnerId {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let names: Vec<&str> = parent.split('/').take(DIRECTORY_DEPTH).collect();
        let name = match size >= LARGE {
            true => format!("/{path}"),
            false => format!("/{}", names.join("/")),
        };
        self.other(Owner::new(&name, UNKNOWN))
    }

    fn apart(&mut self, name: &str) -> OwnerId {
        let owner = Owner::new(name, ALWAYS_CHANGES);
        self.other(Owner {
            apart: true,
            ..owner
        })
    }

    fn other(&mut self, owner: Owner) -> OwnerId {
        if let Some(id) = self.others.get(&owner) {
            return *id;
        }
        let id = OwnerId(self.list.len() as u32);
        self.list.push(owner.clone());
        self.others.insert(owner, id);
        id
    }
}

fn is_initramfs(path: &str) -> bool {
    let name = path.strip_prefix("usr/lib/modules/");
    let name = name
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, name)| name);
    let boot = path
        .strip_prefix("boot/")
        .or(path.strip_prefix("usr/lib/ostree-boot/"));
    name.is_some_and(|name| name == "initramfs.img" || name == "initramfs")
        || boot
            .is_some_and(|name| name.starts_with("initramfs-") || name.starts_with("initrd.img-"))
}

/// The Python source that a file in `__pycache__` was compiled from.
fn compiled_from(path: &str) -> Option<String> {
    let (dir, name) = path.split_once("__pycache__/")?;
    let (stem, _) = name.split_once('.')?;
    Some(format!("{dir}{stem}.py"))
}

/// The path by which a file is known, whether or not `/usr` is merged, and `/etc` moved.
fn canonical(path: &str) -> String {
    if let Some(rest) = path.strip_prefix("usr/etc/") {
        return format!("etc/{rest}");
    }
    let first = path.split('/').next().unwrap_or_default();
    let merged = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
    // Alpine's database is below /lib, where nothing else is when /usr is merged.
    match merged.contains(&first) && path.len() > first.len() && !path.starts_with("lib/apk/") {
        true => format!("usr/{path}"),
        false => path.to_string(),
    }
}

fn hash(path: &str) -> u64 {
    let sum = Sha256::digest(path.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sum[..8]);
    u64::from_be_bytes(bytes)
}

/// Takes what is in the databases. Owners get their numbers in the order of the packages.
#[derive(Debug, Default)]
struct Collector {
    packages: Vec<Package>,
    owners: Owners,
}

impl Sink for Collector {
    fn package(&mut self, package: Package) {
        let id = OwnerId(self.packages.len() as u32);
        self.owners.packages.insert(package.name.clone(), id);
        self.packages.push(package);
    }

    fn path(&mut self, path: &[u8]) {
        let Some(last) = self.packages.len().checked_sub(1) else {
            return;
        };
        let id = OwnerId(last as u32);
        let path = canonical(&String::from_utf8_lossy(path));
        // A directory is of many packages; looked up are only files.
        self.owners.paths.entry(hash(&path)).or_insert(id);
        if let Some((dir, _)) = path.rsplit_once('/') {
            let owner = self.owners.dirs.entry(hash(dir)).or_insert(Some(id));
            let source = |id: OwnerId| &self.packages[id.0 as usize].source;
            if owner.is_some_and(|owner| source(owner) != source(id)) {
                *owner = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::Memory;
    use super::*;

    fn debian() -> Owners {
        let status = "Package: linux-image\nStatus: install ok installed\nSource: linux (6)\nVersion: 6-1\n\n\
            Package: python3-x\nStatus: install ok installed\nArchitecture: all\nVersion: 1+deb13u3\n\n\
            Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
        let info = "var/lib/dpkg/info";
        let files = Memory::new(&[
            ("var/lib/dpkg/status", status),
            (
                &format!("{info}/linux-image.list"),
                "/boot/vmlinuz-6\n/lib/modules/6\n/lib/modules/6/modules.order\n",
            ),
            (
                &format!("{info}/python3-x.list"),
                "/usr\n/usr/lib\n/usr/lib/python3/x/a.py\n/usr/share\n/etc/x.conf\n/usr/sbin/x\n",
            ),
            (
                &format!("{info}/dpkg:amd64.list"),
                "/usr\n/usr/lib\n/usr/share\n/usr/bin/dpkg\n/etc/dpkg.cfg\n/var/lib/dpkg\n",
            ),
        ]);
        Owners::read(&files).unwrap()
    }

    fn name(owners: &mut Owners, path: &str, size: u64) -> String {
        let id = owners.of(path, size, None);
        owners.list()[id.0 as usize].name.clone()
    }

    #[test]
    fn each_path_has_an_owner() {
        let mut owners = debian();
        for (path, size, owner) in [
            ("usr/lib/modules/6/modules.order", 1, "linux-image"),
            ("usr/lib/modules/6/modules.dep", 1, "linux-image"),
            ("usr/lib/modules/6/vmlinuz", 9 << 20, "linux-image"),
            ("usr/lib/modules/6/kernel/a/b.ko", 1, "linux-image"),
            ("usr/lib/modules/6/initramfs.img", 9 << 20, "initramfs"),
            ("usr/lib/python3/x/__pycache__/a.pyc", 1, "python3-x"),
            ("usr/etc/x.conf", 1, "python3-x"),
            ("etc/x.conf", 1, "python3-x"),
            ("usr/bin/x", 1, "python3-x"),
            ("usr/bin/dpkg", 1, "dpkg"),
            ("bin/dpkg", 1, "dpkg"),
            ("usr/lib/sysimage/dpkg/info/python3-x.list", 1, "python3-x"),
            ("var/lib/dpkg/info/dpkg:amd64.list", 1, "dpkg"),
            ("var/lib/dpkg/info/none.list", 1, "unpackaged"),
            ("var/lib/dpkg/status", 5 << 20, "unpackaged"),
            ("usr/local", 1, "unpackaged"),
            ("usr/share/big", 1 << 20, "/usr/share/big"),
        ] {
            assert_eq!(name(&mut owners, path, size), owner, "{path}");
        }
        let by_name = |name: &str| owners.list().iter().find(|o| o.name == name).unwrap();
        assert_eq!(by_name("linux-image").group, "linux");
        assert_eq!(by_name("linux-image").version.as_deref(), Some("6-1"));
        assert_eq!(by_name("python3-x").change_frequency, 6);
        assert!(by_name("initramfs").apart && by_name("unpackaged").apart);
        assert!(!by_name("/usr/share/big").apart);
    }

    #[test]
    fn without_a_database_directories_own() {
        let mut owners = Owners::read(&Memory::default()).unwrap();
        for (path, size, owner) in [
            ("usr/lib/app/deep/er/file", 5, "/usr/lib/app"),
            ("usr/bin/tool", 5, "/usr/bin"),
            ("usr/bin/large", 1 << 20, "/usr/bin/large"),
            ("top", 0, "/"),
            ("usr/a,b/x", 1, "/usr/a_b"),
        ] {
            assert_eq!(name(&mut owners, path, size), owner, "{path}");
        }
    }

    #[test]
    fn a_component_takes_precedence_and_is_apart() {
        let mut owners = debian();
        let component = Component::parse(b"my-app").unwrap();
        let first = owners.of("usr/bin/dpkg", 1, Some(&component));
        let second = owners.of("usr/lib/modules/6/initramfs.img", 1, Some(&component));
        assert_eq!(first, second);
        let owner = &owners.list()[first.0 as usize];
        assert_eq!((owner.name.as_str(), owner.apart), ("my-app", true));
        assert_ne!(owners.shared(), first);
    }
}
