//! Sorts errors: a chain of causes comes in, the kind of failure and a hint go out. Looks at
//! types, never at the text of a message.

use std::error::Error as StdError;
use std::io;

use super::host;
use super::{Interrupted, Kind, UsageError, Verdict};
use crate::boot::kargs::KargError;
use crate::build::image::NoMetadata;
use crate::build::reexport::ReexportError;
use crate::build::{
    ContainerConfigError, ContentMetaError, DamagedObject, NoSuchDirectory, NotFlatpak,
};
use crate::cli::image::{InUse, NotStored};
use crate::cli::output::OutputClosed;
use crate::config::ConfigError;
use crate::image::{DigestError, LayoutError, ManifestError, ReferenceError};
use crate::packages::DamagedDatabase;
use crate::pull::{ArchiveFailure, NotEncapsulated, Unsuitable};
use crate::repo::flatpak::FlatpakError;
use crate::repo::{
    CommitSignError, CommitUnsigned, Damaged, EtcTwice, LayerError, NoRecord, NoSuchCommit,
    RepoUnsupported, system_error_kind,
};
use crate::sign::{KeyError, SignError};
use crate::sysroot::OriginError;
use crate::transport::Error as SourceError;
use crate::trust::Denied;
use crate::unpack::UnpackError;

pub(super) const FREE_SPACE: &str =
    "free some space (`bowline image prune --undeployed` helps) and run the command again";
const CORRUPT: &str = "the data was changed at the source or on the way; nothing of it was used: \
                       pull from another place, or push the image again";
const UNUSABLE: &str = "nothing of it was used: choose another image, or build this one anew and \
                        push it again";
const OTHER_MACHINE: &str = "choose an image for this machine, or another architecture with --arch";
pub(super) const IMAGE_FILE: &str = "whoever builds the image has to correct this file, and `bowline container \
                          lint` checks it there; until then choose another image or version, such \
                          as host/name@sha256:…";
const ON_DISK: &str = "nothing of it was deployed: `ostree fsck --delete` takes damaged objects out of \
                       the repository, and the next pull fetches them again";
const ARCHIVE: &str = "nothing of it was used: it was cut short, changed or compressed, or `bowline tar export` did not \
                       write it; copy or write it once more";
const ON_DISK_ARCHIVE: &str = "the commit was not finished: `ostree fsck --delete` takes damaged objects out of the \
                               repository; import the archive again then";
const FORMS: &str = "write an image as host/name:tag, host/name@sha256:… or TRANSPORT:NAME, such as \
                     oci:/path:tag";

/// Sorts an error by the first error in its chain, outermost first, whose type says something.
pub fn classify(error: &anyhow::Error) -> Verdict {
    let known = error.chain().find_map(|cause| {
        let table: &[fn(&(dyn StdError + 'static)) -> Option<Verdict>] = &[
            |e| e.downcast_ref().map(usage),
            |e| e.downcast_ref().map(interrupted),
            |e| e.downcast_ref().and_then(source),
            |e| e.downcast_ref().map(reference),
            |e| e.downcast_ref().map(sign),
            |e| e.downcast_ref().map(sign_commit),
            |e| e.downcast_ref().and_then(archive),
            |e| e.downcast_ref().and_then(layer),
            |e| Damaged::of(e).map(tampered),
            |e| e.downcast_ref().map(denied),
            |e| e.downcast_ref().map(commit_unsigned),
            |e| e.downcast_ref().map(host::sysroot),
            |e| e.downcast_ref().map(host::deploy),
            |e| e.downcast_ref().map(host::known_bad),
            |e| e.downcast_ref().map(host::downgrade),
            |e| e.downcast_ref().map(host::install),
            |e| e.downcast_ref().map(host::scratch),
            |e| e.downcast_ref().map(host::tool),
            |e| e.downcast_ref().map(host::esp),
            |e| e.downcast_ref().map(host::mirror),
            |e| e.downcast_ref().map(host::no_counter),
            |e| e.downcast_ref().map(host::not_booted),
            |e| e.downcast_ref().map(host::kargs_d),
            |e| e.downcast_ref().and_then(host::grubenv),
            |e| e.downcast_ref().map(unsuitable),
            |e| e.downcast_ref().map(not_encapsulated),
            |e| e.downcast_ref().map(damaged),
            |e| e.downcast_ref().and_then(database),
            |e| e.downcast_ref().map(no_metadata),
            |e| e.downcast_ref().map(not_stored),
            |e| e.downcast_ref().map(no_record),
            |e| e.downcast_ref().map(reexport),
            |e| e.downcast_ref().map(unpack),
            |e| e.downcast_ref().map(in_use),
            |e| e.downcast_ref().and_then(manifest),
            |e| e.downcast_ref().and_then(system),
            |e| e.downcast_ref().map(layout),
            |e| system_error_kind(e).and_then(of_kind),
            plain,
        ];
        table.iter().find_map(|sort| sort(cause))
    });
    known.unwrap_or_else(|| Verdict::new(Kind::Unexpected))
}

/// Errors that need no hint: their message says it all.
fn plain(error: &(dyn StdError + 'static)) -> Option<Verdict> {
    let kind = if error.is::<OutputClosed>() {
        Kind::OutputClosed
    } else if error.is::<DigestError>()
        || error.is::<OriginError>()
        || error.is::<ConfigError>()
        || error.is::<ContentMetaError>()
        || error.is::<ContainerConfigError>()
        || error.is::<NotFlatpak>()
        || error.is::<EtcTwice>()
        || error.is::<NoSuchCommit>()
        || error.is::<NoSuchDirectory>()
        || error.is::<KargError>()
        || error.is::<KeyError>()
    {
        Kind::Usage
    } else if error.is::<FlatpakError>() {
        Kind::Network
    } else if error.is::<RepoUnsupported>() {
        Kind::Unsupported
    } else {
        return None;
    };
    Some(Verdict::new(kind))
}

fn not_encapsulated(_: &NotEncapsulated) -> Verdict {
    Verdict::hint(
        Kind::Unsupported,
        "`bowline image pull --repo PATH IMAGE` stores any image, with all its layers",
    )
}

fn damaged(_: &DamagedObject) -> Verdict {
    Verdict::hint(
        Kind::Unexpected,
        "run `ostree fsck` on the repository; nothing that names the image was written",
    )
}

/// Nothing where the system is to blame: no room, no permission.
fn database(error: &DamagedDatabase) -> Option<Verdict> {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let of_system = causes.any(|cause| system_error_kind(cause).and_then(of_kind).is_some());
    let hint = "repair it with its package manager, or take it out of the file system";
    (!of_system).then(|| Verdict::hint(Kind::Unexpected, hint))
}

fn no_metadata(_: &NoMetadata) -> Verdict {
    Verdict::hint(
        Kind::Usage,
        "--copymeta-opt copies a key only where it is there; `ostree show --raw` prints what is there",
    )
}

fn usage(error: &UsageError) -> Verdict {
    Verdict {
        hint: error.hint.clone(),
        ..Verdict::new(Kind::Usage)
    }
}

fn interrupted(signal: &Interrupted) -> Verdict {
    Verdict::again(Kind::Interrupted(*signal), "run the same command again")
}

fn source(error: &SourceError) -> Option<Verdict> {
    use SourceError as E;
    Some(match error {
        E::NotFound { .. } => Verdict::hint(Kind::Network, "check the name and the tag"),
        E::Denied { .. } => Verdict::hint(
            Kind::Network,
            "log in with `podman login`, or give a file with credentials with --authfile",
        ),
        E::Temporary { .. } => {
            Verdict::again(Kind::Network, "this may pass: run the same command again")
        }
        E::OtherDigest { .. } => Verdict::hint(
            Kind::Denied,
            "nothing was fetched; check which image is meant, and give its digest to --require-digest",
        ),
        E::Mismatch { .. } => Verdict::hint(Kind::Network, CORRUPT),
        E::Manifest { source, .. } => manifest(source)?,
        E::Refused { .. } | E::WholeOnly { .. } => Verdict::hint(
            Kind::Network,
            "trying again does not help: check the name and what is behind it",
        ),
        E::Config(_) => Verdict::new(Kind::Usage),
        E::Unsupported(_) => Verdict::new(Kind::Unsupported),
        E::Io { source, .. } => system(source).unwrap_or_else(|| {
            let hint = "check that this path is what it is meant to be, and that it is whole";
            Verdict::hint(Kind::Unexpected, hint)
        }),
        E::Write { source, .. } => system(source).unwrap_or_else(|| {
            let hint = "check that this path can be written; what was there is as it was";
            Verdict::hint(Kind::Unexpected, hint)
        }),
    })
}

fn manifest(error: &ManifestError) -> Option<Verdict> {
    Some(match error {
        ManifestError::NoPlatform { .. } => Verdict::hint(Kind::Unsupported, OTHER_MACHINE),
        _ => Verdict::hint(Kind::Network, UNUSABLE),
    })
}

fn reference(error: &ReferenceError) -> Verdict {
    match error {
        // Its message says what to write.
        ReferenceError::ShortName(_) => Verdict::new(Kind::Usage),
        _ => Verdict::hint(Kind::Usage, FORMS),
    }
}

fn sign(error: &SignError) -> Verdict {
    match error {
        SignError::Transport(_) => Verdict::hint(
            Kind::Unsupported,
            "copy the image to a registry with `bowline image copy`, or to dir:DIRECTORY, and sign it \
             there",
        ),
        SignError::Identity => Verdict::hint(
            Kind::Usage,
            "say what it will be called with --sign-identity host/name:tag",
        ),
        SignError::Full(_) => Verdict::hint(
            Kind::Space,
            "delete that tag or those files, and sign again",
        ),
        SignError::Gpg { .. } => Verdict::hint(
            Kind::Usage,
            "`gpg --list-secret-keys` shows which keys there are; without an agent that knows the \
             passphrase, name a file with it: --sign-passphrase-file",
        ),
    }
}

fn sign_commit(error: &CommitSignError) -> Verdict {
    match error {
        // Its message says what to give.
        CommitSignError::Form => Verdict::new(Kind::Usage),
        CommitSignError::Gpg { .. } => Verdict::hint(
            Kind::Usage,
            "`gpg --list-secret-keys` shows which keys there are; its agent has to know the passphrase",
        ),
    }
}

/// What pulls say of layers and objects, in the words of an archive that was read.
fn archive(failure: &ArchiveFailure) -> Option<Verdict> {
    let causes = || failure.source.chain();
    if causes().any(|cause| Damaged::of(cause).is_some()) {
        return Some(Verdict::hint(Kind::Denied, ON_DISK_ARCHIVE));
    }
    let mut layers = causes().filter_map(|cause| layer(cause.downcast_ref()?));
    let broken = layers.find(|verdict| verdict.kind == Kind::Network)?;
    Some(Verdict::hint(broken.kind, ARCHIVE))
}

fn layer(error: &LayerError) -> Option<Verdict> {
    match error {
        // The system's own error, further down the chain, says what kind it is.
        LayerError::Store(_) => None,
        LayerError::Unsigned(unsigned) => Some(commit_unsigned(unsigned)),
        // The digests of these may well be right.
        LayerError::Path { .. }
        | LayerError::LinkTarget { .. }
        | LayerError::Object { .. }
        | LayerError::Incomplete { .. } => Some(Verdict::hint(Kind::Network, UNUSABLE)),
        _ => Some(Verdict::hint(Kind::Network, CORRUPT)),
    }
}

fn layout(_: &LayoutError) -> Verdict {
    Verdict::hint(Kind::Network, UNUSABLE)
}

fn commit_unsigned(_: &CommitUnsigned) -> Verdict {
    let hint = "check the remote's keys and settings (`ostree remote list`, /etc/ostree/remotes.d), \
                and who built the image";
    Verdict::hint(Kind::Denied, hint)
}

fn tampered(_: &Damaged) -> Verdict {
    Verdict::hint(Kind::Denied, ON_DISK)
}

fn denied(error: &Denied) -> Verdict {
    Verdict::hint(Kind::Denied, error.hint())
}

fn unsuitable(error: &Unsuitable) -> Verdict {
    match error {
        Unsuitable::Architecture { .. } => Verdict::hint(Kind::Unsupported, OTHER_MACHINE),
        Unsuitable::Space { .. } => Verdict::hint(Kind::Space, FREE_SPACE),
        Unsuitable::NotBootable { .. } => Verdict::hint(
            Kind::Unsupported,
            "choose an image of an operating system; `bowline image pull` takes any image",
        ),
    }
}

fn not_stored(_: &NotStored) -> Verdict {
    Verdict::hint(
        Kind::Unexpected,
        "`bowline image list` shows what is stored",
    )
}

fn no_record(_: &NoRecord) -> Verdict {
    Verdict::hint(
        Kind::Unsupported,
        "remove the image and pull it again, which keeps the record; or copy it from where it came \
         from with `bowline image copy`",
    )
}

fn reexport(error: &ReexportError) -> Verdict {
    match error {
        ReexportError::Config => Verdict::hint(
            Kind::Unsupported,
            "another program stored it: remove the image and pull it again",
        ),
        ReexportError::DiffId { .. } => Verdict::hint(
            Kind::Unexpected,
            "run `ostree fsck` on the repository; remove the image and pull it again",
        ),
    }
}

fn unpack(error: &UnpackError) -> Verdict {
    match error {
        UnpackError::NotEmpty(_) => {
            Verdict::hint(Kind::Usage, "name a directory that is not there yet")
        }
        UnpackError::Entry { .. } => Verdict::hint(Kind::Network, UNUSABLE),
        UnpackError::Mismatch(_) => Verdict::hint(Kind::Network, CORRUPT),
    }
}

fn in_use(_: &InUse) -> Verdict {
    Verdict::hint(
        Kind::Unexpected,
        "with --force it is removed all the same; the deployment stays bootable",
    )
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What may help somebody who may not do something; root is told something else.
pub(super) fn no_permission(root: bool) -> Verdict {
    let hint = match root {
        false => "run this as root",
        true => {
            "even root may not: the file may be immutable (`lsattr`), its file system or device \
             read-only, or SELinux or a container in the way"
        }
    };
    Verdict::hint(Kind::Unexpected, hint)
}

fn system(error: &io::Error) -> Option<Verdict> {
    of_kind(error.kind())
}

fn of_kind(kind: io::ErrorKind) -> Option<Verdict> {
    use io::ErrorKind as K;
    Some(match kind {
        K::StorageFull | K::QuotaExceeded => Verdict::hint(Kind::Space, FREE_SPACE),
        K::WouldBlock => Verdict::hint(
            Kind::Busy,
            "another program works on the repository: wait until it is done",
        ),
        K::PermissionDenied => no_permission(is_root()),
        K::ResourceBusy => Verdict::hint(
            Kind::Unexpected,
            "something else uses it: `fuser -vm PATH` shows programs, `lsblk` other devices",
        ),
        K::ReadOnlyFilesystem => {
            Verdict::hint(Kind::Unexpected, "mount the file system read-write first")
        }
        _ => return None,
    })
}
