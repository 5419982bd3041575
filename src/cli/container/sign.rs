//! `container sign` and `container generate-sigstore-key`: what was signed, and the files with new keys, are
//! printed. Never prints a key, and never writes over a file.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::args_sign::{KeyArgs, SignArgs};
use super::{making, signers};
use crate::cli::{Context, Outcome, UsageError, reference};
use crate::sign::{self, NewPair};

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
    write_new(&private, &pair.private, 0o600)?;
    write_new(&public, &pair.public, 0o644)?;
    context.print(&format!(
        "Private key  {}\nPublic key   {}\n",
        private.display(),
        public.display()
    ))?;
    Ok(Outcome::Done)
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let what = || format!("Making the file {}", path.display());
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(what)?;
    file.write_all(text.as_bytes()).with_context(what)?;
    file.sync_all().with_context(what)
}
