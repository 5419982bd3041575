//! Sorts errors of installing, deploying and booting: an error comes in, the kind of failure and a hint go
//! out. Looks at types, never at the text of a message.

use super::classify::{FREE_SPACE, IMAGE_FILE, is_root, no_permission};
use super::{Kind, Verdict};
use crate::agent::NotBooted;
use crate::boot::esp::EspError;
use crate::boot::kargs_d::KargsDError;
use crate::boot::kargs_edit::EditError;
use crate::boot::mirror::MirrorError;
use crate::boot::{GrubenvError, NoCounter};
use crate::deploy::DeployError;
use crate::deploy::outlook::way_out;
use crate::install::{InstallError, ScratchFull};
use crate::sys::tool::ToolMissing;
use crate::sysroot::SysrootError;
use crate::upgrade::{Downgrade, KnownBad};

pub(super) fn sysroot(error: &SysrootError) -> Verdict {
    use SysrootError as E;
    match error {
        E::Busy(_) => Verdict::hint(
            Kind::Busy,
            "wait until it is done; `fuser -v` on that file names the process",
        ),
        E::NotImageBased => Verdict::hint(
            Kind::Unsupported,
            "name the root of an image-based system with --sysroot",
        ),
        E::NoDirectory(_) | E::NoSysroot(_) | E::NotEmpty(_) => Verdict::hint(
            Kind::Usage,
            "name a sysroot, or an empty directory to `bowline rebase`, with --sysroot",
        ),
        E::Empty(_) => Verdict::hint(Kind::Usage, "follow an image first: `bowline rebase IMAGE`"),
        E::ReadOnly(_) => Verdict::hint(Kind::Unexpected, "mount the file system read-write first"),
        E::NoPermission(_) => no_permission(is_root()),
        E::NoDeployment(_) => Verdict::hint(Kind::Unexpected, "run `bowline status`"),
    }
}

pub(super) fn deploy(error: &DeployError) -> Verdict {
    use DeployError as E;
    match error {
        E::NoKernel => Verdict::hint(
            Kind::Unsupported,
            "choose an image with a kernel; `bowline image pull` takes any image",
        ),
        E::NoSpace { .. } => Verdict::hint(Kind::Space, FREE_SPACE),
        E::NothingDeployed(_) => {
            Verdict::hint(Kind::Usage, "follow an image first: `bowline rebase IMAGE`")
        }
        E::NotAnImage(_) => Verdict::hint(
            Kind::Unsupported,
            "follow an image first: `bowline rebase IMAGE`",
        ),
        E::LocalChanges(_) => Verdict::hint(
            Kind::Unsupported,
            "undo them with `rpm-ostree reset`, or go on with rpm-ostree",
        ),
        E::OnTrial(_) => Verdict::hint(
            Kind::Denied,
            "wait until its boot is marked good (`bowline status` tells), or go on without a way back \
             with --force",
        ),
        E::NoRollback(_) => {
            Verdict::hint(Kind::Unsupported, "`bowline status` shows what there is")
        }
        E::StaterootName(_) | E::Edit(EditError::Karg(_)) => Verdict::new(Kind::Usage),
        E::Obstacle { .. } => Verdict::hint(
            Kind::Unsupported,
            "write the argument without this character, or boot with systemd-boot",
        ),
        E::Title { .. } => Verdict::hint(
            Kind::Unsupported,
            "give the image another PRETTY_NAME in its usr/lib/os-release, or boot with \
             systemd-boot",
        ),
        E::Edit(EditError::Several { .. }) => {
            Verdict::hint(Kind::Usage, "say which one is meant: KEY=VALUE")
        }
        E::Edit(_) => Verdict::hint(Kind::Usage, "`bowline kargs` lists what there is"),
        E::EtcConflict { conflicts, root } => {
            let commands = conflicts.iter().map(|conflict| way_out(conflict, root));
            let commands = commands.collect::<Vec<_>>().join("; ");
            let hint = format!(
                "nothing was deployed, and the image is kept; save what you need of these files, \
                 then run `{commands}` and the command again"
            );
            Verdict::hint(Kind::Conflict, hint)
        }
    }
}

pub(super) fn install(error: &InstallError) -> Verdict {
    use InstallError as E;
    match error {
        E::NotRoot => Verdict::hint(Kind::Unexpected, "run this as root"),
        E::NotBlank { .. } => Verdict::hint(
            Kind::Usage,
            "with --wipe everything on it is destroyed; or choose another target",
        ),
        E::NotEmpty { .. } => Verdict::hint(
            Kind::Usage,
            "with --replace alongside it stays beside the new system, with --replace wipe it goes",
        ),
        E::Deployed(_) => Verdict::hint(
            Kind::Usage,
            "let it follow another image with `bowline rebase --sysroot DIR IMAGE`, or begin anew \
             with `bowline install to-filesystem --replace wipe`",
        ),
        E::NoTarget(_) => Verdict::hint(
            Kind::Usage,
            "name a disk, or make a file of the size of a disk: `truncate -s 10G FILE`",
        ),
        E::NoDisk(_) => Verdict::hint(
            Kind::Usage,
            "for mounted file systems there is `bowline install to-filesystem`",
        ),
        E::Partition(_) => Verdict::hint(
            Kind::Usage,
            "name the whole disk; or make a file system, mount it, and use \
             `bowline install to-filesystem`",
        ),
        E::InUse(_) => Verdict::hint(
            Kind::Usage,
            "unmount it, and detach a file from its loop device (`losetup --detach`); `lsblk` \
             shows what uses it. The disk of the running system is taken over \
             by `bowline install to-existing-root`",
        ),
        E::WriteProtected(_) => Verdict::hint(
            Kind::Unexpected,
            "a disk may be read-only (`blockdev --setrw` changes that, or a switch on the medium), a \
             file immutable (`chattr -i` changes that)",
        ),
        E::NoScratch(_) => Verdict::hint(
            Kind::Usage,
            "make it, or name another directory with --scratch; it needs as much room as the system",
        ),
        E::Busy(_) => Verdict::hint(Kind::Busy, "wait until the other installation is done"),
        E::TooSmall { .. } => {
            Verdict::hint(Kind::Space, "choose a larger disk, or make the file larger")
        }
        E::Options(_) => Verdict::new(Kind::Usage),
        E::ImageFile(_) => Verdict::hint(Kind::Usage, IMAGE_FILE),
        E::Unsupported { instead, .. } => Verdict::hint(Kind::Unsupported, instead.as_str()),
    }
}

pub(super) fn scratch(_: &ScratchFull) -> Verdict {
    Verdict::hint(
        Kind::Space,
        "name another directory with --scratch, or make room: it takes as much as the system",
    )
}

pub(super) fn tool(_: &ToolMissing) -> Verdict {
    let packages = "install its package: fdisk, util-linux, e2fsprogs, btrfs-progs, xfsprogs, \
                    dosfstools, mtools, grub-common or gnupg have such programs on Debian";
    Verdict::hint(Kind::Unsupported, packages)
}

pub(super) fn esp(error: &EspError) -> Verdict {
    match error {
        EspError::Unknown => Verdict::new(Kind::Usage),
        EspError::Gone(_) => Verdict::hint(
            Kind::Unsupported,
            "attach its disk, or correct /ostree/bowline/boot.yaml; `lsblk -o NAME,PARTUUID` shows \
             what there is",
        ),
    }
}

pub(super) fn no_counter(_: &NoCounter) -> Verdict {
    Verdict::hint(
        Kind::Unsupported,
        "boot with UEFI, or put /boot on ext4 or XFS; updates are held back until then",
    )
}

pub(super) fn not_booted(_: &NotBooted) -> Verdict {
    Verdict::hint(
        Kind::Unsupported,
        "run this without --sysroot, on a host that booted an image; `bowline status --sysroot DIR` \
         shows what is in another sysroot",
    )
}

pub(super) fn kargs_d(_: &KargsDError) -> Verdict {
    Verdict::hint(Kind::Usage, IMAGE_FILE)
}

pub(super) fn mirror(error: &MirrorError) -> Verdict {
    match error {
        MirrorError::NoSpace { .. } => Verdict::hint(
            Kind::Space,
            "remove what does not belong on the EFI system partition, or unpin a deployment with \
             another kernel",
        ),
        MirrorError::NothingToBoot => Verdict::new(Kind::Unexpected),
    }
}

pub(super) fn grubenv(error: &GrubenvError) -> Option<Verdict> {
    match error {
        // The system's own error, further down the chain, says what kind it is.
        GrubenvError::File { .. } => None,
        GrubenvError::Full { .. } => Some(Verdict::hint(
            Kind::Space,
            "remove variables from it with `grub-editenv`",
        )),
        GrubenvError::NotABlock(_) | GrubenvError::Name(_) => None,
    }
}

pub(super) fn downgrade(_: &Downgrade) -> Verdict {
    Verdict::hint(
        Kind::Denied,
        "if it is meant, install it with --allow-downgrade; `bowline rollback` goes back to the \
         deployment before",
    )
}

pub(super) fn known_bad(_: &KnownBad) -> Verdict {
    Verdict::hint(
        Kind::Denied,
        "choose another image, or install this one all the same with --force",
    )
}

#[cfg(test)]
mod tests;
