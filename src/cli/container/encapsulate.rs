//! `container encapsulate`: an ostree commit to an image. Arguments come in, the digest of the image is
//! printed. Decides nothing about what is in which layer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::args::{EncapsulateArgs, SaysArgs};
use super::{making, signers};
use crate::build::image::{ImageWishes, format_time};
use crate::build::{ContentMeta, encapsulate, encapsulate_flatpak};
use crate::cli::{Context, Outcome, UsageError, image, reference};
use crate::sign;
use crate::transport::push::Destination;

/// Makes the image.
pub fn run(args: &EncapsulateArgs, context: &Context) -> Result<Outcome> {
    let target = reference::parse(&args.image)?.imgref;
    let signing = signers::signing(&args.signing, context)?;
    sign::check(&target, &signing)?;
    let repo = image::open(&args.repo)?;
    let commit = repo.commit_of(&args.rev)?;
    let gpg_home = args.signing.gpg_homedir.as_deref();
    signers::sign_commit(&repo, &commit, &args.commit_signing, gpg_home)?;
    let commit = repo.commit_facts(commit)?;
    let mut wishes = wishes(&args.says, context)?;
    let plan = match (&args.contentmeta, args.flatpak) {
        (_, true) => Vec::new(),
        (Some(path), _) => {
            let meta = content_meta(path)?;
            wishes.created = meta.created.or(wishes.created);
            let given = std::mem::take(&mut wishes.labels);
            wishes.labels = meta.labels.into_iter().chain(given).collect();
            meta.layers
        }
        (None, _) => {
            let authfile = args.authfile.clone();
            making::plan(
                &repo,
                &commit,
                &args.layers,
                args.says.arch.as_deref(),
                authfile,
                context,
            )?
        }
    };
    let options = making::options(&args.layers, wishes, context)?;
    let push = making::push_options(args.authfile.clone(), context);
    let work = async {
        let destination = Arc::new(Destination::open(&target, &push).await?);
        let written = match args.flatpak {
            true => encapsulate_flatpak(&repo, commit, &options, destination).await,
            false => encapsulate(&repo, commit, plan, &options, destination).await,
        }?;
        let signed = sign::sign_digest(&target, written.digest, &signing, &push.source).await;
        let unsigned = || format!("The image {} was written, but not signed", written.digest);
        for signed in signed.with_context(unsigned)? {
            tracing::info!("signed {} in {}", signed.digest, signed.place);
        }
        anyhow::Ok(written)
    };
    let written = context.block_on(work);
    let written =
        written.with_context(|| format!("Making image {target} of commit {}", args.rev))?;
    context.print(&format!("{}\n", written.digest))?;
    Ok(Outcome::Done)
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
    let text = read(path)?;
    serde_json::from_slice(&text).map_err(|error| {
        let message = format!("{} is no JSON object: {error}", path.display());
        UsageError::new(message).into()
    })
}

fn content_meta(path: &Path) -> Result<ContentMeta> {
    let text = read(path)?;
    let meta = ContentMeta::parse(&text);
    meta.with_context(|| format!("Reading the content map {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("Reading {}", path.display()))
}
