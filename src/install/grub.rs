//! GRUB for a disk: core images that find the root file system and read its static configuration,
//! made by the image's own GRUB, else by the one of this host. The deployed tree comes in; images
//! and files below `boot/grub` go out. Never runs grub-install or grub-mkconfig.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fn_error_context::context;
use uuid::Uuid;

use super::InstallError;
use crate::boot::{self, Grubenv};
use crate::config::install::RootFs;
use crate::sys::tool::Tool;
use crate::sys::{self, bulk};

/// Names of the program that makes core images, by distribution.
const MAKERS: [&str; 2] = ["grub-mkimage", "grub2-mkimage"];
/// Where programs are in a tree.
const PROGRAM_DIRS: [&str; 2] = ["usr/bin", "usr/sbin"];
/// Where GRUB's modules are in a tree, one directory for each platform.
const MODULE_DIRS: [&str; 3] = ["usr/lib/grub", "usr/lib/grub2", "usr/share/grub2"];
/// Modules of every core image, beside those that the configuration needs: to find the root file
/// system, to boot, and what the module `linux` is built on. `linux` itself is loaded from the
/// memory disk.
const MODULES: [&str; 17] = [
    "part_gpt",
    "part_msdos",
    "search",
    "search_fs_uuid",
    "search_label",
    "search_fs_file",
    "true",
    "reboot",
    "halt",
    "cat",
    "memdisk",
    "tar",
    "boot",
    "video",
    "relocator",
    "mmap",
    "gzio",
];
/// Modules that only some platforms or versions have.
const IF_THERE: [&str; 8] = [
    "biosdisk",
    "vga_text",
    "video_fb",
    "vbe",
    "verifiers",
    "efi_gop",
    "acpi",
    "fdt",
];

/// A kind of machine that GRUB has images for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// GRUB's name of it.
    pub name: &'static str,
    /// File name of the image below `EFI/BOOT`, where it is for UEFI.
    pub efi: Option<&'static str>,
}

/// The platform of an architecture (GOARCH word) for BIOS or UEFI.
pub fn platform(arch: &str, uefi: bool) -> Option<Platform> {
    let (name, efi) = match (arch, uefi) {
        ("amd64" | "386", false) => ("i386-pc", None),
        ("amd64", true) => ("x86_64-efi", Some("BOOTX64.EFI")),
        ("386", true) => ("i386-efi", Some("BOOTIA32.EFI")),
        ("arm64", true) => ("arm64-efi", Some("BOOTAA64.EFI")),
        ("arm", true) => ("arm-efi", Some("BOOTARM.EFI")),
        ("riscv64", true) => ("riscv64-efi", Some("BOOTRISCV64.EFI")),
        ("loong64", true) => ("loongarch64-efi", Some("BOOTLOONGARCH64.EFI")),
        _ => return None,
    };
    Some(Platform { name, efi })
}

/// GRUB's programs and modules, for one platform.
#[derive(Debug, PartialEq, Eq)]
pub struct Grub {
    /// The tree that they are in.
    root: PathBuf,
    /// The program, as a path in that tree.
    maker: PathBuf,
    /// The modules, as a path in that tree.
    modules: PathBuf,
    platform: Platform,
}

/// What a core image must find.
#[derive(Debug, Clone)]
pub struct Boot {
    /// UUID of the file system with `boot/grub`.
    pub uuid: String,
    /// Its type.
    pub root_fs: RootFs,
    /// Path of GRUB's directory in that file system, such as `/boot/grub`.
    pub dir: String,
}

impl Grub {
    /// Looks for GRUB in the deployed tree, then on this host.
    pub fn find(tree: &Path, platform: Platform) -> Result<Self, InstallError> {
        let places = [tree, Path::new("/")];
        let found = places.iter().find_map(|root| Self::at(root, platform));
        found.ok_or_else(|| {
            let name = platform.name;
            InstallError::unsupported(
                format!("neither the image nor this host has GRUB for {name}"),
                "put GRUB's packages into the image (on Debian grub-common with grub-pc-bin and \
                 grub-efi-amd64-bin), choose another --firmware, or --bootloader systemd-boot",
            )
        })
    }

    fn at(root: &Path, platform: Platform) -> Option<Self> {
        let modules = MODULE_DIRS
            .iter()
            .map(|dir| Path::new(dir).join(platform.name));
        let modules = modules
            .into_iter()
            .find(|dir| root.join(dir).join("moddep.lst").exists())?;
        let makers = PROGRAM_DIRS
            .iter()
            .flat_map(|dir| MAKERS.iter().map(|name| Path::new(dir).join(name)));
        let maker = makers.into_iter().find(|path| root.join(path).exists())?;
        Some(Self {
            root: root.into(),
            maker,
            modules,
            platform,
        })
    }

    /// File name of its core image for UEFI.
    pub const fn efi_name(&self) -> Option<&'static str> {
        self.platform.efi
    }

    /// The boot sector that loads a core image (BIOS).
    #[context("Reading GRUB's boot.img")]
    pub fn boot_sector(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.root.join(&self.modules).join("boot.img"))?)
    }

    /// Makes a core image that goes on with `boot`.
    #[context("Making a GRUB image for {}", self.platform.name)]
    pub fn core_image(&self, boot: &Boot) -> Result<Vec<u8>> {
        let work = Work::new(&self.root)?;
        fs::write(work.path.join("early.cfg"), early_config(boot))?;
        fs::write(work.path.join("memdisk.tar"), self.memory_disk()?)?;
        let inside = Path::new("/").join(work.path.strip_prefix(&self.root)?);
        let maker = Path::new("/").join(&self.maker);
        let tool = match self.root == Path::new("/") {
            true => Tool::new(maker),
            false => Tool::new("chroot").arg(&self.root).arg(maker),
        };
        let tool = tool.arg("-d").arg(Path::new("/").join(&self.modules));
        let tool = tool.args(["-O", self.platform.name, "-p", "(memdisk)/", "-c"]);
        let tool = tool.arg(inside.join("early.cfg")).arg("-m");
        let tool = tool.arg(inside.join("memdisk.tar"));
        let tool = tool.arg("-o").arg(inside.join("core.img"));
        tool.args(self.module_names(boot.root_fs)).run()?;
        Ok(fs::read(work.path.join("core.img"))?)
    }

    /// An archive with the module `linux`: the core image must not have its commands, as the
    /// configuration defines functions of the same names while it reads boot entries.
    fn memory_disk(&self) -> Result<Vec<u8>> {
        let name = "linux.mod";
        let module = fs::read(self.root.join(&self.modules).join(name))?;
        let mut header = tar::Header::new_ustar();
        header.set_size(module.len() as u64);
        header.set_mode(0o644);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, name, &*module)?;
        Ok(archive.into_inner()?)
    }

    fn module_names(&self, root_fs: RootFs) -> Vec<&'static str> {
        let of_root = match root_fs {
            RootFs::Ext4 => "ext2",
            RootFs::Xfs => "xfs",
            RootFs::Btrfs => "btrfs",
        };
        let dir = self.root.join(&self.modules);
        let there = |name: &&str| dir.join(format!("{name}.mod")).exists();
        // The system partition may be what is searched, too.
        let mut names = vec!["fat", of_root];
        names.extend(MODULES);
        names.extend(boot::GRUB_MODULES);
        names.extend(IF_THERE.into_iter().filter(there));
        names
    }
}

/// What the core image runs first.
fn early_config(boot: &Boot) -> String {
    let Boot { uuid, dir, .. } = boot;
    format!(
        "search --no-floppy --fs-uuid --set=root {uuid}\n\
         set prefix=($root){dir}\n\
         configfile ($root){dir}/grub.cfg\n"
    )
}

/// A directory inside the tree that runs GRUB's program, removed in the end. Below `var`, which is
/// not part of a deployed tree: the running system has another one there.
struct Work {
    path: PathBuf,
}

impl Work {
    fn new(root: &Path) -> Result<Self> {
        let at = match root == Path::new("/") {
            true => root.join("var/tmp"),
            false => root.join("var"),
        };
        let path = at.join(format!("bowline-grub-{}", Uuid::new_v4()));
        let what = || format!("Creating {}", path.display());
        fs::create_dir_all(&at).with_context(what)?;
        // Never one that is there already: others may write here, too.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(what)?;
        Ok(Self { path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = bulk::remove(&self.path) {
            tracing::warn!("{error:#}");
        }
    }
}

/// The directory below `boot` for our configuration. Where another system has its GRUB, ours needs
/// another place: modules of the one are no good for the other, and the old one must still boot.
pub fn dir_name(at: &Path) -> &'static str {
    let usual = at.join("grub");
    let ours = fs::read(usual.join("grub.cfg")).is_ok_and(|old| old == boot::GRUB_CFG.as_bytes());
    match usual.exists() && !ours {
        true => "bowline",
        false => "grub",
    }
}

/// Writes GRUB's configuration to a directory, and an environment block, unless there is one.
#[context("Writing GRUB's configuration to {}", dir.display())]
pub fn write_config(dir: &Path, grubenv: &Path) -> Result<()> {
    for dir in [Some(dir), grubenv.parent()].into_iter().flatten() {
        fs::create_dir_all(dir)?;
    }
    Grubenv::read_or_new(grubenv)?.write(grubenv)?;
    // In one step: when an installation is run again, this may be what boots already.
    Ok(sys::fs::replace(
        &dir.join("grub.cfg"),
        boot::GRUB_CFG.as_bytes(),
        0o644,
    )?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_image_is_asked_before_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let bios = platform("amd64", false).unwrap();
        let touch = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        assert_eq!(Grub::at(dir.path(), bios), None);
        touch("usr/sbin/grub2-mkimage");
        assert_eq!(Grub::at(dir.path(), bios), None);
        touch("usr/share/grub2/i386-pc/moddep.lst");
        let found = Grub::find(dir.path(), bios).unwrap();
        assert_eq!(found.root, dir.path());
        assert_eq!(found.maker, Path::new("usr/sbin/grub2-mkimage"));
        assert_eq!(found.modules, Path::new("usr/share/grub2/i386-pc"));
    }

    #[test]
    fn a_configuration_that_boots_already_is_replaced_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let (grub, grubenv) = (dir.path().join("grub"), dir.path().join("grub/grubenv"));
        write_config(&grub, &grubenv).unwrap();
        // Held open, so that its number is not given to another file.
        let before = fs::File::open(grub.join("grub.cfg")).unwrap();
        write_config(&grub, &grubenv).unwrap();
        let now = fs::read_to_string(grub.join("grub.cfg")).unwrap();
        assert_eq!(now, boot::GRUB_CFG);
        let number = |meta: std::io::Result<fs::Metadata>| meta.unwrap().ino();
        assert_ne!(
            number(fs::metadata(grub.join("grub.cfg"))),
            number(before.metadata())
        );
    }

    #[test]
    fn every_architecture_has_its_images() {
        let name = |arch, uefi| platform(arch, uefi).map(|p| (p.name, p.efi));
        assert_eq!(name("amd64", false), Some(("i386-pc", None)));
        assert_eq!(
            name("amd64", true),
            Some(("x86_64-efi", Some("BOOTX64.EFI")))
        );
        assert_eq!(
            name("arm64", true),
            Some(("arm64-efi", Some("BOOTAA64.EFI")))
        );
        assert_eq!(name("arm64", false), None);
        assert_eq!(name("s390x", true), None);
    }
}
