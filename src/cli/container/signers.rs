//! From options to who signs: names of files with keys and passphrases come in, a signer goes out. Never
//! prints a key.

use std::path::Path;

use anyhow::Result;

use super::args_sign::{CommitSigningArgs, SigningArgs};
use crate::cli::{Context, UsageError};
use crate::image::Digest;
use crate::repo::{CommitKey, Repo};
use crate::sign::{self, GpgKey, KeyError, PrivateKey, Signed, Signer, Signing};
use crate::sys::fs as sysfs;

/// The longest file with a key or a passphrase, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Who is to sign; nobody where nothing is said about it.
pub(super) fn signing(args: &SigningArgs, context: &Context) -> Result<Signing> {
    let mut signers = Vec::new();
    if let Some(file) = &args.sign_by_sigstore_private_key {
        let passphrase = passphrase(args.sign_passphrase_file.as_deref(), context)?;
        let key = PrivateKey::parse(&read(file)?, passphrase.as_bytes());
        let key = key.map_err(|error| unusable(file, &error))?;
        signers.push(Signer::Sigstore(key));
    }
    if let Some(key) = &args.sign_by {
        signers.push(Signer::Gpg(GpgKey {
            key: key.clone(),
            passphrase: args.sign_passphrase_file.clone(),
            home: args.gpg_homedir.clone(),
        }));
    }
    if signers.is_empty() && (args.sign_passphrase_file.is_some() || args.sign_identity.is_some()) {
        let error = UsageError::new("there is no key to sign the image with");
        let hint = "name one with --sign-by-sigstore-private-key or --sign-by";
        return Err(error.hint(hint).into());
    }
    let identity = args.sign_identity.as_deref().map(sign::identity);
    Ok(Signing {
        signers,
        identity: identity.transpose()?,
    })
}

/// Who signs a commit.
pub(super) struct CommitSigners<'a> {
    ed25519: Vec<CommitKey>,
    /// A key of GnuPG's, and where GnuPG has its keys.
    gpg: Option<(&'a str, Option<&'a Path>)>,
}

/// Who is to sign the commit; nobody where nothing is said about it.
pub(super) fn of_commit<'a>(
    args: &'a CommitSigningArgs,
    gpg_home: Option<&'a Path>,
) -> Result<CommitSigners<'a>, UsageError> {
    let keys = args.sign_commit_ed25519.as_deref().map(|file| {
        let keys = CommitKey::parse_all(&read(file)?);
        let bad = |error| UsageError::new(format!("{} cannot be used: {error}", file.display()));
        keys.map_err(bad)
    });
    let gpg = args.sign_commit_gpg.as_deref();
    Ok(CommitSigners {
        ed25519: keys.transpose()?.unwrap_or_default(),
        gpg: gpg.map(|key| (key, gpg_home)),
    })
}

impl CommitSigners<'_> {
    /// Signs. GnuPG first: it alone may have another opinion about its key.
    pub(super) fn sign(&self, repo: &Repo, commit: &Digest) -> Result<()> {
        if let Some((key, home)) = self.gpg {
            repo.sign_gpg(commit, key, home)?;
        }
        let mut keys = self.ed25519.iter();
        keys.try_for_each(|key| repo.sign_ed25519(commit, key))
    }
}

/// Lines that tell which signatures were made.
pub(super) fn told(signed: &[Signed]) -> String {
    let line = |signed: &Signed| format!("Signed  {}\n  in    {}\n", signed.digest, signed.place);
    signed.iter().map(line).collect()
}

/// The passphrase: the first line of a file, else what the environment says, else none.
pub(super) fn passphrase(file: Option<&Path>, context: &Context) -> Result<String, UsageError> {
    match (file, &context.environment.key_passphrase) {
        (Some(file), _) => Ok(read(file)?.lines().next().unwrap_or_default().to_owned()),
        (None, Some(passphrase)) => Ok(passphrase.0.clone()),
        (None, None) => Ok(String::new()),
    }
}

/// The text of a file with a key or a passphrase.
pub(super) fn read(file: &Path) -> Result<String, UsageError> {
    let bad = |why: &dyn std::fmt::Display| {
        UsageError::new(format!("{} cannot be used: {why}", file.display()))
    };
    let text = sysfs::read_limited(file, MAX_FILE).map_err(|error| bad(&error))?;
    let text = text.ok_or_else(|| bad(&"it is too large for a key or a passphrase"))?;
    String::from_utf8(text).map_err(|_| bad(&"stream did not contain valid UTF-8"))
}

fn unusable(file: &Path, error: &KeyError) -> UsageError {
    let text = UsageError::new(format!("{} cannot be used: {error}", file.display()));
    match error {
        KeyError::Passphrase => text.hint(
            "give a file whose first line is the passphrase with --sign-passphrase-file, or the \
             passphrase in COSIGN_PASSWORD",
        ),
        _ => text.hint("`bowline container generate-sigstore-key` makes a pair of keys"),
    }
}
