//! `container encapsulate`: an ostree commit to an image. Arguments come in, the digest of the image is
//! printed. Decides nothing about what is in which layer.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::args::{CompressionKind, EncapsulateArgs, LayerArgs, SaysArgs};
use crate::build::compress::LayerCompression;
use crate::build::image::{ImageWishes, format_time};
use crate::build::tar_export::FormatVersion;
use crate::build::{ContentMeta, EncapsulateOptions, encapsulate, encapsulate_flatpak};
use crate::cli::{Context, Outcome, UsageError, image, reference};
use crate::image::normalize_arch;
use crate::transport::SourceOptions;
use crate::transport::push::{Destination, PushOptions};

/// Makes the image.
pub fn run(args: &EncapsulateArgs, context: &Context) -> Result<Outcome> {
    let target = reference::parse(&args.image)?.imgref;
    let repo = image::open(&args.repo)?;
    let commit = repo.commit_facts(repo.commit_of(&args.rev)?)?;
    let meta = args.layers.contentmeta.as_deref().map(content_meta);
    let meta = meta.transpose()?;
    let mut wishes = wishes(&args.says, context)?;
    let mut plan = Vec::new();
    if let Some(meta) = meta {
        wishes.created = meta.created.or(wishes.created);
        let given = std::mem::take(&mut wishes.labels);
        wishes.labels = meta.labels.into_iter().chain(given).collect();
        plan = meta.layers;
    }
    let options = EncapsulateOptions {
        compression: compression(&args.layers)?,
        format: format_version(&args.layers),
        wishes,
        scratch: context.environment.large_temporary(),
        threads: available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let push = PushOptions {
        source: SourceOptions {
            authfile: args.authfile.clone(),
            retries: SourceOptions::default().retries,
            ..context.plain_source_options()
        },
        ..PushOptions::default()
    };
    let work = async {
        let destination = Arc::new(Destination::open(&target, &push).await?);
        match args.flatpak {
            true => encapsulate_flatpak(&repo, commit, &options, destination).await,
            false => encapsulate(&repo, commit, plan, &options, destination).await,
        }
    };
    let written = context.block_on(work);
    let written =
        written.with_context(|| format!("Making image {target} of commit {}", args.rev))?;
    context.print(&format!("{}\n", written.digest))?;
    Ok(Outcome::Done)
}

fn format_version(args: &LayerArgs) -> FormatVersion {
    match args.format_version {
        1 => FormatVersion::V1,
        _ => FormatVersion::V2,
    }
}

fn compression(args: &LayerArgs) -> Result<LayerCompression, UsageError> {
    let (default, most) = match args.compression {
        CompressionKind::Gzip => (5, 12),
        CompressionKind::Zstd | CompressionKind::ZstdChunked => (3, 22),
        CompressionKind::None => (0, 0),
    };
    let level = args.compression_level.unwrap_or(default);
    if args.compression_level.is_some() && !(1..=most).contains(&level) {
        let error = UsageError::new(format!("there is no level {level} of this compression"));
        return Err(error.hint("gzip has the levels 1 to 12, zstd 1 to 22, none has none"));
    }
    Ok(match args.compression {
        CompressionKind::Gzip => LayerCompression::Gzip(level),
        CompressionKind::Zstd => LayerCompression::Zstd(level),
        CompressionKind::ZstdChunked => LayerCompression::ZstdChunked(level),
        CompressionKind::None => LayerCompression::None,
    })
}

fn wishes(args: &SaysArgs, context: &Context) -> Result<ImageWishes> {
    let labels = args.label.iter().map(|label| match label.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(UsageError::new(format!("{label:?} is no label")).hint("write KEY=VALUE")),
    });
    let epoch = context.environment.source_date_epoch.as_deref();
    let created = epoch.map(|text| {
        let seconds = text
            .parse()
            .ok()
            .and_then(|seconds| format_time(seconds).ok());
        seconds.ok_or_else(|| {
            let error = UsageError::new(format!("SOURCE_DATE_EPOCH is {text:?}"));
            error.hint("it must be a number of seconds since 1970")
        })
    });
    let config = args.config.as_deref().map(container_config).transpose()?;
    Ok(ImageWishes {
        labels: labels.collect::<Result<_, _>>()?,
        copied: args.copymeta.clone(),
        copied_if_there: args.copymeta_opt.clone(),
        command: Some(args.cmd.clone()).filter(|words| !words.is_empty()),
        config: config.unwrap_or_default(),
        created: created.transpose()?,
        arch: args.arch.as_deref().map(normalize_arch),
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
