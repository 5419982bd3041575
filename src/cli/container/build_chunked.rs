//! `container build-chunked`: a root file system, or the file system of an image, to a bootable image in
//! layers. Arguments come in, the digest of the image is printed. The repository that it takes is made for
//! the work beside, and removed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::args::BuildChunkedArgs;
use super::making;
use super::scratch::Scratch;
use crate::build::image::ImageWishes;
use crate::build::{CommitFiles, encapsulate};
use crate::cli::{Context, Outcome, UsageError, reference};
use crate::image::{ImageConfig, host_arch};
use crate::packages::{DirFiles, Files};
use crate::progress::Event;
use crate::pull::{self, Prepared, PullOptions};
use crate::repo::{CommitWords, ImageRecord, Repo};
use crate::transport::push::Destination;
use crate::transport::{self, ImageSource};

/// Where kernels are, one directory for each release.
const MODULES: &str = "usr/lib/modules";
/// The most of os-release that is read, in bytes.
const MAX_TEXT: u64 = 64 << 10;
/// Layers that are fetched at once.
const JOBS: usize = 3;
/// Labels that say what is about to be made anew.
const MADE_ANEW: [&str; 3] = ["containers.bootc", "ostree.", "rpmostree."];

/// Makes the image.
pub fn run(args: &BuildChunkedArgs, context: &Context) -> Result<Outcome> {
    let target = reference::parse(&args.output)?.imgref;
    let mut labels = making::labels(&args.label)?;
    let arch = making::arch(args.arch.as_deref())?;
    let scratch = Scratch::new(&context.environment.large_temporary())?;
    let repo = Repo::create_scratch(scratch.path())?;
    let made = match (&args.rootfs, &args.from) {
        (Some(root), _) => of_directory(&repo, root, args, context)?,
        (None, Some(image)) => of_image(&repo, image, args, context)?,
        // The parser sees to it that there is one.
        (None, None) => return Err(UsageError::new("there is nothing to make an image of").into()),
    };
    let commit = repo.commit_facts(repo.commit_of(&made.commit)?)?;
    let authfile = args.authfile.clone();
    let plan = making::plan(
        &repo,
        &commit,
        &args.layers,
        arch.as_deref(),
        authfile,
        context,
    )?;
    labels = made.labels.into_iter().chain(labels).collect();
    let wishes = ImageWishes {
        labels,
        config: made.config,
        arch,
        ..ImageWishes::default()
    };
    let options = making::options(&args.layers, wishes, context)?;
    let push = making::push_options(args.authfile.clone(), context);
    let work = async {
        let destination = Arc::new(Destination::open(&target, &push).await?);
        encapsulate(&repo, commit, plan, &options, destination).await
    };
    let written = context.block_on(work);
    let written = written.with_context(|| format!("Making image {target}"))?;
    context.print(&format!("{}\n", written.digest))?;
    Ok(Outcome::Done)
}

/// A commit, and what the image shall say beside it.
struct Made {
    commit: String,
    labels: BTreeMap<String, String>,
    config: BTreeMap<String, Value>,
}

fn of_directory(
    repo: &Repo,
    root: &Path,
    args: &BuildChunkedArgs,
    context: &Context,
) -> Result<Made> {
    if !root.is_dir() {
        let error = UsageError::new(format!("{} is no directory", root.display()));
        let hint = "name the root of the image's file system with --rootfs";
        return Err(error.hint(hint).into());
    }
    let files = DirFiles::open(root).with_context(|| format!("Opening {}", root.display()))?;
    let words = CommitWords {
        subject: "Made of a root file system".into(),
        timestamp: making::epoch(context)?.unwrap_or_else(now),
        version: version(&files)?,
        kernel: kernel(&files, args.allow_unbootable)?,
    };
    Ok(Made {
        commit: repo.commit_dir(root, &words)?,
        labels: BTreeMap::new(),
        config: BTreeMap::new(),
    })
}

fn of_image(repo: &Repo, image: &str, args: &BuildChunkedArgs, context: &Context) -> Result<Made> {
    let record = fetch(repo, image, args, context)?;
    let commit = repo.commit_facts(repo.commit_of(&record.commit)?)?;
    let files = CommitFiles::new(repo, &commit);
    let created = record.config.created.as_deref();
    let created = created.and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let created = created.and_then(|time| u64::try_from(time.timestamp()).ok());
    let version = record.config.version().map(str::to_string);
    let words = CommitWords {
        // The same wherever the image comes from.
        subject: format!("Made of image {}", record.manifest_digest),
        timestamp: making::epoch(context)?.or(created).unwrap_or_else(now),
        version: version.map_or_else(|| self::version(&files), |version| Ok(Some(version)))?,
        kernel: kernel(&files, args.allow_unbootable)?,
    };
    let anew = |key: &str| MADE_ANEW.iter().any(|made| key.starts_with(made));
    let labels = record.config.labels.iter();
    let kept = labels.filter(|(key, _)| !anew(key));
    Ok(Made {
        commit: repo.commit_tree_of(&record.commit, &words)?,
        labels: kept
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect(),
        config: properties(&record.config),
    })
}

/// What the config of an image says about running it, without the labels.
fn properties(config: &ImageConfig) -> BTreeMap<String, Value> {
    let json: Value = serde_json::from_slice(config.raw()).unwrap_or_default();
    let members = json["config"].as_object().into_iter().flatten();
    let members = members.filter(|(key, value)| *key != "Labels" && !value.is_null());
    members
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn fetch(
    repo: &Repo,
    image: &str,
    args: &BuildChunkedArgs,
    context: &Context,
) -> Result<ImageRecord> {
    let image = reference::parse(image)?;
    let progress = context.progress(&image.imgref.to_string())?;
    let mut options = making::source_options(args.authfile.clone(), context);
    options.progress = progress.clone();
    let arch = making::arch(args.arch.as_deref())?.unwrap_or_else(host_arch);
    let work = async {
        let source: Arc<dyn ImageSource> = transport::open(&image.imgref, &options).await?.into();
        let wishes = PullOptions {
            arch,
            require_bootable: false,
        };
        let rules = context.trust_rules()?;
        let accepted = pull::accept(&*source, &image, &wishes.arch, &rules).await?;
        match pull::prepare(repo, &*source, &accepted, &wishes).await? {
            Prepared::Unchanged(record) => Ok(*record),
            Prepared::Ready(plan) => pull::run(repo, source, *plan, JOBS, progress.clone()).await,
        }
    };
    let record = context.block_on(work);
    progress.event(Event::Finished);
    record.with_context(|| format!("Fetching {}", image.imgref))
}

/// The release of the only kernel.
fn kernel(files: &dyn Files, none_is_fine: bool) -> Result<Option<String>> {
    let mut releases = Vec::new();
    for release in files.names(MODULES).context("Looking for a kernel")? {
        if files
            .open(&format!("{MODULES}/{release}/vmlinuz"))?
            .is_some()
        {
            releases.push(release);
        }
    }
    match &releases[..] {
        [release] => Ok(Some(release.clone())),
        [] if none_is_fine => Ok(None),
        [] => {
            let error = UsageError::new(format!("there is no kernel in /{MODULES}"));
            let hint = "put it at usr/lib/modules/VERSION/vmlinuz with its modules and initramfs.img, \
                        or make an image that no host boots with --allow-unbootable";
            Err(error.hint(hint).into())
        }
        several => {
            let list = several.join(", ");
            let error = UsageError::new(format!("there are several kernels in /{MODULES}: {list}"));
            Err(error.hint("remove all but the one that is to boot").into())
        }
    }
}

/// The version of the operating system, as os-release(5) has it.
fn version(files: &dyn Files) -> Result<Option<String>> {
    let Some(file) = files.open("usr/lib/os-release")? else {
        return Ok(None);
    };
    let mut data = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut data)?;
    let text = String::from_utf8_lossy(&data);
    let value = |key: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let found = found.trim().trim_matches(['"', '\'']);
        (!found.is_empty()).then(|| found.to_string())
    };
    let keys = ["OSTREE_VERSION", "IMAGE_VERSION", "VERSION_ID"];
    Ok(keys.into_iter().find_map(value))
}

fn now() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp()).unwrap_or(0)
}
