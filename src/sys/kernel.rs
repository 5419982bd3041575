//! What the running kernel says about itself. Nothing comes in, a plain value goes out.

use std::fs;
use std::io;

/// Names one boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's name for this boot, a UUID with hyphens.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}
