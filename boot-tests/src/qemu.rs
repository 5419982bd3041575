//! QEMU's command line: a machine as a value in, arguments out. Probes once whether KVM works; under
//! pure emulation the flags are those that were measured to be quick and sound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{agent, place, tool};

/// The program that runs machines.
pub const QEMU: &str = "qemu-system-x86_64";
/// Where the guest finds the registry of its test, whatever its port on the host is.
pub const REGISTRY: &str = "10.0.2.100:5000";
/// How long a machine may take to prove that KVM works.
const PROBE: Duration = Duration::from_secs(10);
/// Where distributions keep OVMF: code, variables.
const OVMF: &[(&str, &str)] = &[
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
];

/// What starts the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// When a write of the guest is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Flushes are ignored: quick, and wrong after a power cut.
    Careless,
    /// A flush is a flush, and what was not flushed may be lost with the machine.
    Honest,
}

/// A machine that is off. Its disks are qcow2 files and keep their state from boot to boot.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What starts the boot loader.
    pub firmware: Firmware,
    /// The disk with the system.
    pub disk: PathBuf,
    /// Another disk, which nothing boots from.
    pub second: Option<PathBuf>,
    /// The variables of OVMF; unused with SeaBIOS.
    pub variables: PathBuf,
    /// Whether flushes count.
    pub cache: Cache,
    /// A port of the host's loopback that the guest sees as [`REGISTRY`].
    pub registry_port: u16,
    /// The date that the hardware clock shows at the start, in QEMU's notation; the host's by default.
    pub clock: Option<String>,
    /// What QEMU starts itself, past any boot loader.
    pub kernel: Option<Kernel>,
}

/// A kernel that needs no boot loader: files on the host.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The kernel itself.
    pub image: PathBuf,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// Its command line.
    pub arguments: String,
}

/// The host's ends of a machine's lines.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// The command channel.
    pub agent: PathBuf,
    /// QEMU's control socket.
    pub control: PathBuf,
    /// The file that the serial console is appended to.
    pub console: PathBuf,
}

/// The arguments that boot the machine, or take it up where the snapshot left it.
pub fn arguments(
    machine: &Machine,
    sockets: &Sockets,
    snapshot: Option<&str>,
) -> Result<Vec<String>> {
    let mut all = words("-nodefaults -display none -no-reboot -m 1024");
    all.extend(processor(kvm_works()));
    if machine.firmware == Firmware::Uefi {
        all.extend(ovmf(&machine.variables)?);
    }
    all.extend(drive("disk", &machine.disk, machine.cache));
    all.extend(words(
        "-device virtio-blk-pci,drive=disk,bootindex=1,serial=system",
    ));
    if let Some(second) = &machine.second {
        all.extend(drive("second", second, machine.cache));
        all.extend(words("-device virtio-blk-pci,drive=second"));
    }
    if let Some(kernel) = &machine.kernel {
        all.extend(["-kernel".into(), kernel.image.display().to_string()]);
        all.extend(["-initrd".into(), kernel.initramfs.display().to_string()]);
        all.extend(["-append".into(), kernel.arguments.clone()]);
    }
    all.extend(network(machine.registry_port)?);
    all.extend(words(
        "-device i6300esb -action watchdog=reset -device virtio-rng-pci",
    ));
    all.extend(lines(sockets));
    if let Some(date) = &machine.clock {
        all.extend(["-rtc".into(), format!("base={date}")]);
    }
    if let Some(name) = snapshot {
        all.extend(["-loadvm".into(), name.into()]);
    }
    all.extend(agent::credentials());
    Ok(all)
}

fn drive(name: &str, file: &Path, cache: Cache) -> [String; 2] {
    let cache = match cache {
        Cache::Careless => "unsafe",
        Cache::Honest => "none",
    };
    let file = file.display();
    let drive = format!("if=none,id={name},file={file},format=qcow2,cache={cache},discard=unmap");
    ["-drive".into(), drive]
}

/// Whether this host's KVM runs a guest: some hosts open it, and then the guest dies.
pub fn kvm_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| Path::new("/dev/kvm").exists() && probe().unwrap_or(false))
}

/// Boots a sector that writes to QEMU's exit port; a guest that lives ends with that exit code.
fn probe() -> Result<bool> {
    // mov dx, 0xf4; mov al, 0x10; out dx, al; hlt
    let code = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4];
    let mut sector = vec![0; 512];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), sector)?;
    let mut qemu = tool::tied(QEMU);
    qemu.args(words("-nodefaults -display none -no-reboot -m 64"));
    qemu.args(processor(true));
    qemu.args(words("-device isa-debug-exit,iobase=0xf4,iosize=4 -drive"));
    qemu.arg(format!("format=raw,file={}", file.path().display()));
    ends_with(qemu, (0x10 << 1) | 1)
}

fn ends_with(mut command: Command, code: i32) -> Result<bool> {
    let mut child = command.stderr(std::process::Stdio::null()).spawn()?;
    let deadline = Instant::now() + PROBE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code() == Some(code));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

/// One processor is quicker than two under emulation, and lets two machines run side by side.
fn processor(kvm: bool) -> Vec<String> {
    words(match kvm {
        true => "-accel kvm -cpu host -smp 2 -machine q35,sata=off,smbus=off,usb=off",
        false => {
            "-accel tcg,tb-size=512 -cpu qemu64,-cx16,-svm -smp 1 \
             -machine q35,sata=off,smbus=off,usb=off"
        }
    })
}

fn ovmf(variables: &Path) -> Result<Vec<String>> {
    let code = ovmf_files()?.0;
    let variables = variables.display();
    Ok(vec![
        "-drive".into(),
        format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        "-drive".into(),
        format!("if=pflash,unit=1,format=qcow2,file={variables}"),
    ])
}

/// Code and empty variables of OVMF, where this distribution has them.
pub fn ovmf_files() -> Result<(&'static str, &'static str)> {
    let mut known = OVMF.iter().copied();
    let found = known.find(|(code, _)| Path::new(code).exists());
    found.context("OVMF is missing: install the package ovmf, or edk2-ovmf")
}

/// The guest reaches one port of the host's loopback, and nothing else.
fn network(port: u16) -> Result<Vec<String>> {
    let forward = place::forwarder()?;
    let forward = forward.display();
    Ok(vec![
        "-netdev".into(),
        format!("user,id=net,restrict=on,guestfwd=tcp:{REGISTRY}-cmd:{forward} {port}"),
        "-device".into(),
        "virtio-net-pci,id=card,netdev=net,romfile=".into(),
    ])
}

fn lines(sockets: &Sockets) -> Vec<String> {
    let (agent, control) = (sockets.agent.display(), sockets.control.display());
    let console = sockets.console.display();
    vec![
        "-device".into(),
        "virtio-serial-pci".into(),
        "-chardev".into(),
        format!("socket,id=agent,path={agent},server=on,wait=off"),
        "-device".into(),
        "virtserialport,chardev=agent,name=agent".into(),
        "-chardev".into(),
        format!("file,id=console,path={console},append=on"),
        "-serial".into(),
        "chardev:console".into(),
        "-qmp".into(),
        format!("unix:{control},server=on,wait=off"),
    ]
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
