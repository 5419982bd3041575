//! The same of commands that make images and archives, sign, or keep what they have fetched.

use clap::Parser as _;

use super::*;
use crate::cli::args::Cli;
use crate::pull::ArchiveFailure;
use crate::repo::CommitSignError;
use crate::sign::SignError;

#[test]
fn only_who_keeps_layers_says_so() {
    let temporary = || transport::Error::Temporary {
        place: place(),
        detail: "503".into(),
        retry_after: None,
    };
    let again = "hint: run the same command again";
    let passes = "hint: this may pass: run the same command again";
    for (kept, end) in [(true, "; finished layers are kept\n"), (false, "\n")] {
        for (error, code, text) in [
            (
                Interrupted::Int.into(),
                130,
                format!("error: interrupted\n{again}"),
            ),
            (
                Interrupted::Term.into(),
                143,
                format!("error: terminated\n{again}"),
            ),
            (
                temporary().into(),
                3,
                format!("error: {}: 503\n{passes}", place()),
            ),
        ] {
            assert_eq!(seen_of(error, kept), (code, format!("{text}{end}")));
        }
    }
    let (_, text) = seen_of(UsageError::new("x").hint("y").into(), true);
    assert_eq!(text, "error: x\nhint: y\n");
}

#[test]
fn which_commands_keep_layers() {
    for (words, kept) in [
        ("image pull a/b/c:1", true),
        ("upgrade", true),
        ("rebase a/b/c:1", true),
        ("container unencapsulate --repo r a/b/c:1", true),
        ("install to-disk --image a/b/c:1 /dev/x", true),
        ("container build-chunked --rootfs / --output oci:x:y", false),
        ("container encapsulate --repo r os oci:x:y", false),
        ("container inspect a/b/c:1", false),
        ("image copy oci:a:b oci:c:d", false),
        ("tar import --repo r", false),
    ] {
        let words = ["bowline"].into_iter().chain(words.split(' '));
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.command.keeps_layers(), kept, "{cli:?}");
    }
}

#[test]
fn an_archive_is_not_spoken_of_as_a_pull() {
    let failure = |source: Error| ArchiveFailure {
        name: "os.tar".into(),
        source: source.context("Reading the tar stream"),
    };
    let size = LayerError::Size {
        expected: 5,
        found: 4,
    };
    let (code, text) = seen(failure(size.into()).into());
    let words = "nothing of it was used: it was cut short, changed or compressed, or `bowline tar export` \
                 did not write it; copy or write it once more";
    let expected = format!(
        "error: Importing the commit in os.tar
  caused by: Reading the tar stream
  caused by: it has 4 bytes, but the manifest promises 5
hint: {words}\n"
    );
    assert_eq!((code, text), (3, expected));
    let full = LayerError::Store(io::ErrorKind::StorageFull.into());
    let (code, text) = seen(failure(full.into()).into());
    assert_eq!(code, 6, "{text}");
    assert!(text.contains("\nhint: free some space"), "{text}");
}

#[test]
fn signatures_that_cannot_be_made() {
    use SignError as E;
    let gpg = || ("K".to_string(), "no secret key".to_string());
    let ((key, said), (commit_key, commit_said)) = (gpg(), gpg());
    for (error, code, says) in [
        (Error::from(E::Transport("oci")), 7, "`bowline image copy`"),
        (E::Identity.into(), 2, "--sign-identity"),
        (E::Full("x.sig".into()).into(), 6, "delete that tag"),
        (E::Gpg { key, said }.into(), 2, "--sign-passphrase-file"),
        (
            CommitSignError::Gpg {
                key: commit_key,
                said: commit_said,
            }
            .into(),
            2,
            "its agent has to know the passphrase",
        ),
    ] {
        let (found, text) = seen(error.context("Signing docker://quay.io/a/b:1"));
        assert_eq!(found, code, "{text}");
        let hint = text.split("\nhint: ").nth(1).unwrap_or_default();
        assert!(hint.contains(says), "{text}");
    }
    let (code, text) = seen(CommitSignError::Form.into());
    assert_eq!((code, text.contains("hint: ")), (2, false), "{text}");
}
