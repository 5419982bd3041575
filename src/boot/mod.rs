//! How a host boots: bootloader entries, boot counting, and what a bootloader needs beside the
//! files that libostree writes. Paths and plain values come in; changed boot files go out. Never
//! decides which deployment should boot.
//!
//! ```text
//! ostree/bowline/boot.yaml       which bootloader; written by `install`
//! boot/loader/entries/*.conf     libostree's entries: read, never written
//! boot/grub/grub.cfg             GRUB: our static configuration, written by `install` alone
//! boot/grub/grubenv              GRUB: boot_counter, boot_success
//! ESP loader/entries/bowline-*   systemd-boot: our mirror of the entries, see `mirror`
//! ```

pub mod counting;
pub mod entry;
pub mod esp;
mod grubenv;
pub mod kargs;
pub mod kargs_d;
pub mod kargs_edit;
pub mod loader;
pub mod mirror;
mod setup;
pub mod title;

pub use counting::{
    ESP_GRUBENV, MAX_TRIES, NoCounter, Tries, arm, armed, bless, disarm, settle, tries,
};
pub use grubenv::{Grubenv, GrubenvError};
pub use mirror::Counting;
pub use setup::{BootSetup, Bootloader, grubenv_path};

/// The static GRUB configuration that `install` puts beside `grubenv`; see docs/src/boot.md.
pub const GRUB_CFG: &str = include_str!("grub.cfg");
/// The core image's modules that [`GRUB_CFG`] needs. `linux` must not be among them, nor be loaded
/// by itself from `$prefix`: its commands have the names of the entries' keys. It belongs into the
/// core image's memory disk, as `linux.mod`.
pub const GRUB_MODULES: [&str; 14] = [
    "normal",
    "configfile",
    "echo",
    "test",
    "true",
    "regexp",
    "loadenv",
    "boot",
    "sleep",
    "ls",
    "cat",
    "minicmd",
    "serial",
    "terminal",
];
