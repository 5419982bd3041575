//! Exact texts and codes of errors, one table: what the user sees when something goes wrong.

use anyhow::{Context as _, anyhow};

use super::*;
use crate::cli::OutputClosed;
use crate::cli::image::{InUse, NotStored};
use crate::config::ConfigError;
use crate::deploy::DeployError;
use crate::image::{Digest, ImageReference, ManifestError, OstreeImageReference};
use crate::pull::{LayerFailure, Unsuitable};
use crate::repo::{CommitUnsigned, LayerError};
use crate::{transport, trust};

mod making;

/// Exit code and lines of an error.
pub(super) fn seen(error: Error) -> (u8, String) {
    seen_of(error, true)
}

/// The same of a command that keeps layers or not.
fn seen_of(error: Error, kept: bool) -> (u8, String) {
    let verdict = classify(&error);
    (verdict.kind.code(), render(&error, &verdict, kept))
}

fn pulling(error: impl Into<Error>) -> Error {
    error.into().context("Pulling docker://quay.io/a/b:1")
}

fn place() -> String {
    "quay.io/a/b:1".into()
}

#[test]
fn failures_of_a_registry() {
    use transport::Error as E;
    let table = [
        (
            E::NotFound { place: place() },
            3,
            "error: Pulling docker://quay.io/a/b:1
  caused by: quay.io/a/b:1 does not exist
hint: check the name and the tag
",
        ),
        (
            E::Denied {
                place: place(),
                detail: "401, no credentials".into(),
            },
            3,
            "error: Pulling docker://quay.io/a/b:1
  caused by: access to quay.io/a/b:1 is denied (401, no credentials)
hint: log in with `podman login`, or give a file with credentials with --authfile
",
        ),
        (
            E::Temporary {
                place: place(),
                detail: "503 Service Unavailable".into(),
                retry_after: None,
            },
            3,
            "error: Pulling docker://quay.io/a/b:1
  caused by: quay.io/a/b:1: 503 Service Unavailable
hint: this may pass: run the same command again; finished layers are kept
",
        ),
        (
            E::Refused {
                place: place(),
                detail: "418 I'm a teapot".into(),
            },
            3,
            "error: Pulling docker://quay.io/a/b:1
  caused by: quay.io/a/b:1: 418 I'm a teapot
hint: trying again does not help: check the name and what is behind it
",
        ),
        (
            E::Mismatch {
                place: place(),
                expected: "5 bytes".into(),
                found: "6 bytes".into(),
            },
            3,
            "error: Pulling docker://quay.io/a/b:1
  caused by: quay.io/a/b:1 is corrupt: expected 5 bytes, got 6 bytes
hint: the data was changed at the source or on the way; nothing of it was used: pull from another place, or push the image again
",
        ),
        (
            E::Config("/etc/ostree/auth.json: expected value at line 1 column 1".into()),
            2,
            "error: Pulling docker://quay.io/a/b:1
  caused by: /etc/ostree/auth.json: expected value at line 1 column 1
",
        ),
        (
            E::Unsupported("containers-storage: is not supported".into()),
            7,
            "error: Pulling docker://quay.io/a/b:1
  caused by: containers-storage: is not supported
",
        ),
    ];
    for (error, code, text) in table {
        assert_eq!(seen(pulling(error)), (code, text.into()));
    }
}

#[test]
fn an_image_for_another_machine() {
    let source = ManifestError::NoPlatform {
        wanted: "linux/riscv64".into(),
        available: "linux/amd64, linux/arm64".into(),
    };
    let digest = Digest::of(b"");
    let error = transport::Error::Manifest {
        place: place(),
        digest,
        source,
    };
    let text = format!(
        "error: Pulling docker://quay.io/a/b:1
  caused by: the manifest {digest} of quay.io/a/b:1 cannot be used: it has no image for \
linux/riscv64; it has linux/amd64, linux/arm64
hint: choose an image for this machine, or another architecture with --arch
"
    );
    assert_eq!(seen(pulling(error)), (7, text));
}

#[test]
fn references_that_are_wrong() {
    let short = OstreeImageReference::from_user("debian").unwrap_err();
    let forms = "hint: write an image as host/name:tag, host/name@sha256:… or TRANSPORT:NAME, \
                 such as oci:/path:tag\n";
    assert_eq!(
        seen(short.into()),
        (
            2,
            "error: \"debian\" is a short name: write the registry's host too, such as \
             quay.io/debian\n"
                .into()
        )
    );
    let empty = "oci:".parse::<ImageReference>().unwrap_err();
    assert_eq!(
        seen(empty.into()),
        (
            2,
            format!("error: image reference \"oci:\" has an empty name\n{forms}")
        )
    );
}

#[test]
fn failures_of_the_system() {
    let io = |kind: io::ErrorKind| Err::<(), _>(io::Error::from(kind)).context("Writing /x");
    let denied = classify::no_permission(rustix::process::geteuid().is_root());
    let denied = format!(
        "error: Writing /x\n  caused by: permission denied\nhint: {}\n",
        denied.hint.unwrap()
    );
    let table = [
        (
            io::ErrorKind::StorageFull,
            6,
            "error: Writing /x\n  caused by: no storage space\nhint: free some space (`bowline \
             image prune --undeployed` helps) and run the command again\n",
        ),
        (
            io::ErrorKind::QuotaExceeded,
            6,
            "error: Writing /x\n  caused by: quota exceeded\nhint: free some space (`bowline \
             image prune --undeployed` helps) and run the command again\n",
        ),
        (io::ErrorKind::PermissionDenied, 1, &denied),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            1,
            "error: Writing /x\n  caused by: read-only filesystem or storage medium\nhint: mount \
             the file system read-write first\n",
        ),
        (
            io::ErrorKind::ResourceBusy,
            1,
            "error: Writing /x\n  caused by: resource busy\nhint: something else uses it: `fuser -vm \
             PATH` shows programs, `lsblk` other devices\n",
        ),
        (
            io::ErrorKind::WouldBlock,
            5,
            "error: Writing /x\n  caused by: operation would block\nhint: another program works \
             on the repository: wait until it is done\n",
        ),
        (
            io::ErrorKind::NotFound,
            1,
            "error: Writing /x\n  caused by: entity not found\n",
        ),
    ];
    for (kind, code, text) in table {
        assert_eq!(seen(io(kind).unwrap_err()), (code, text.into()));
    }
}

#[test]
fn root_is_not_told_to_be_root() {
    let hint = |root| classify::no_permission(root).hint.unwrap();
    assert_eq!(hint(false), "run this as root");
    assert!(hint(true).starts_with("even root may not: "));
}

#[test]
fn a_closed_stdout_is_no_failure() {
    assert_eq!(seen(OutputClosed.into()), (0, String::new()));
}

#[test]
fn a_usage_error_carries_its_own_hint() {
    let error = UsageError::new("that cannot be").hint("do this");
    assert_eq!(
        seen(error.into()),
        (2, "error: that cannot be\nhint: do this\n".into())
    );
}

#[test]
fn causes_that_repeat_what_stands_above_are_left_out() {
    let place = "/srv/x".into();
    let source = io::Error::other("disk on fire");
    let error = transport::Error::Io { place, source };
    assert_eq!(
        seen(pulling(error)),
        (
            1,
            "error: Pulling docker://quay.io/a/b:1\n  caused by: reading /srv/x: disk on fire\n\
             hint: check that this path is what it is meant to be, and that it is whole\n"
                .into()
        )
    );
}

#[test]
fn a_foreign_message_stays_on_one_line() {
    let error = anyhow!("first\r\nerror: forged\u{1b}[2J");
    assert_eq!(seen(error), (1, "error: first error: forged [2J\n".into()));
}

fn image() -> ImageReference {
    "docker://quay.io/a/b:1".parse().unwrap()
}

#[test]
fn a_layer_that_is_not_what_it_promises() {
    let digest = Digest::of(b"");
    let failure = |source: LayerError| LayerFailure {
        number: 2,
        total: 3,
        digest,
        image: image().to_string(),
        source: source.into(),
    };
    let head = format!(
        "error: Pulling {0}\n  caused by: Fetching layer 2 of 3 ({digest}) of {0}\n",
        image()
    );
    let size = LayerError::Size {
        expected: 5,
        found: 4,
    };
    assert_eq!(
        seen(pulling(failure(size))),
        (
            3,
            format!(
                "{head}  caused by: it has 4 bytes, but the manifest promises 5\nhint: the \
                 data was changed at the source or on the way; nothing of it was used: pull from \
                 another place, or push the image again\n"
            )
        )
    );
    let full = LayerError::Store(io::ErrorKind::StorageFull.into());
    assert_eq!(
        seen(pulling(failure(full))),
        (
            6,
            format!(
                "{head}  caused by: writing its objects to the repository\n  caused by: no \
                 storage space\nhint: free some space (`bowline image prune --undeployed` helps) \
                 and run the command again\n"
            )
        )
    );
}

#[test]
fn images_that_this_host_cannot_use() {
    let image = image().to_string();
    let (found, wanted) = ("linux/arm64".into(), "linux/amd64".into());
    let other = Unsuitable::Architecture {
        image: image.clone(),
        found,
        wanted,
    };
    let not_bootable = Unsuitable::NotBootable { image };
    for error in [
        other.into(),
        not_bootable.into(),
        DeployError::NoKernel.into(),
    ] {
        let (code, text) = seen(error);
        assert_eq!(code, 7, "{text}");
        assert!(text.contains("\nhint: choose an image "), "{text}");
    }
}

#[test]
fn an_image_that_the_policy_refuses() {
    let denied = trust::Denied {
        image: image().to_string(),
        digest: Digest::of(b""),
        reason: trust::Reason::NoCommit { remote: "r".into() }.into(),
    };
    let (code, text) = seen(pulling(denied));
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("\nhint: follow the image under"), "{text}");
    let unsigned = || CommitUnsigned {
        commit: "ab".into(),
        remote: "r".into(),
        problem: "it has no signature".into(),
    };
    for error in [
        pulling(unsigned()),
        pulling(LayerError::Unsigned(unsigned())),
    ] {
        let (code, text) = seen(error);
        assert_eq!(code, 4, "{text}");
        assert!(text.contains("\nhint: check the remote's keys"), "{text}");
    }
}

#[test]
fn stored_images() {
    assert_eq!(seen(NotStored(image()).into()).0, 1);
    let (image, deployment) = (image(), "debian/01.0".into());
    assert_eq!(
        seen(InUse { image, deployment }.into()),
        (
            1,
            "error: docker://quay.io/a/b:1 is used by deployment debian/01.0\nhint: with --force \
             it is removed all the same; the deployment stays bootable\n"
                .into()
        )
    );
}

#[test]
fn settings_that_are_wrong() {
    let error = ConfigError::Text {
        file: "/etc/bowline/x.yaml".into(),
        line: 3,
        problem: "unknown field `y`".into(),
    };
    let text = "error: /etc/bowline/x.yaml:3: unknown field `y`\n";
    assert_eq!(seen(error.into()), (2, text.into()));
}
