//! Scenario 3, second half: an image is derived with a Containerfile while the test runs, the host is
//! switched to it, and back to the image it came from.

use std::fs;

use anyhow::{Result, ensure};
use bowline_boot_tests::disk::{self, FOLLOWED};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::story::Story;
use bowline_boot_tests::vm::Vm;
use bowline_boot_tests::{images, place};

use crate::guest::{follows, is_running, runs_version, status};

/// What somebody writes who wants one more thing in the system.
const CONTAINERFILE: &str = r#"ARG BASE
FROM ${BASE}
RUN echo derived >/usr/lib/boot-test/version && echo 'echo hello from the derived image' >/usr/bin/hello && chmod 755 /usr/bin/hello
RUN echo "of the derived image" >/etc/boot-test/derived
"#;

/// Switches a host on version 2 to a derived image, and back.
pub fn to_a_derived_image(vm: &mut Vm, registry: &Registry, story: &Story) -> Result<()> {
    story.tell("derive an image from version 2 with a Containerfile, and push it");
    let context = place::fresh_directory("derived")?;
    fs::write(context.join("Containerfile"), CONTAINERFILE)?;
    images::build(&context, registry, "v2", "derived")?;

    story.tell("rebase to the derived image");
    let derived = disk::in_guest("derived");
    vm.ok(&format!("bowline switch {derived}"))?;
    vm.reboot()?;
    runs_version(vm, "derived")?;
    is_running(vm)?;
    ensure!(
        vm.ok("hello")? == "hello from the derived image",
        "No hello"
    );
    ensure!(
        vm.ok("cat /etc/boot-test/derived")? == "of the derived image",
        "No new default"
    );
    let host = status(vm)?;
    follows(&host, "booted", &derived)?;

    story.tell("rebase back to the image it was made from");
    vm.ok(&format!("bowline rebase {FOLLOWED}"))?;
    vm.reboot()?;
    runs_version(vm, "2")?;
    is_running(vm)?;
    vm.fails(127, "hello")?;
    vm.fails(1, "cat /etc/boot-test/derived")?;
    let host = status(vm)?;
    follows(&host, "booted", FOLLOWED)?;
    Ok(())
}
