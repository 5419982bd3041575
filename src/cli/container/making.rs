//! What the commands that make images have in common: arguments about layers and labels come in, a plan and
//! options go out.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};

use super::args::{CompressionKind, LayerArgs};
use crate::build::chunk::{Limits, Previous};
use crate::build::compress::LayerCompression;
use crate::build::image::ImageWishes;
use crate::build::tar_export::FormatVersion;
use crate::build::{EncapsulateOptions, LayerPlan, plan_layers};
use crate::cli::{Context, UsageError, reference};
use crate::image::{host_arch, is_arch, normalize_arch};
use crate::repo::{CommitFacts, Repo};
use crate::transport::push::PushOptions;
use crate::transport::{self, SourceOptions};

/// Which object goes into which layer, by the packages in the commit.
pub(super) fn plan(
    repo: &Repo,
    commit: &CommitFacts,
    args: &LayerArgs,
    arch: Option<&str>,
    authfile: Option<PathBuf>,
    context: &Context,
) -> Result<Vec<LayerPlan>> {
    let limits = Limits {
        max_layers: args.max_layers,
    };
    if limits.max_layers == 1 {
        return Ok(Vec::new());
    }
    let previous = args.previous_build.as_deref();
    let previous = previous.map(|image| self::previous(image, arch, authfile, context));
    plan_layers(repo, commit, &limits, previous.transpose()?.as_ref())
}

/// The chunks of an earlier build. Fetches its manifest only.
fn previous(
    image: &str,
    arch: Option<&str>,
    authfile: Option<PathBuf>,
    context: &Context,
) -> Result<Previous> {
    let arch = arch.map_or_else(host_arch, normalize_arch);
    let image = reference::parse(image)?.imgref;
    let options = source_options(authfile, context);
    let work = async {
        let source = transport::open(&image, &options).await?;
        anyhow::Ok(transport::resolve(&*source, &arch).await?)
    };
    let resolved = context.block_on(work);
    let resolved = resolved.with_context(|| format!("Looking at the previous build {image}"))?;
    Ok(Previous::of(&resolved.manifest))
}

/// How to reach registries, for commands that make images.
pub(super) fn source_options(authfile: Option<PathBuf>, context: &Context) -> SourceOptions {
    SourceOptions {
        authfile,
        retries: SourceOptions::default().retries,
        ..context.plain_source_options()
    }
}

/// The same for where an image goes.
pub(super) fn push_options(authfile: Option<PathBuf>, context: &Context) -> PushOptions {
    PushOptions {
        source: source_options(authfile, context),
        ..PushOptions::default()
    }
}

/// How the image is written.
pub(super) fn options(
    args: &LayerArgs,
    wishes: ImageWishes,
    context: &Context,
) -> Result<EncapsulateOptions> {
    Ok(EncapsulateOptions {
        compression: compression(args)?,
        format: match args.format_version {
            1 => FormatVersion::V1,
            _ => FormatVersion::V2,
        },
        wishes,
        scratch: context.environment.large_temporary(),
        threads: available_parallelism().unwrap_or(NonZeroUsize::MIN),
    })
}

fn compression(args: &LayerArgs) -> Result<LayerCompression, UsageError> {
    let (default, most) = match args.compression {
        CompressionKind::Gzip => (LayerCompression::GZIP_LEVEL, 12),
        CompressionKind::Zstd | CompressionKind::ZstdChunked => (LayerCompression::ZSTD_LEVEL, 22),
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

/// Labels as typed.
pub(super) fn labels(typed: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    let label = |label: &String| match label.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(UsageError::new(format!("{label:?} is no label")).hint("write KEY=VALUE")),
    };
    typed.iter().map(label).collect()
}

/// The architecture as typed, in the words of images.
pub(super) fn arch(typed: Option<&str>) -> Result<Option<String>, UsageError> {
    match typed.map(normalize_arch) {
        Some(arch) if !is_arch(&arch) => {
            let error = UsageError::new(format!("{arch:?} is no architecture"));
            Err(error.hint("write it as images do, such as amd64, arm64 or arm/v7"))
        }
        arch => Ok(arch),
    }
}

/// The time that is to stand for now, in seconds since 1970, where the user says so.
pub(super) fn epoch(context: &Context) -> Result<Option<u64>, UsageError> {
    let text = context.environment.source_date_epoch.as_deref();
    let parse = |text: &str| {
        let seconds = text.parse().ok().filter(|seconds| *seconds < 1 << 40);
        seconds.ok_or_else(|| {
            let error = UsageError::new(format!("SOURCE_DATE_EPOCH is {text:?}"));
            error.hint("it must be a number of seconds since 1970")
        })
    };
    text.map(parse).transpose()
}
