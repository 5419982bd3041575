//! Scenario 2: `upgrade` takes a new version from a registry and stages it; after the reboot it runs,
//! /etc is merged in every case of the merge table, and /var and the machine id are kept.

use anyhow::{Result, ensure};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;
use bowline_boot_tests::vm::Vm;

use crate::guest::{is_digest, is_running, runs_version, says, status};

/// What an administrator did before the upgrade, below /etc/boot-test.
const EDITS: &str = r#"set -e; cd /etc/boot-test
for file in edited-same edited-changed edited-removed added-here-too; do echo "local" >$file; done
echo "the same in both" >edited-to-new
rm deleted-same deleted-changed deleted-removed
chmod 600 mode-same; chmod 640 mode-changed
echo local >added-here; ln -s added-here link-added-here; mkdir directory-here; echo local >directory-here/file
rm becomes-directory-here; mkdir becomes-directory-here; echo local >becomes-directory-here/file
echo local >reverted; echo "default 1 of reverted" >reverted
setfattr -n user.local -v kept edited-same 2>/dev/null || true
"#;

/// What each file of /etc/boot-test must be afterwards: its first line, `-` where there is none.
const MERGED: &[(&str, &str)] = &[
    ("same", "default 1 of same"),
    ("changed", "default 2 of changed"),
    ("removed", "-"),
    ("added", "default 2 of added"),
    ("edited-same", "local"),
    ("edited-changed", "local"),
    ("edited-removed", "local"),
    ("edited-to-new", "the same in both"),
    ("deleted-same", "-"),
    ("deleted-changed", "-"),
    ("deleted-removed", "-"),
    ("added-here", "local"),
    ("added-here-too", "local"),
    ("link-added-here", "local"),
    ("directory-here/file", "local"),
    ("becomes-directory-here/file", "local"),
    ("reverted", "default 2 of reverted"),
    ("mode-same", "default 1 of mode-same"),
    ("../boot-test-dir/changed/file", "default 2"),
    ("../boot-test-dir/added/file", "default 2"),
];

/// Upgrades a host on version 1 to version 2.
pub fn upgrade(vm: &mut Vm, registry: &Registry, story: &Story) -> Result<()> {
    story.tell("an administrator edits /etc; somebody releases version 2");
    vm.ok(EDITS)?;
    let machine_id = vm.ok("cat /etc/machine-id")?;
    vm.ok("echo data >/var/lib/boot-test-data")?;
    registry.release("v2", "stable")?;

    story.tell("upgrade: version 2 is staged, version 1 goes on running");
    says(
        &vm.ok("bowline upgrade --check")?,
        "10.0.2.100:5000/os:stable",
    )?;
    vm.ok("bowline upgrade")?;
    let host = status(vm)?;
    is_digest(&host, "staged", &registry.digest("v2")?)?;
    is_digest(&host, "booted", &registry.digest("v1")?)?;
    runs_version(vm, "1")?;

    story.tell("reboot: version 2 runs, version 1 is the way back");
    vm.reboot()?;
    runs_version(vm, "2")?;
    is_running(vm)?;
    let host = status(vm)?;
    is_digest(&host, "booted", &registry.digest("v2")?)?;
    is_digest(&host, "rollback", &registry.digest("v1")?)?;
    ensure!(host["status"]["staged"].is_null(), "{host:#}");

    story.tell("/etc is merged, /var and the machine id are the same");
    merged(vm)?;
    ensure!(
        vm.ok("cat /etc/machine-id")? == machine_id,
        "The machine id changed"
    );
    ensure!(
        vm.ok("cat /var/lib/boot-test-data")? == "data",
        "/var lost data"
    );
    vm.ok("bowline upgrade --unchanged-exit-77; test $? = 77")?;
    Ok(())
}

/// Fails unless /etc is what the merge table says.
fn merged(vm: &mut Vm) -> Result<()> {
    let mut wrong = String::new();
    for (file, want) in MERGED {
        let have = vm.ok(&format!(
            "cd /etc/boot-test; head -n 1 {file} 2>/dev/null || echo -"
        ))?;
        if have != *want {
            wrong += &format!("{file}: {have:?}, not {want:?}\n");
        }
    }
    ensure!(
        wrong.is_empty(),
        "/etc is not merged as it should be:\n{wrong}"
    );
    let link = vm.ok("readlink /etc/boot-test/link-changed")?;
    ensure!(link == "second", "The link leads to {link}");
    let modes = vm.ok("cd /etc/boot-test; stat -c %a mode-same mode-changed")?;
    ensure!(modes == "600\n640", "The modes are {modes:?}");
    Ok(())
}
