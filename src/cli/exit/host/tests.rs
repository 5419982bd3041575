//! Codes and hints of errors of installing, deploying and booting.

use anyhow::Error;

use crate::agent::NotBooted;
use crate::boot::kargs_d::KargsDError;
use crate::cli::exit::tests::seen;
use crate::config::ConfigError;
use crate::deploy::DeployError;
use crate::health::BadImage;
use crate::install::{InstallError, ScratchFull};
use crate::sysroot::SysrootError;
use crate::upgrade::KnownBad;

#[test]
fn targets_that_cannot_be_used() {
    for (error, code, says) in [
        (InstallError::NoScratch("/x".into()), 2, "--scratch"),
        (InstallError::WriteProtected("/x".into()), 1, "chattr -i"),
    ] {
        let (found, text) = seen(error.into());
        assert_eq!(found, code, "{text}");
        let hint = text.split("\nhint: ").nth(1).unwrap_or_default();
        assert!(hint.contains(says), "{text}");
    }
}

#[test]
fn files_of_an_image_are_for_its_builder_to_mend() {
    let problem = || "unknown field `x`".to_owned();
    let kargs = KargsDError {
        file: "/usr/lib/bootc/kargs.d/x.toml of commit 0123".into(),
        line: Some(3),
        problem: problem(),
    };
    let install = ConfigError::Text {
        file: "/usr/lib/bootc/install/x.toml of commit 0123".into(),
        line: 3,
        problem: problem(),
    };
    let install = InstallError::of_image_file(install.into());
    for (error, file) in [(kargs.into(), "kargs.d"), (install, "install")] {
        let (code, text) = seen(Error::context(error, "Deploying docker://quay.io/a/b:1"));
        let expected = format!(
            "error: Deploying docker://quay.io/a/b:1
  caused by: /usr/lib/bootc/{file}/x.toml of commit 0123:3: unknown field `x`
hint: whoever builds the image has to correct this file, and `bowline container lint` checks it \
there; until then choose another image or version, such as host/name@sha256:…
"
        );
        assert_eq!((code, text), (2, expected));
    }
}

#[test]
fn sysroots_that_cannot_be_used() {
    let (code, text) = seen(SysrootError::Busy("/s".into()).into());
    assert_eq!(
        (code, &*text),
        (
            5,
            "error: another operation holds /s/ostree/lock\nhint: wait until it is done; `fuser \
             -v` on that file names the process\n"
        )
    );
    for (error, code) in [
        (SysrootError::NoDirectory("/s".into()), 2),
        (SysrootError::NotImageBased, 7),
        (SysrootError::NoSysroot("/s".into()), 2),
        (SysrootError::Empty("/s".into()), 2),
        (SysrootError::NotEmpty("/s".into()), 2),
        (SysrootError::ReadOnly("/s".into()), 1),
        (SysrootError::NoPermission("/s".into()), 1),
        (SysrootError::NoDeployment("d".into()), 1),
    ] {
        let (found, text) = seen(error.into());
        assert_eq!(found, code, "{text}");
        assert!(text.contains("\nhint: "), "{text}");
    }
}

#[test]
fn deployments_that_cannot_be_made() {
    for (error, code) in [
        (
            DeployError::NoSpace {
                place: "boot",
                needed: 2,
                available: 1,
            },
            6,
        ),
        (DeployError::NothingDeployed(None), 2),
        (DeployError::NotAnImage("d".into()), 7),
        (DeployError::LocalChanges("d".into()), 7),
        (DeployError::NoRollback(None), 7),
        (DeployError::StaterootName("/".into()), 2),
        (
            DeployError::EtcConflict {
                conflicts: Vec::new(),
                root: "/".into(),
            },
            8,
        ),
    ] {
        let (found, text) = seen(error.into());
        assert_eq!(found, code, "{text}");
    }
}

#[test]
fn an_image_that_failed_here_before_and_a_boot_of_another_machine() {
    let bad = BadImage {
        reason: "check 10-db failed".into(),
        ..BadImage::default()
    };
    let (code, text) = seen(KnownBad(Box::new(bad)).into());
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains("check 10-db failed\nhint: choose another image, or"),
        "{text}"
    );
    let (code, text) = seen(NotBooted("/s".into()).into());
    assert_eq!(code, 7, "{text}");
    assert!(
        text.contains("from /s\nhint: run this without --sysroot"),
        "{text}"
    );
}

#[test]
fn a_scratch_directory_without_room_is_told_before_what_lacked_it() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let full = Error::from(full).context("Fetching docker://quay.io/a/b:1");
    let (code, text) = seen(ScratchFull::or("/x".as_ref(), full));
    assert_eq!(code, 6, "{text}");
    let start = "error: the scratch directory /x has too little room\n  caused by: Fetching ";
    assert!(text.starts_with(start), "{text}");
    let hint = text.split("\nhint: ").nth(1).unwrap_or_default();
    assert!(hint.contains("--scratch"), "{text}");
}
