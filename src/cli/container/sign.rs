//! `container sign` and `container generate-sigstore-key`: what was signed, and the files with new keys, are
//! printed. Never prints a key, and never writes over a file.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::args_sign::{KeyArgs, SignArgs};
use super::{making, signers};
use crate::cli::{Context, Outcome, UsageError, reference};
use crate::sign::{self, NewPair};
use crate::sys::fs as sysfs;

/// Signs an image that is there.
pub fn run(args: &SignArgs, context: &Context) -> Result<Outcome> {
    let image = reference::parse(&args.image)?.imgref;
    let signing = signers::signing(&args.signing, context)?;
    let options = making::source_options(args.authfile.clone(), context);
    let signed = context.block_on(sign::sign(&image, &signing, &options))?;
    context.print(&signers::told(&signed))?;
    Ok(Outcome::Done)
}

/// Makes a pair of keys for `container sign`.
pub fn generate(args: &KeyArgs, context: &Context) -> Result<Outcome> {
    let passphrase = signers::passphrase(args.passphrase_file.as_deref(), context)?;
    let pair = NewPair::generate(passphrase.as_bytes())?;
    let file = |suffix: &str| PathBuf::from(format!("{}.{suffix}", args.output_prefix));
    let (private, public) = (file("private"), file("pub"));
    if let Some(there) = [&private, &public]
        .into_iter()
        .find(|path| path.symlink_metadata().is_ok())
    {
        let error = UsageError::new(format!("{} is there already", there.display()));
        let hint = "move it away, or choose another --output-prefix: no key is written over";
        return Err(error.hint(hint).into());
    }
    for (path, text, mode) in [
        (&private, &pair.private, 0o600),
        (&public, &pair.public, 0o644),
    ] {
        let written = sysfs::write_new(path, text.as_bytes(), mode);
        written.with_context(|| format!("Making the file {}", path.display()))?;
    }
    context.print(&format!(
        "Private key  {}\nPublic key   {}\n",
        private.display(),
        public.display()
    ))?;
    Ok(Outcome::Done)
}
