//! What an upgrade fetches: consecutive states of an operating system, as commits in a repository, come in; for
//! one layer, for the chunks of ostree-ext and for ours, the bytes that the next state has and the last has not
//! are printed. `hack/bench-chunking` makes the states and runs it.

#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bowline::build::chunk::{Limits, Previous};
use bowline::build::compress::LayerCompression;
use bowline::build::image::ImageWishes;
use bowline::build::tar_export::FormatVersion;
use bowline::build::{Contents, EncapsulateOptions, encapsulate, plan_layers};
use bowline::image::{ImageReference, Manifest, ManifestOrIndex};
use bowline::repo::Repo;
use bowline::transport::push::{Destination, PushOptions};
use clap::Parser;

/// Layers that images are made with.
const LAYERS: [u32; 2] = [64, 128];
/// As large as what gzip's level 6 makes.
const GZIP_LEVEL: i32 = 5;

/// Measures what upgrades fetch.
#[derive(Debug, Parser)]
struct Args {
    /// Repository with the states.
    #[arg(long)]
    repo: PathBuf,
    /// tests/peer's program peer-chunks.
    #[arg(long)]
    peer: PathBuf,
    /// Empty directory for images.
    #[arg(long)]
    work: PathBuf,
    /// Refs of the states, the oldest first.
    #[arg(required = true)]
    states: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    println!("| chunks | layers | upgrade | layers fetched | bytes fetched | of the image |");
    println!("|---|---|---|---|---|---|");
    let images = ours(&args, 1).await?;
    report("one layer", &images);
    for layers in LAYERS {
        report("ostree-ext", &peers(&args, layers)?);
        report("Bowline", &ours(&args, layers).await?);
    }
    Ok(())
}

/// Images of all states by Bowline, each with the one before as its previous build.
async fn ours(args: &Args, layers: u32) -> Result<Vec<Manifest>> {
    let repo = Repo::open(&args.repo)?;
    let limits = Limits { max_layers: layers };
    let mut images: Vec<Manifest> = Vec::new();
    let layout = args.work.join(format!("ours-{layers}"));
    for state in &args.states {
        let commit = repo.commit_facts(repo.commit_of(state)?)?;
        let previous = images.last().map(Previous::of);
        let plan = plan_layers(&repo, &commit, &limits, previous.as_ref())?;
        let options = EncapsulateOptions {
            compression: LayerCompression::Gzip(GZIP_LEVEL),
            format: FormatVersion::V1,
            wishes: ImageWishes::default(),
            scratch: args.work.clone(),
            threads: NonZeroUsize::MIN,
        };
        let image: ImageReference = format!("oci:{}:{state}", layout.display()).parse()?;
        let target = Destination::open(&image, &PushOptions::default()).await?;
        let made = encapsulate(&repo, commit, plan, &options, Arc::new(target)).await?;
        images.push(manifest(&layout, &made.digest.hex())?);
    }
    fs::remove_dir_all(layout)?;
    Ok(images)
}

/// Images of all states by ostree-ext, with the same packages and frequencies.
fn peers(args: &Args, layers: u32) -> Result<Vec<Manifest>> {
    let repo = Repo::open(&args.repo)?;
    let layout = args.work.join(format!("peer-{layers}"));
    let (packages, previous) = (
        args.work.join("packages.json"),
        args.work.join("previous.json"),
    );
    let mut images: Vec<Manifest> = Vec::new();
    for state in &args.states {
        fs::write(&packages, content_of(&repo, state)?)?;
        let before = match images.last() {
            None => "-".into(),
            Some(image) => {
                fs::write(&previous, image.raw())?;
                previous.display().to_string()
            }
        };
        // It counts chunks, and the layer of the commit comes to them.
        let (most, target) = (layers - 1, format!("{}:{state}", layout.display()));
        let status = Command::new(&args.peer)
            .args([&args.repo, Path::new(state), &packages])
            .args([most.to_string(), before, target])
            .status()?;
        ensure!(
            status.success(),
            "{} failed on {state}",
            args.peer.display()
        );
        images.push(manifest(&layout, &newest(&layout)?)?);
    }
    fs::remove_dir_all(layout)?;
    Ok(images)
}

/// Packages and objects in the form that the peer takes: the first package of an object has it.
fn content_of(repo: &Repo, state: &str) -> Result<String> {
    let commit = repo.commit_facts(repo.commit_of(state)?)?;
    let contents = Contents::of(repo, &commit)?;
    let package =
        |owner: &bowline::build::chunk::Owner| (owner.name.clone(), owner.change_frequency);
    let packages: Vec<_> = contents.owners.iter().map(package).collect();
    let objects = contents.objects.iter().map(|object| {
        let hex = object.checksum.map(|byte| format!("{byte:02x}")).concat();
        (hex, object.owner.0)
    });
    let objects: BTreeMap<String, u32> = objects.collect();
    let value = serde_json::json!({"packages": packages, "objects": objects});
    Ok(value.to_string())
}

/// The manifest that was written last: each has another name in the index, or all have none.
fn newest(layout: &Path) -> Result<String> {
    let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let last = index["manifests"].as_array().and_then(|list| list.last());
    let digest = last.and_then(|entry| entry["digest"].as_str());
    let digest = digest.and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(digest.context("an index without a manifest")?.to_string())
}

fn manifest(layout: &Path, digest: &str) -> Result<Manifest> {
    let bytes = fs::read(layout.join("blobs/sha256").join(digest))?;
    match ManifestOrIndex::parse(bytes, None)? {
        ManifestOrIndex::Manifest(manifest) => Ok(manifest),
        ManifestOrIndex::Index(_) => anyhow::bail!("{digest} is an index"),
    }
}

fn report(name: &str, images: &[Manifest]) {
    for (number, pair) in images.windows(2).enumerate() {
        let [old, new] = pair else { continue };
        let had: BTreeSet<_> = old.layers.iter().map(|layer| layer.digest).collect();
        let fetched = new
            .layers
            .iter()
            .filter(|layer| !had.contains(&layer.digest));
        let (count, bytes) = fetched.fold((0, 0), |(count, bytes), layer| {
            (count + 1, bytes + layer.size.unwrap_or(0))
        });
        let all: u64 = new.layers.iter().filter_map(|layer| layer.size).sum();
        let (layers, percent) = (new.layers.len(), 100 * bytes / all.max(1));
        let (from, to) = (number + 1, number + 2);
        println!("| {name} | {layers} | {from} to {to} | {count} | {bytes} | {percent}% |");
    }
}
