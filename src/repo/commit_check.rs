//! Whether an ostree commit is signed as a remote's configuration asks: a commit and what is noted
//! about it come in; who signed goes out, or why that is not enough. GPG is verified by libostree, with
//! its own rules about keys (`gpg-verify`, `gpgkeypath`, `REMOTE.trustedkeys.gpg`), ed25519 here
//! (`sign-verify`, `verification-ed25519-key`); see ostree.repo-config(5). A remote that asks for
//! nothing vouches for nothing.

use std::collections::HashSet;
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result};
use fn_error_context::context;
use ostree::glib::{Bytes, Error, VariantDict};
use ostree::{RepoVerifyFlags, gio};

use super::object::ObjectKind;
use super::store::Repo;
use super::{commit, ed25519};
use crate::image::Digest;

/// A commit that a remote does not vouch for.
#[derive(Debug, thiserror::Error)]
#[error("the ostree commit {commit} in it is not signed as remote {remote:?} asks: {problem}")]
pub struct CommitUnsigned {
    /// The commit.
    pub commit: String,
    /// The remote.
    pub remote: String,
    /// What is wrong, in libostree's words where it found it.
    pub problem: String,
}

/// A good signature of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitSigner {
    /// Whether it is one of GPG; else it is one of libostree's own kinds.
    pub gpg: bool,
    /// The key, as far as libostree tells.
    pub key: String,
}

/// What a commit must be before anything of its image is written.
///
/// A thread of its own verifies: libostree makes a directory for GnuPG and starts it, which whoever
/// unpacks layers may not do.
#[derive(Debug)]
pub struct CommitCheck {
    asked: Sender<Question>,
    remote: String,
}

/// A commit, its bytes, what is noted about it, and where the answer goes.
type Question = (Digest, Vec<u8>, Option<Vec<u8>>, Sender<Answer>);
type Answer = Result<(), CommitUnsigned>;

impl CommitCheck {
    /// Verifies through a remote of this repository, with what this thread may do.
    ///
    /// An error where the repository cannot be opened again or no thread started.
    pub fn new(repo: &Repo, remote: &str) -> Result<Self> {
        let (asked, questions) = mpsc::channel::<Question>();
        let (repo, name) = (repo.reopen()?, remote.to_owned());
        let answer = move || {
            for (commit, data, noted, reply) in questions {
                let verdict = verify(&repo, &name, commit, &data, noted.as_deref());
                // Whoever no longer waits has ended the pull.
                let _ = reply.send(verdict.map(|_| ()));
            }
        };
        let thread = thread::Builder::new().name("signatures".into());
        thread
            .spawn(answer)
            .context("Starting the thread that verifies signatures")?;
        let remote = remote.to_owned();
        Ok(Self { asked, remote })
    }

    /// Verifies a commit that is on its way. `noted` is its detached metadata, where signatures are.
    pub(super) fn verify(&self, commit: Digest, data: &[u8], noted: Option<&[u8]>) -> Answer {
        let (reply, verdict) = mpsc::channel();
        let question = (commit, data.to_vec(), noted.map(<[u8]>::to_vec), reply);
        let asked = self.asked.send(question).ok();
        asked.and_then(|()| verdict.recv().ok()).unwrap_or_else(|| {
            Err(CommitUnsigned {
                commit: commit.hex(),
                remote: self.remote.clone(),
                problem: "the thread that verifies has died".into(),
            })
        })
    }
}

/// Verifies by everything that the remote asks for; the words of what verified go out, a line each.
fn verify(
    repo: &Repo,
    remote: &str,
    commit: Digest,
    data: &[u8],
    noted: Option<&[u8]>,
) -> Result<String, CommitUnsigned> {
    let unsigned = |problem: String| CommitUnsigned {
        commit: commit.hex(),
        remote: remote.into(),
        problem,
    };
    let found = Digest::of(data);
    if found != commit {
        return Err(unsigned(format!("its bytes are those of {}", found.hex())));
    }
    let Some(noted) = noted else {
        return Err(unsigned("it has no signature".into()));
    };
    let words = Demands::of(repo, remote).and_then(|asked| asked.verify(repo, remote, data, noted));
    words.map_err(unsigned)
}

/// What a remote asks for.
#[derive(Debug)]
struct Demands {
    gpg: bool,
    /// Ed25519, by these keys.
    ed25519: Option<ed25519::Settings>,
    /// Something else that libostree knows.
    other: bool,
}

impl Demands {
    fn of(repo: &Repo, remote: &str) -> Result<Self, String> {
        let words = |error: Error| error.message().to_owned();
        let gpg = repo.ostree().remote_get_gpg_verify(remote).map_err(words)?;
        let option = |key: &str| {
            let value = repo
                .ostree()
                .remote_option(remote, key, None)
                .map_err(words)?;
            let value = value.map(|value| value.to_string());
            Ok::<_, String>(value.filter(|value| !value.is_empty()))
        };
        let settings = ed25519::Settings {
            key: option("verification-ed25519-key")?,
            file: option("verification-ed25519-file")?,
        };
        let (ed25519, other) = match option("sign-verify")?.as_deref() {
            None | Some("false" | "0") => (None, false),
            Some("true" | "1") if settings.is_empty() => (None, true),
            Some("true" | "1") => (Some(settings), false),
            Some(list) if is_ed25519_only(list) => (Some(settings), false),
            Some(_) => (None, true),
        };
        match gpg || ed25519.is_some() || other {
            true => Ok(Self {
                gpg,
                ed25519,
                other,
            }),
            false => Err("the remote asks for no signature (gpg-verify and sign-verify)".into()),
        }
    }

    /// All of them must hold.
    fn verify(
        &self,
        repo: &Repo,
        remote: &str,
        data: &[u8],
        noted: &[u8],
    ) -> Result<String, String> {
        let mut lines = String::new();
        let flags = match (self.gpg, self.other) {
            (false, false) => None,
            (true, false) => Some(RepoVerifyFlags::NO_SIGNAPI),
            (false, true) => Some(RepoVerifyFlags::NO_GPG),
            (true, true) => Some(RepoVerifyFlags::NONE),
        };
        if let Some(flags) = flags {
            let (data, noted) = (Bytes::from(data), Bytes::from(noted));
            let verified = repo
                .ostree()
                .signature_verify_commit_data(remote, &data, &noted, flags);
            lines += &verified.map_err(|error| error.message().replace('\n', "; "))?;
        }
        if let Some(settings) = &self.ed25519 {
            let key = settings.verify(data, noted)?;
            lines += &format!("\ned25519: '{key}'");
        }
        Ok(lines)
    }
}

/// Whether a list of kinds of signatures, as GKeyFile has lists, names no other.
fn is_ed25519_only(list: &str) -> bool {
    let mut kinds = list
        .split(';')
        .map(str::trim)
        .filter(|kind| !kind.is_empty());
    kinds.all(|kind| kind == "ed25519")
}

impl Repo {
    /// Verifies a commit that is in the repository, its bytes included, and tells who signed it.
    /// An error of the type [`CommitUnsigned`] where the remote does not vouch for it.
    #[context("Verifying the signature of commit {commit}")]
    pub fn verify_commit(&self, commit: &str, remote: &str) -> Result<Vec<CommitSigner>> {
        let checksum = Digest::from_hex(commit)?;
        let data = self.object_bytes(checksum, ObjectKind::Commit)?;
        let data = data.context("it is not in the repository")?;
        let noted = self.object_bytes(checksum, ObjectKind::CommitMeta)?;
        Ok(self.signers(remote, checksum, &data, noted.as_deref())?)
    }

    /// Verifies a commit wherever it is, and tells who signed it.
    pub(super) fn signers(
        &self,
        remote: &str,
        commit: Digest,
        data: &[u8],
        noted: Option<&[u8]>,
    ) -> Result<Vec<CommitSigner>, CommitUnsigned> {
        let words = verify(self, remote, commit, data, noted)?;
        let mut signers = self.gpg_signers(remote, data, noted);
        signers.extend(others(&words));
        // Whoever signs again makes one signature more.
        let mut known = HashSet::new();
        signers.retain(|signer| known.insert(signer.clone()));
        Ok(signers)
    }

    /// Which kinds of signatures a remote asks for. The error says why it vouches for nothing.
    pub fn signatures_asked(&self, remote: &str) -> Result<Vec<&'static str>, String> {
        let asked = Demands::of(self, remote)?;
        let kinds = [
            (asked.gpg, "GPG"),
            (asked.ed25519.is_some(), "ed25519"),
            (asked.other, "what sign-verify names"),
        ];
        let kinds = kinds.into_iter().filter(|(is_asked, _)| *is_asked);
        Ok(kinds.map(|(_, kind)| kind).collect())
    }

    /// Whose GPG signatures of a verified commit are good; none where the remote asks for no such.
    fn gpg_signers(&self, remote: &str, data: &[u8], noted: Option<&[u8]>) -> Vec<CommitSigner> {
        if !self.ostree().remote_get_gpg_verify(remote).unwrap_or(false) {
            return Vec::new();
        }
        let noted = noted.and_then(commit::detached_dictionary);
        let found = VariantDict::new(noted.as_ref()).lookup::<Vec<Vec<u8>>>(META_GPG);
        let signatures = found.ok().flatten().unwrap_or_default().concat();
        let (data, signatures) = (Bytes::from(data), Bytes::from(&signatures));
        let result = self.ostree().gpg_verify_data(
            Some(remote),
            &data,
            &signatures,
            gio::File::NONE,
            gio::File::NONE,
            gio::Cancellable::NONE,
        );
        let Ok(result) = result else {
            return Vec::new();
        };
        let signatures = (0..result.count_all()).map(|index| result.all(index));
        let good = signatures.filter(|s| s.child_value(VALID).get() == Some(true));
        let key = good.filter_map(|s| {
            let primary = s.try_child_value(PRIMARY).and_then(|v| v.get::<String>());
            primary
                .filter(|text| !text.is_empty())
                .or_else(|| s.child_value(FINGERPRINT).get())
        });
        key.map(|key| CommitSigner { gpg: true, key }).collect()
    }
}

/// GPG signatures in detached metadata (`aay`).
const META_GPG: &str = "ostree.gpgsigs";
/// Places in what libostree tells about a GPG signature (ostree-gpg-verify-result.h,
/// `OstreeGpgSignatureAttr`).
const VALID: usize = 0;
const FINGERPRINT: usize = 5;
const PRIMARY: usize = 12;

/// What libostree's own kinds of signatures have left in its words: a line each, the key in quotes.
fn others(words: &str) -> impl Iterator<Item = CommitSigner> + '_ {
    let lines = words
        .lines()
        .filter(|line| !line.trim_start().starts_with("GPG:"));
    lines.filter_map(|line| {
        let (kind, rest) = line.split_once(": ")?;
        let key = rest.split('\'').nth(1).unwrap_or(rest);
        Some(CommitSigner {
            gpg: false,
            key: format!("{kind} {key}"),
        })
    })
}
