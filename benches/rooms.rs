//! Micro-benches of the hot rooms: a layer's tar to objects, inflating, the union of layers as the
//! merge commit, and the plan of a pull. Made-up images come in, Criterion's figures go out; run
//! with `cargo bench --features testing --bench rooms`. Ordinary users will do; never touches the
//! network.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Read;

use anyhow::{Context, Result};
use bowline::image::{
    Compression, Digest, ImageConfig, ImageReference, LayerKind, Manifest, ManifestOrIndex,
};
use bowline::pull::PullPlan;
use bowline::repo::layer::{import, path_rules};
use bowline::repo::merge::{DerivedCommit, LayerCommits, merge};
use bowline::repo::{Inventory, Repo, StoredLayer};
use bowline::testing::{Encapsulation, Fixture, Image, ImageBuilder, OS, tar};
use criterion::{BatchSize, Criterion, Throughput};

/// Files of a made-up layer.
const FILES: usize = 2000;

/// Bytes of each.
const SIZE: usize = 16 << 10;

/// Layers of a made-up image.
const LAYERS: usize = 65;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    layers_to_objects(&mut criterion)?;
    inflating(&mut criterion)?;
    union(&mut criterion)?;
    plan(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// Lines of a layer with `FILES` files below `usr/lib/NAME`, 100 in a directory.
fn lines(name: &str) -> String {
    let mut lines = String::new();
    for file in 0..FILES {
        let dir = file / 100;
        let seed = name.len() * FILES + file;
        let _ = writeln!(
            lines,
            "data usr/lib/{name}/{dir}/{file} 0 0 644 {SIZE} {seed}"
        );
    }
    lines
}

/// A tar stream to objects in staging, for both kinds of layers.
fn layers_to_objects(criterion: &mut Criterion) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let repo = repository(dir.path())?;
    let ordinary = tar::layer(&lines("app"))?;
    let fixture = Fixture::new()?;
    let chunk = chunk_layer(&fixture)?;
    let mut group = criterion.benchmark_group("tar to objects");
    group.throughput(Throughput::Bytes((FILES * SIZE) as u64));
    for (name, kind, tar) in [
        ("ordinary layer", LayerKind::Derived, &ordinary),
        ("chunk", LayerKind::Chunk, &chunk),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(
                // Of a second layer of the same pull nothing would be written.
                || repo.staging().expect("a staging directory"),
                |staging| {
                    let layer = import(&staging, (kind, Some(Digest::of(tar))), tar.as_slice())
                        .expect("an import");
                    (staging, layer)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    Ok(())
}

/// The tar stream of the last chunk of an image.
fn chunk_layer(fixture: &Fixture) -> Result<Vec<u8>> {
    let commit = fixture.commit(&format!("{OS}\n{}", lines("app")))?;
    let plan = Encapsulation {
        chunks: vec!["app".into()],
        chunk_of: |path| path.starts_with("usr/lib/app/").then_some(0),
        compression: Compression::None,
        ..Encapsulation::default()
    };
    let mut image = plan.image(fixture.repo(), &commit)?;
    Ok(image.layers.pop().context("there is no chunk")?.blob)
}

/// The decoders as `pull` uses them.
fn inflating(criterion: &mut Criterion) -> Result<()> {
    // Text that compresses about as well as programs do.
    let text: String = (0..400_000_u64)
        .map(|n| format!("{:x} ", n * 7919))
        .collect();
    let layer = bowline::testing::Layer::new(text.as_bytes(), Compression::Gzip)?;
    let gzip = &layer.blob;
    let zstd = &layer.recompressed(Compression::Zstd)?.blob;
    let mut group = criterion.benchmark_group("inflate");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("gzip", |b| {
        b.iter(|| drain(flate2::bufread::MultiGzDecoder::new(gzip.as_slice())));
    });
    group.bench_function("zstd", |b| {
        b.iter(|| drain(zstd::Decoder::with_buffer(zstd.as_slice()).expect("a decoder")));
    });
    group.finish();
    Ok(())
}

fn drain(mut reader: impl Read) -> u64 {
    let mut buffer = vec![0; 128 << 10];
    let mut sum = 0;
    loop {
        match reader.read(&mut buffer).expect("good bytes") {
            0 => return sum,
            count => sum += black_box(&buffer[..count]).len() as u64,
        }
    }
}

/// Three ordinary layers over a base, to a merge commit.
fn union(criterion: &mut Criterion) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let repo = repository(dir.path())?;
    let fixture = Fixture::new()?;
    let commit = fixture.commit(&format!("{OS}\n{}", lines("base")))?;
    let mut image = Encapsulation::default().image(fixture.repo(), &commit)?;
    for name in ["one", "second", "the-third"] {
        image = image.derived(&lines(name))?;
    }
    let layers = imported(&repo, &image)?;
    let (manifest, config) = parsed(&image.build())?;
    criterion.bench_function("union of 3 layers on a base", |b| {
        b.iter_batched(
            || {
                let staging = repo.staging().expect("a staging directory");
                let stage = staging.layer().expect("a place for the merge");
                (staging, stage)
            },
            |(staging, mut stage)| {
                let merged = merge(&repo, &mut stage, &layers, &manifest, &config);
                (staging, merged.expect("a merge"))
            },
            BatchSize::PerIteration,
        );
    });
    Ok(())
}

/// Imports the layers of an image whose first layer is its base; their commits go out.
fn imported(repo: &Repo, image: &ImageBuilder) -> Result<LayerCommits> {
    let staging = repo.staging()?;
    let mut commits = LayerCommits::default();
    for (index, layer) in image.layers.iter().enumerate() {
        let kind = match index {
            0 => LayerKind::Base,
            _ => LayerKind::Derived,
        };
        let tar = layer.recompressed(Compression::None)?.blob;
        let layer = import(&staging, (kind, Some(Digest::of(&tar))), tar.as_slice())?;
        let rules = path_rules(repo, commits.base.as_deref())?;
        let finished = layer.finish(rules)?;
        let commit = finished.commit.clone();
        staging.publish(vec![finished.stage], &[])?;
        match index {
            0 => commits.base = Some(commit),
            _ => commits.derived.push(DerivedCommit {
                digest: Digest::of(&tar),
                diff_id: Digest::of(&tar),
                commit,
            }),
        }
    }
    Ok(commits)
}

/// A plan where a third of the layers is new.
fn plan(criterion: &mut Criterion) -> Result<()> {
    let fixture = Fixture::new()?;
    let commit = fixture.commit(OS)?;
    let mut image = Encapsulation::chunked().image(fixture.repo(), &commit)?;
    for layer in 0..LAYERS {
        image = image.derived(&format!("file etc/{layer} 0 0 644 {layer}"))?;
    }
    let (manifest, config) = parsed(&image.build())?;
    let imgref: ImageReference = "docker://example.com/os:stable".parse()?;
    let stored = |layer: &bowline::testing::Layer| StoredLayer {
        commit: layer.digest.hex(),
        derived: true,
        partial: false,
        filtered: false,
    };
    let here = image.layers.iter().enumerate().filter(|(n, _)| n % 3 != 0);
    let blobs: HashMap<_, _> = here.map(|(_, l)| (l.digest, stored(l))).collect();
    let inventory = Inventory {
        blobs,
        ..Inventory::default()
    };
    criterion.bench_function("plan of 68 layers", |b| {
        b.iter(|| {
            let (manifest, config) = (manifest.clone(), config.clone());
            PullPlan::new(imgref.clone(), manifest, config, &inventory).expect("a plan")
        });
    });
    Ok(())
}

fn parsed(image: &Image) -> Result<(Manifest, ImageConfig)> {
    let manifest = ManifestOrIndex::parse(image.manifest.clone(), None)?;
    let ManifestOrIndex::Manifest(manifest) = manifest else {
        anyhow::bail!("it is an index");
    };
    Ok((manifest, ImageConfig::parse(image.config.clone())?))
}

fn repository(dir: &std::path::Path) -> Result<Repo> {
    let none = None::<&ostree::gio::Cancellable>;
    let repo = ostree::Repo::new_for_path(dir);
    repo.create(ostree::RepoMode::BareUser, none)?;
    Repo::open(dir)
}
