//! `oci unpack`: an image as a plain directory. Arguments come in; what was unpacked is printed. Touches
//! no repository.

pub mod args;

use std::path::{self, Path};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::args::{OciArgs, OciCommand, UnpackArgs};
use super::{Context, Outcome, UsageError, reference};
use crate::image::{Digest, OstreeImageReference};
use crate::progress::{Event, Phase, ProgressSink};
use crate::sys::fs as sysfs;
use crate::transport::{self, ImageSource, Resolved};
use crate::{pull, unpack};

/// Runs what was asked for.
pub fn run(args: &OciArgs, context: &Context) -> Result<Outcome> {
    match &args.command {
        OciCommand::Unpack(args) => unpack(args, context)?,
    }
    Ok(Outcome::Done)
}

fn unpack(args: &UnpackArgs, context: &Context) -> Result<()> {
    let origin = Origin::of(args)?;
    let digest = args
        .digest
        .as_deref()
        .map(str::parse::<Digest>)
        .transpose()?;
    let dir = path::absolute(&args.dir).context("Finding the directory")?;
    let progress = context.progress(&args.image)?;
    let work = async {
        progress.event(Event::Phase(Phase::Resolve));
        let source = origin.open(args, &dir, context, progress.clone()).await?;
        let found = transport::resolve(&*source, &context.arch(&args.fetch)).await?;
        pinned(&found, digest.as_ref())?;
        origin.accept(&*source, &found, context).await?;
        if args.fetch.arch.is_some() {
            let arch = context.arch(&args.fetch);
            pull::insist_on_arch(&*source, &found.manifest, &args.image, &arch).await?;
        }
        progress.event(Event::Phase(Phase::Fetch));
        let owners = rustix::process::geteuid().is_root();
        let done = unpack::run(&source, &found.manifest, &dir, owners, &progress).await?;
        anyhow::Ok((found.manifest.digest(), done))
    };
    let result = context.block_on(work);
    progress.event(Event::Finished);
    let result = result.with_context(|| format!("Unpacking {} to {}", args.image, dir.display()));
    let (digest, done) = result?;
    match done.devices {
        0 => {}
        1 => tracing::warn!("1 device of the image was left out"),
        devices => tracing::warn!("{devices} devices of the image were left out"),
    }
    context.print(&format!(
        "Image   {}\nDigest  {digest}\nUnpacked {} layers to {}\n",
        args.image,
        done.layers,
        dir.display()
    ))
}

/// Where the image is.
enum Origin {
    /// An archive on the web, and its digest.
    Web(Digest),
    /// Any other place.
    Image(OstreeImageReference),
}

impl Origin {
    fn of(args: &UnpackArgs) -> Result<Self> {
        match (is_url(&args.image), &args.sha256) {
            (true, Some(text)) => {
                let hex = text.strip_prefix("sha256:").unwrap_or(text);
                Ok(Self::Web(Digest::from_hex(hex)?))
            }
            (true, None) => {
                let error = UsageError::new("an archive behind a URL needs --sha256");
                let hint = "whoever offers the archive tells its sha256; it is checked before anything \
                            is unpacked";
                Err(error.hint(hint).into())
            }
            (false, Some(_)) => {
                let error = UsageError::new("--sha256 is for an archive behind a URL");
                let hint =
                    "the digest of an image goes with --digest, or into its name as @sha256:…";
                Err(error.hint(hint).into())
            }
            (false, None) => Ok(Self::Image(reference::parse(&args.image)?)),
        }
    }

    async fn open(
        &self,
        args: &UnpackArgs,
        dir: &Path,
        context: &Context,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Arc<dyn ImageSource>> {
        let options = context.source_options(&args.fetch, progress);
        Ok(match self {
            Self::Image(image) => transport::open(&image.imgref, &options).await?.into(),
            Self::Web(sha256) => {
                // On the file system that will take the image: it has room for it.
                let place = match dir.is_dir() {
                    true => dir,
                    false => dir.parent().unwrap_or(dir),
                };
                let file = sysfs::open_dir_path(place).and_then(sysfs::unnamed);
                let file = file.with_context(|| format!("Making a file in {}", place.display()))?;
                let opened = transport::open_url(&args.image, sha256, file, &options);
                opened.await?.into()
            }
        })
    }

    /// An archive that has the digest that was asked for needs no policy.
    async fn accept(
        &self,
        source: &dyn ImageSource,
        found: &Resolved,
        context: &Context,
    ) -> Result<()> {
        match self {
            Self::Image(image) => {
                let rules = context.trust_rules()?;
                pull::accept_copy(source, image, found.clone(), &rules).await
            }
            Self::Web(_) => Ok(()),
        }
    }
}

fn is_url(image: &str) -> bool {
    let scheme = image.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| {
        ["https", "http"]
            .iter()
            .any(|web| s.eq_ignore_ascii_case(web))
    })
}

fn pinned(found: &Resolved, wanted: Option<&Digest>) -> Result<(), transport::Error> {
    let digest = found.manifest.digest();
    match wanted {
        Some(wanted) if *wanted != digest && found.index != Some(*wanted) => {
            Err(transport::Error::Mismatch {
                place: "the image".into(),
                expected: wanted.to_string(),
                found: digest.to_string(),
            })
        }
        _ => Ok(()),
    }
}
