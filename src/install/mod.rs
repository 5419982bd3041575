//! Putting a system where there was none: on a disk, in mounted file systems, or in place of the
//! running one. A request comes in; what was installed goes out. Beside `upgrade`, on the same
//! floor: it uses the same stages, and begins with a disk where that begins with a deployment.
//!
//! ```text
//! to_disk           the walk for a whole disk or a plain file, on one page
//! to_mounted        the walk for file systems that are mounted, on one page
//! configuration     how an image wants to be installed, without installing it
//! choice partition  what there will be: pure
//! target scratch    the disk; the directory where the system is put together
//! fill fstab keys   fetch and deploy; what belongs to the machine
//! site takeover     a mounted root: what belongs to it, what is in it
//! loader grub embed boot loader files and boot code
//! format esp table  file systems and partition table, written without mounting
//! ```

mod bootupd;
mod bootupd_disk;
mod choice;
mod configuration;
mod embed;
mod error;
mod esp;
mod fill;
mod firmware;
mod format;
mod fstab;
mod grub;
mod keys;
mod loader;
mod mounts;
mod partition;
mod place;
mod request;
mod scratch;
mod site;
mod table;
mod takeover;
mod target;
mod to_disk;
mod to_mounted;

pub use choice::Boots;
pub use configuration::configuration;
pub use error::InstallError;
pub use request::{DiskRequest, Existing, Installed, MountedRequest, Wanted};
pub use scratch::ScratchFull;
pub use to_disk::to_disk;
pub use to_mounted::to_mounted;

use scratch::Scratch;
use target::Target;

fn check_root() -> Result<(), InstallError> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(InstallError::NotRoot),
    }
}
