//! Everything from a merge commit to a deployment that boots, and back, on scratch sysroots. Needs
//! root (deployments belong to it) and the program `ostree`; a test that cannot run says so and
//! passes.

mod booted;
mod bootloader;
mod deploy;
mod downgrade;
mod etc;
mod etc_merge;
mod faults;
mod health;
mod kargs;
mod not_applied;
mod refused;
mod scene;
mod trial_host;
mod trials;
mod unattended;
mod upgrade;
