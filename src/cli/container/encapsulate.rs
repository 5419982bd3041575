//! `container encapsulate`: an ostree commit to an image. Arguments come in, the digest of the image is
//! printed. Decides nothing about what is in which layer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::args::{EncapsulateArgs, SaysArgs};
use super::making;
use super::signers::{self, CommitSigners};
use crate::build::image::{ImageWishes, format_time};
use crate::build::{self, ContentMeta, EncapsulateOptions, Encapsulated, LayerPlan};
use crate::cli::{Context, Outcome, UsageError, image, reference};
use crate::image::{Digest, ImageReference};
use crate::repo::{CommitFacts, Repo};
use crate::sign::{self, Signing};
use crate::sys::fs as sysfs;
use crate::transport::push::{Destination, PushOptions};

/// The longest file that says what an image is to be, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Makes the image.
pub fn run(args: &EncapsulateArgs, context: &Context) -> Result<Outcome> {
    // Nothing is written, and no commit signed, before all that was given has been read and checked.
    let mut asked = Asked::read(args, context)?;
    let repo = image::open(&args.repo)?;
    let commit = repo.commit_facts(repo.commit_of(&args.rev)?)?;
    let plan = asked.plan(args, &repo, &commit, context)?;
    asked.check(&commit)?;
    let written = context.block_on(asked.write(&repo, commit.checksum, plan));
    let words = || format!("Making image {} of commit {}", asked.target, args.rev);
    context.print(&format!("{}\n", written.with_context(words)?.digest))?;
    Ok(Outcome::Done)
}

/// What the arguments mean, with the files that they name.
struct Asked<'a> {
    target: ImageReference,
    flatpak: bool,
    /// The layers, where a file says them.
    layers: Option<Vec<LayerPlan>>,
    options: EncapsulateOptions,
    commit_signers: CommitSigners<'a>,
    signing: Signing,
    push: PushOptions,
}

impl<'a> Asked<'a> {
    fn read(args: &'a EncapsulateArgs, context: &Context) -> Result<Self> {
        let target = reference::parse(&args.image)?.imgref;
        let signing = signers::signing(&args.signing, context)?;
        sign::check(&target, &signing)?;
        let mut wishes = wishes(&args.says, context)?;
        let meta = args.contentmeta.as_deref().map(content_meta).transpose()?;
        let layers = meta.map(|meta| {
            wishes.created = meta.created.or(wishes.created.take());
            let given = std::mem::take(&mut wishes.labels);
            wishes.labels = meta.labels.into_iter().chain(given).collect();
            meta.layers
        });
        let gpg_home = args.signing.gpg_homedir.as_deref();
        Ok(Self {
            target,
            flatpak: args.flatpak,
            layers,
            options: making::options(&args.layers, wishes, context)?,
            commit_signers: signers::of_commit(&args.commit_signing, gpg_home)?,
            signing,
            push: making::push_options(args.authfile.clone(), context),
        })
    }

    /// Which object goes into which layer.
    fn plan(
        &mut self,
        args: &EncapsulateArgs,
        repo: &Repo,
        commit: &CommitFacts,
        context: &Context,
    ) -> Result<Vec<LayerPlan>> {
        match self.layers.take() {
            Some(layers) => Ok(layers),
            None if self.flatpak => Ok(Vec::new()),
            None => {
                let (arch, authfile) = (args.says.arch.as_deref(), args.authfile.clone());
                making::plan(repo, commit, &args.layers, arch, authfile, context)
            }
        }
    }

    fn check(&self, commit: &CommitFacts) -> Result<()> {
        match self.flatpak {
            true => build::check_flatpak(commit),
            false => build::check(commit, &self.options),
        }
    }

    /// Signs the commit, writes the image, signs the image.
    async fn write(
        &self,
        repo: &Repo,
        commit: Digest,
        plan: Vec<LayerPlan>,
    ) -> Result<Encapsulated> {
        let destination = Arc::new(Destination::open(&self.target, &self.push).await?);
        self.commit_signers.sign(repo, &commit)?;
        // The signatures, too, go into the image.
        let commit = repo.commit_facts(commit)?;
        let written = match self.flatpak {
            true => build::encapsulate_flatpak(repo, commit, &self.options, destination).await,
            false => build::encapsulate(repo, commit, plan, &self.options, destination).await,
        }?;
        let (digest, source) = (written.digest, &self.push.source);
        let signed = sign::sign_digest(&self.target, digest, &self.signing, source).await;
        let unsigned = || format!("The image {digest} was written, but not signed");
        for signed in signed.with_context(unsigned)? {
            tracing::info!("signed {} in {}", signed.digest, signed.place);
        }
        Ok(written)
    }
}

fn wishes(args: &SaysArgs, context: &Context) -> Result<ImageWishes> {
    let config = args.config.as_deref().map(container_config).transpose()?;
    Ok(ImageWishes {
        labels: making::labels(&args.label)?,
        copied: args.copymeta.clone(),
        copied_if_there: args.copymeta_opt.clone(),
        command: Some(args.cmd.clone()).filter(|words| !words.is_empty()),
        config: config.unwrap_or_default(),
        created: making::epoch(context)?.map(format_time).transpose()?,
        arch: making::arch(args.arch.as_deref())?,
    })
}

fn container_config(path: &Path) -> Result<BTreeMap<String, Value>> {
    let config = build::container_config(&read(path)?);
    config.with_context(|| format!("Reading the container configuration {}", path.display()))
}

fn content_meta(path: &Path) -> Result<ContentMeta> {
    let meta = ContentMeta::parse(&read(path)?);
    meta.with_context(|| format!("Reading the content map {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, UsageError> {
    let bad = |why: &dyn std::fmt::Display| {
        UsageError::new(format!("{} cannot be read: {why}", path.display()))
    };
    let text = sysfs::read_limited(path, MAX_FILE).map_err(|error| bad(&error))?;
    text.ok_or_else(|| bad(&"it is too large"))
}
