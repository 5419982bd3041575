//! Scenario 1: a disk that `install to-disk` made boots, its status is right, what must be read-only
//! is, and no unit failed.

use anyhow::{Result, ensure};
use bowline_boot_tests::disk::{self, FOLLOWED, Flavour};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;
use bowline_boot_tests::vm::Vm;

use crate::guest::{follows, is_digest, is_running, runs_version, status};

/// Boots a new disk and looks at the system; it goes on running.
pub fn install_and_boot(flavour: Flavour, story: &Story, registry: &Registry) -> Result<Vm> {
    story.tell(&format!("install version 1 to a disk: {}", flavour.name()));
    let machine = disk::installed(flavour, story, registry)?;
    story.tell("boot the disk for the first time");
    let mut vm = Vm::boot(machine, story)?;
    story.tell("it runs version 1, nothing failed, and it follows the tag that it was told to");
    runs_version(&mut vm, "1")?;
    is_running(&mut vm)?;
    let host = status(&mut vm)?;
    follows(&host, "booted", FOLLOWED)?;
    is_digest(&host, "booted", &registry.digest("v1")?)?;
    ensure!(host["status"]["staged"].is_null(), "{host:#}");
    ensure!(host["status"]["rollback"].is_null(), "{host:#}");
    story.tell("/usr and /sysroot are read-only, /etc and /var are not");
    for path in ["/usr", "/sysroot"] {
        vm.fails(1, &format!("touch {path}/not-here"))?;
        vm.ok(&format!(
            "findmnt --noheadings --options ro --target {path}"
        ))?;
    }
    vm.ok("touch /etc/here /var/here && rm /etc/here /var/here")?;
    Ok(vm)
}
