//! Why a deployment, or the way back, is refused before anything was changed.

use std::path::PathBuf;

use thiserror::Error;

use crate::boot::kargs_edit::EditError;
use crate::etc_merge::Conflict;
use crate::sys::amount::bytes;

/// A wish that this host or image cannot fulfil. Nothing was changed.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum DeployError {
    /// The tree has no kernel.
    #[error("the image does not boot: there is no kernel in its usr/lib/modules/*/vmlinuz")]
    NoKernel,
    /// Not enough room for the deployment.
    #[error("{place} has {} free, but the deployment needs {}", bytes(*.available), bytes(*.needed))]
    NoSpace {
        /// Which file system.
        place: &'static str,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// There is no deployment to start from.
    #[error("nothing is deployed{}", in_stateroot(.0.as_deref()))]
    NothingDeployed(Option<String>),
    /// The deployment follows no container image.
    #[error("deployment {0} does not follow a container image")]
    NotAnImage(String),
    /// rpm-ostree changed the deployment locally.
    #[error("deployment {0} has local changes that rpm-ostree made (packages or overrides)")]
    LocalChanges(String),
    /// There is only one deployment.
    #[error("there is no other deployment to roll back to{}", in_stateroot(.0.as_deref()))]
    NoRollback(Option<String>),
    /// A kernel argument that the bootloader cannot hand to the kernel as it is.
    #[error(
        "the kernel argument {arg} cannot be passed on by GRUB: it reads boot loader entries as \
         script and would take the {character} for its own"
    )]
    Obstacle {
        /// The argument.
        arg: String,
        /// The character.
        character: char,
    },
    /// A name of the image that the bootloader cannot show.
    #[error(
        "the image calls itself {title:?}, and GRUB cannot read a boot entry with {character} in \
         its title"
    )]
    Title {
        /// The name.
        title: String,
        /// The character.
        character: char,
    },
    /// What runs has not proven itself yet.
    #[error(
        "deployment {0}, which runs, is still on trial: another deployment now would take the place \
         of the one that it goes back to"
    )]
    OnTrial(String),
    /// A change of kernel arguments that cannot be made.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Local changes to `/etc` that libostree could not merge into the new image.
    #[error("/etc cannot be merged into the new image: {}", join(.conflicts))]
    EtcConflict {
        /// All of them.
        conflicts: Vec<Conflict>,
        /// Where `etc` is.
        root: PathBuf,
    },
    /// A name that cannot be a stateroot.
    #[error("{0:?} cannot be the name of a stateroot: letters, digits and -_.+@:~,% can be in one")]
    StaterootName(String),
}

fn in_stateroot(name: Option<&str>) -> String {
    name.map(|name| format!(" in stateroot {name}"))
        .unwrap_or_default()
}

fn join(conflicts: &[Conflict]) -> String {
    let texts: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
