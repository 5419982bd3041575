//! What scenarios ask a guest, as questions with one answer each.

use anyhow::{Context, Result, ensure};
use bowline_boot_tests::registry::Registry;
use bowline_boot_tests::vm::Vm;
use serde_json::Value;

/// Exit code of a file system that is too small.
pub const SPACE: i32 = 6;

/// The version of the image that runs, as the image itself says.
pub fn version(vm: &mut Vm) -> Result<String> {
    vm.ok("cat /usr/lib/boot-test/version")
}

/// Fails unless this version of the image runs.
pub fn runs_version(vm: &mut Vm, want: &str) -> Result<()> {
    let have = version(vm)?;
    ensure!(have == want, "Version {have} runs, not {want}");
    Ok(())
}

/// Fails unless the system has finished starting and no unit failed.
pub fn is_running(vm: &mut Vm) -> Result<()> {
    let state = vm.run("systemctl is-system-running --wait")?.stdout;
    let failed = vm.ok("systemctl --failed --no-legend --plain")?;
    ensure!(
        state.trim() == "running",
        "The system is {state}; failed: {failed}"
    );
    Ok(())
}

/// The status as programs read it.
pub fn status(vm: &mut Vm) -> Result<Value> {
    let text = vm.ok("bowline status --json || [ $? = 10 ]")?;
    serde_json::from_str(&text).with_context(|| format!("Reading the status {text:?}"))
}

/// The image reference of an entry of the status: `booted`, `staged` or `rollback`.
pub fn image_of(status: &Value, entry: &str) -> Option<String> {
    let name = &status["status"][entry]["image"]["image"]["image"];
    name.as_str().map(str::to_owned)
}

/// The manifest digest of an entry of the status.
pub fn digest_of(status: &Value, entry: &str) -> Option<String> {
    let digest = &status["status"][entry]["image"]["imageDigest"];
    digest.as_str().map(str::to_owned)
}

/// Fails unless an entry of the status is this image.
pub fn is_digest(status: &Value, entry: &str, digest: &str) -> Result<()> {
    let found = digest_of(status, entry);
    ensure!(
        found.as_deref() == Some(digest),
        "{entry} is not {digest}: {status:#}"
    );
    Ok(())
}

/// Fails unless an entry of the status follows this image reference.
pub fn follows(status: &Value, entry: &str, image: &str) -> Result<()> {
    let found = image_of(status, entry);
    ensure!(
        found.as_deref() == Some(image),
        "{entry} does not follow {image}: {status:#}"
    );
    Ok(())
}

/// Fails unless the text has the words.
pub fn says(text: &str, words: &str) -> Result<()> {
    ensure!(text.contains(words), "Nothing says {words:?} in:\n{text}");
    Ok(())
}

/// Fails unless the host is as it was before: version 1 runs and nothing is staged.
pub fn untouched(vm: &mut Vm, registry: &Registry) -> Result<()> {
    runs_version(vm, "1")?;
    is_running(vm)?;
    let host = status(vm)?;
    ensure!(host["status"]["staged"].is_null(), "{host:#}");
    is_digest(&host, "booted", &registry.digest("v1")?)?;
    Ok(())
}

/// Fills all that is free in the directory, but a few megabytes.
pub fn fill(vm: &mut Vm, directory: &str, left_mib: u32) -> Result<()> {
    let free = format!("$(($(df --output=avail -m {directory} | tail -n 1) - {left_mib}))");
    vm.ok(&format!(
        "head -c {free}M /dev/zero >{directory}/filler && sync"
    ))?;
    Ok(())
}
