//! A disk that boots with GRUB and the static configuration, and a QEMU that boots it once. Needs
//! QEMU, GRUB for BIOS, sfdisk and e2fsprogs; says so where one is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bowline::boot::{GRUB_CFG, GRUB_MODULES, Grubenv};
use tempfile::TempDir;

use crate::kernel::kernel;

const MODULES_DIR: &str = "/usr/lib/grub/i386-pc";
/// What the core image needs beside [`GRUB_MODULES`] to find this disk and to load a kernel.
const MODULES: [&str; 16] = [
    "part_gpt",
    "ext2",
    "search",
    "search_label",
    "search_fs_file",
    "memdisk",
    "tar",
    "biosdisk",
    "vga_text",
    "video",
    "video_fb",
    "vbe",
    "relocator",
    "mmap",
    "gzio",
    "halt",
];
const PROGRAMS: [&str; 5] = [
    "qemu-system-x86_64",
    "grub-mkimage",
    "sfdisk",
    "mke2fs",
    "debugfs",
];
/// Far more than a boot takes, also where GRUB waits 10 seconds for a key several times.
const PATIENCE: Duration = Duration::from_secs(180);
const SECTOR: u64 = 512;
const CORE_SECTOR: u64 = 2048;
const ROOT_SECTOR: u64 = 4096;
/// Emulated machines are slow enough one by one.
static TURN: Mutex<()> = Mutex::new(());

/// Whether everything is there.
#[allow(clippy::print_stdout, reason = "a test that cannot run says why")]
pub fn can_run() -> bool {
    let found = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok()
    };
    let missing = PROGRAMS.iter().find(|program| !found(program));
    let modules = Path::new(MODULES_DIR).join("linux.mod").exists();
    match (missing, modules) {
        (None, true) => return true,
        (Some(program), _) => println!("skipped: {program} is not installed"),
        (None, false) => println!("skipped: {MODULES_DIR} (package grub-pc-bin) is not installed"),
    }
    false
}

/// A boot entry as libostree writes it, with the path of its files before `ostree/`.
pub fn entry(version: u32, prefix: &str, options: &str) -> String {
    let kernel = format!("{prefix}/ostree/os-{version}");
    format!(
        "title Debian GNU/Linux 13 (trixie) {version} (ostree:0)\nversion {version}\n\
         options {options}\nlinux {kernel}/vmlinuz-6.12\ninitrd {kernel}/initramfs-6.12.img\n"
    )
}

/// A disk.
pub struct Disk {
    dir: TempDir,
    /// `boot`, or empty where `/boot` is a file system of its own.
    boot: &'static str,
}

impl Disk {
    /// A disk with `/boot` on the root file system.
    pub fn new() -> Self {
        Self::with_boot("boot")
    }

    /// A disk whose file system is `/boot`.
    pub fn separate_boot() -> Self {
        Self::with_boot("")
    }

    fn with_boot(boot: &'static str) -> Self {
        let disk = Self {
            dir: tempfile::tempdir().unwrap(),
            boot,
        };
        disk.file("grub/grub.cfg", GRUB_CFG.as_bytes());
        let loader = disk.root().join(boot).join("loader.1/entries");
        fs::create_dir_all(loader).unwrap();
        let link = disk.root().join(boot).join("loader");
        std::os::unix::fs::symlink("loader.1", link).unwrap();
        disk
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// A file below `/boot`.
    pub fn file(&self, path: &str, content: &[u8]) {
        let path = self.root().join(self.boot).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The kernel and initramfs of an entry.
    pub fn kernel(&self, version: u32) {
        let kernel = kernel(&version.to_string());
        self.file(&format!("ostree/os-{version}/vmlinuz-6.12"), &kernel);
        let ramdisk = format!("initramfs {version}\n");
        let path = format!("ostree/os-{version}/initramfs-6.12.img");
        self.file(&path, ramdisk.as_bytes());
    }

    /// Removes a file below `/boot`.
    pub fn without(&self, path: &str) {
        fs::remove_file(self.root().join(self.boot).join(path)).unwrap();
    }

    /// Entries with their kernels, the file's number and its options.
    pub fn entries(&self, entries: &[(u32, &str)]) {
        for (version, options) in entries {
            let text = entry(*version, "/boot", options);
            self.file(
                &format!("loader.1/entries/ostree-{version}.conf"),
                text.as_bytes(),
            );
            self.kernel(*version);
        }
    }

    /// An environment block with these variables.
    pub fn grubenv(&self, variables: &[(&str, &str)]) {
        let mut env = Grubenv::default();
        for (name, value) in variables {
            env.set(name, value).unwrap();
        }
        self.file("grub/grubenv", &env.print().unwrap());
    }

    /// Writes the file system and GRUB; what was changed before counts from now on.
    pub fn write(&self) {
        let core = self.core();
        let image = self.image();
        let file = fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        let table = format!(
            "label: gpt\nstart={CORE_SECTOR}, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
             start={ROOT_SECTOR}, size=100000, type=L\n"
        );
        let input = self.dir.path().join("table");
        fs::write(&input, table).unwrap();
        let mut sfdisk = Command::new("sfdisk");
        sfdisk
            .arg("-q")
            .arg(&image)
            .stdin(fs::File::open(input).unwrap());
        run(&mut sfdisk);
        let mut mkfs = Command::new("mke2fs");
        mkfs.args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "root",
            "-O",
            "^metadata_csum_seed",
        ]);
        mkfs.args(["-E", &format!("offset={}", ROOT_SECTOR * SECTOR), "-d"]);
        run(mkfs.arg(self.root()).arg(&image).arg("48M"));
        self.embed(core);
    }

    /// What `grub-bios-setup` does: where the core image starts, into both of its parts.
    fn embed(&self, mut core: Vec<u8>) {
        use std::os::unix::fs::FileExt as _;
        let mut boot = fs::read(format!("{MODULES_DIR}/boot.img")).unwrap();
        boot.truncate(440);
        boot[0x5c..0x64].copy_from_slice(&CORE_SECTOR.to_le_bytes());
        boot[0x66..0x68].copy_from_slice(b"\x90\x90");
        core[0x1f4..0x1fc].copy_from_slice(&(CORE_SECTOR + 1).to_le_bytes());
        let file = fs::OpenOptions::new()
            .write(true)
            .open(self.image())
            .unwrap();
        file.write_all_at(&boot, 0).unwrap();
        file.write_all_at(&core, CORE_SECTOR * SECTOR).unwrap();
    }

    fn core(&self) -> Vec<u8> {
        let dir = self.dir.path();
        let prefix = match self.boot {
            "" => "/grub".into(),
            boot => format!("/{boot}/grub"),
        };
        let early = format!(
            "search --no-floppy --set=root --label root\nset prefix=($root){prefix}\n\
             configfile ($root){prefix}/grub.cfg\n"
        );
        fs::write(dir.join("early.cfg"), early).unwrap();
        let mut tar = tar::Builder::new(fs::File::create(dir.join("disk.tar")).unwrap());
        let module = format!("{MODULES_DIR}/linux.mod");
        tar.append_path_with_name(module, "linux.mod").unwrap();
        tar.into_inner().unwrap();
        let mut mkimage = Command::new("grub-mkimage");
        mkimage.args(["-O", "i386-pc", "-p", "(memdisk)/", "-d", MODULES_DIR]);
        mkimage.args(["-c", "early.cfg", "-m", "disk.tar", "-o", "core.img"]);
        run(mkimage.args(MODULES).args(GRUB_MODULES).current_dir(dir));
        fs::read(dir.join("core.img")).unwrap()
    }

    /// Boots once and gives what the kernel says it got, or what GRUB said where none ran.
    pub fn boot(&self) -> String {
        self.boot_with(&["-serial", "file:serial"])
    }

    /// The same with other devices.
    pub fn boot_with(&self, devices: &[&str]) -> String {
        let _turn = TURN
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-cpu", "qemu64", "-m", "96", "-nodefaults"]);
        qemu.args([
            "-machine",
            "q35,sata=off,smbus=off,usb=off",
            "-display",
            "none",
        ]);
        qemu.args(["-no-reboot", "-debugcon", "file:debug"]);
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
        qemu.args(["-device", "virtio-blk-pci,drive=d"]);
        if !devices.contains(&"-drive") {
            qemu.args(["-drive", "if=none,id=d,format=raw,file=disk"]);
        }
        qemu.args(devices).current_dir(self.dir.path());
        qemu.stdin(Stdio::null()).stdout(Stdio::null());
        let ended = wait(qemu.spawn().unwrap());
        let said = fs::read(self.dir.path().join("debug")).unwrap();
        let said = String::from_utf8_lossy(&said);
        match said.find("kernel ") {
            Some(at) if ended => said[at..].trim_end().to_owned(),
            _ => String::from_utf8_lossy(
                &fs::read(self.dir.path().join("serial")).unwrap_or_default(),
            )
            .into_owned(),
        }
    }

    /// The environment block as GRUB left it.
    pub fn grubenv_after(&self) -> Option<Grubenv> {
        let path = Path::new("/").join(self.boot).join("grub/grubenv");
        let image = format!("{}?offset={}", self.image().display(), ROOT_SECTOR * SECTOR);
        let mut debugfs = Command::new("debugfs");
        let output = debugfs
            .args(["-R", &format!("cat {}", path.display()), &image])
            .output();
        Grubenv::parse(&output.unwrap().stdout).ok()
    }

    /// The counter as GRUB left it.
    pub fn counter(&self) -> Option<String> {
        let env = self.grubenv_after()?;
        env.get("boot_counter").map(str::to_owned)
    }
}

/// Waits for the end, or ends it; whether it ended by itself.
fn wait(mut qemu: Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if qemu.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    false
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
