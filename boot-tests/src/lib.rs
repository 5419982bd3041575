//! A driver for boot tests: images and disks in, virtual machines out that boot through SeaBIOS or
//! OVMF and a real boot loader, and take commands over a serial port. The scenarios are in
//! `tests/boot/`, and read as stories. Everything lives below `target/boot-tests/` of the checkout,
//! and listens on loopback only.

pub mod agent;
pub mod cache;
pub mod check;
pub mod console;
pub mod disk;
pub mod images;
pub mod mounted;
pub mod place;
pub mod plain;
pub mod qemu;
pub mod qmp;
pub mod registry;
pub mod slots;
pub mod story;
pub mod tool;
pub mod vm;
