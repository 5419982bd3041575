//! Images that bring bootupd: it installs the boot loader, from the image's own tree and with its
//! own static configuration, and updates it later. The deployed tree and the mounted root come in;
//! the disk boots. See <https://github.com/coreos/bootupd>.

use std::io;
use std::path::Path;

use anyhow::Result;
use fn_error_context::context;

use crate::sys::namespace::MountNamespace;
use crate::sys::tree::FileTree;

/// What bootupd installs from, in the tree.
const UPDATES: &str = "usr/lib/bootupd/updates";
/// Its program, and where that may be.
const PROGRAM: &str = "bootupctl";
const PROGRAM_DIRS: [&str; 2] = ["usr/bin", "usr/sbin"];

/// What bootupd needs to know.
#[derive(Debug)]
pub struct Bootupd<'a> {
    /// The deployed tree.
    pub tree: &'a Path,
    /// Where the root file system is mounted, in the namespace.
    pub root: &'a Path,
    /// The disk that boots.
    pub disk: &'a Path,
    /// Install for all firmware, and tell this machine's nothing.
    pub generic: bool,
    /// Write no UUID of the file system into its configuration.
    pub skip_uuid: bool,
}

/// Whether a tree that is not deployed yet has what bootupd would install.
pub fn has_updates(tree: &dyn FileTree) -> io::Result<bool> {
    Ok(!tree.entries(UPDATES)?.is_empty())
}

/// Whether a tree brings bootupd, and what it would install.
pub fn is_in(tree: &Path) -> bool {
    let program = |dir: &str| tree.join(dir).join(PROGRAM).exists();
    tree.join(UPDATES).is_dir() && PROGRAM_DIRS.into_iter().any(program)
}

impl Bootupd<'_> {
    /// Installs the boot loader to the disk.
    #[context("Installing the boot loader of the image with bootupd")]
    pub fn install(&self, namespace: &MountNamespace) -> Result<()> {
        let at = |name: &str| self.tree.join(name);
        // It asks for the file system of `/`, which must be a mount point for that.
        namespace.bind(self.tree, self.tree)?;
        namespace.mount("proc", Path::new("proc"), &at("proc"))?;
        for dir in ["dev", "sys"] {
            namespace.bind(&Path::new("/").join(dir), &at(dir))?;
        }
        namespace.mount("tmpfs", Path::new("tmpfs"), &at("run"))?;
        // Where bootupd mounts the EFI system partition: without it, it takes `/boot`.
        let boot = self.root.join("boot");
        let mkdir = namespace.tool("mkdir").arg("--parents");
        mkdir.arg(boot.join("efi")).run()?;
        // It mounts the partition itself, and must not meet it here.
        let bind = namespace.tool("mount").arg("--bind").arg(boot);
        bind.arg(at("boot")).run()?;
        namespace.bind(self.root, &at("sysroot"))?;
        let call = |args: &[&str]| {
            let chroot = namespace.tool("chroot").arg(self.tree).arg(PROGRAM);
            chroot.args(["backend", "install"]).args(args)
        };
        let help = call(&["--help"]).output()?;
        let mut args = vec![match self.skip_uuid {
            true => "--with-static-configs",
            false => "--write-uuid",
        }];
        if !self.generic {
            args.extend(["--update-firmware", "--auto"]);
        }
        let disk = self.disk.to_string_lossy();
        // Newer ones find the disk, and there may be several, from what is mounted.
        match String::from_utf8_lossy(&help).contains("--filesystem") {
            true => args.extend(["--filesystem", "/sysroot", "/"]),
            false => args.extend(["--device", &*disk, "/"]),
        }
        call(&args).run()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A tree with a shell and a bootupctl that writes down how it was called, and whether it has what
    /// the real one needs: the file system of `/`, and a place for the EFI system partition.
    fn tree(help: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in [
            "proc", "dev", "sys", "run", "boot", "sysroot", "usr/bin", UPDATES,
        ] {
            fs::create_dir_all(at(path)).unwrap();
        }
        let script = format!(
            "#!/bin/sh\nif [ \"$3\" = --help ]; then echo '{help}'; exit; fi\n\
             test -e /dev/null && test -d /sys/class && test -e /proc/self && \
             test -e /sysroot/mark && findmnt / >/dev/null && test -d /boot/efi && ! mountpoint -q /boot/efi\n\
             echo \"$?: $*\" >/boot/called\n"
        );
        fs::write(at("usr/bin/bootupctl"), script).unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(at("usr/bin/bootupctl"), mode).unwrap();
        for host in ["bin", "lib", "lib64", "usr/lib", "usr/lib64"] {
            let from = Path::new("/").join(host);
            let to = at(host);
            match fs::read_link(&from) {
                Ok(link) => std::os::unix::fs::symlink(link, to).unwrap(),
                Err(_) => fs::create_dir_all(to).unwrap(),
            }
        }
        dir
    }

    #[test]
    fn bootupd_runs_in_the_tree_with_the_root_around_it() {
        if !crate::sys::namespace::tests::can_be_made() {
            return;
        }
        for (help, generic, skip_uuid, called) in [
            (
                "--device",
                false,
                false,
                "0: backend install --write-uuid --update-firmware --auto --device /dev/x /\n",
            ),
            (
                "--device --filesystem",
                true,
                true,
                "0: backend install --with-static-configs --filesystem /sysroot /\n",
            ),
        ] {
            let tree = tree(help);
            let (disk, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            fs::create_dir(disk.path().join("boot")).unwrap();
            fs::write(disk.path().join("mark"), "").unwrap();
            let namespace = MountNamespace::new().unwrap();
            // Nobody outside sees what is mounted.
            namespace.bind(disk.path(), root.path()).unwrap();
            // The shell and its libraries are the host's.
            for dir in ["usr/bin", "usr/lib", "usr/lib64"] {
                let overlay = namespace
                    .tool("mount")
                    .args(["-t", "overlay", "overlay", "-o"]);
                let lower = format!("lowerdir={}:/{dir}", tree.path().join(dir).display());
                overlay.arg(lower).arg(tree.path().join(dir)).run().unwrap();
            }
            assert!(is_in(tree.path()));
            let bootupd = Bootupd {
                tree: tree.path(),
                root: root.path(),
                disk: Path::new("/dev/x"),
                generic,
                skip_uuid,
            };
            bootupd.install(&namespace).unwrap();
            let written = fs::read_to_string(disk.path().join("boot/called")).unwrap();
            assert_eq!(written, called);
        }
        assert!(!is_in(Path::new("/nonexistent")));
    }
}
