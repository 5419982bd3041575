//! Makes the images of `hack/demo`, `hack/base-image` and `hack/bench`: from a root file system, or
//! tiny ones from fixture lines. Paths come in as arguments, an OCI layout directory goes out.

#![allow(
    clippy::print_stdout,
    reason = "it is a program, and a developer's helper"
)]

use std::path::Path;

use anyhow::{Result, bail};
use bowline::image::Compression;
use bowline::testing::fixture::EPOCH;
use bowline::testing::rootfs::{commit_dir, ordinary, package_chunks};
use bowline::testing::{CommitOptions, Encapsulation, Fixture, Image, ImageBuilder, OS};

const USAGE: &str = "\
usage: mkimage rootfs DIR VERSION REPO LAYOUT TAG [LINES]
     | mkimage zstd DIR VERSION REPO LAYOUT TAG
     | mkimage ordinary DIR VERSION REPO LAYOUT TAG
     | mkimage tiny VERSION LAYOUT TAG
     | mkimage many FILES LAYOUT TAG [FILES-PER-LAYER]";

/// Files in one layer of an image with many, unless it is said.
const FILES_PER_LAYER: usize = 50_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["rootfs", dir, version, repo, layout, tag] => {
            let image = rootfs(dir.as_ref(), version, repo.as_ref())?;
            write(&image, version, layout.as_ref(), tag)
        }
        ["rootfs", dir, version, repo, layout, tag, lines] => {
            let image = rootfs(dir.as_ref(), version, repo.as_ref())?;
            write(&image.derived(lines)?, version, layout.as_ref(), tag)
        }
        ["zstd", dir, version, repo, layout, tag] => {
            let mut image = rootfs(dir.as_ref(), version, repo.as_ref())?;
            for layer in &mut image.layers {
                *layer = layer.recompressed(Compression::Zstd)?;
            }
            write(&image, version, layout.as_ref(), tag)
        }
        ["ordinary", dir, version, repo, layout, tag] => {
            let image = ordinary(&repository(repo.as_ref())?, dir.as_ref(), &options(version))?;
            write(&image, version, layout.as_ref(), tag)
        }
        ["tiny", version, layout, tag] => tiny(version, layout.as_ref(), tag),
        ["many", files, layout, tag] => {
            let image = many(files.parse()?, FILES_PER_LAYER)?;
            write(&image, "1", layout.as_ref(), tag)
        }
        ["many", files, layout, tag, per_layer] => {
            let image = many(files.parse()?, per_layer.parse()?)?;
            write(&image, "1", layout.as_ref(), tag)
        }
        _ => bail!(USAGE),
    }
}

/// Commits the directory to a repository, and makes the commit an image.
fn rootfs(dir: &Path, version: &str, repo: &Path) -> Result<ImageBuilder> {
    let repository = repository(repo)?;
    let commit = commit_dir(&repository, dir, &options(version))?;
    package_chunks(dir)?.image(&repository, &commit)
}

/// Opens a repository, or makes it.
fn repository(path: &Path) -> Result<ostree::Repo> {
    let none = None::<&ostree::gio::Cancellable>;
    let repository = ostree::Repo::new_for_path(path);
    match path.exists() {
        true => repository.open(none)?,
        false => {
            std::fs::create_dir_all(path)?;
            repository.create(ostree::RepoMode::Bare, none)?;
        }
    }
    Ok(repository)
}

/// A system of a few files, and ordinary layers with that many small ones, all different.
fn many(files: usize, per_layer: usize) -> Result<ImageBuilder> {
    let fixture = Fixture::new()?;
    let commit = fixture.commit(OS)?;
    let mut image = Encapsulation::default().image(fixture.repo(), &commit)?;
    for start in (0..files).step_by(per_layer) {
        let numbers = start..files.min(start + per_layer);
        let lines = numbers.map(|n| {
            let (dir, size) = (n / 500, 100 + n * 37 % 4000);
            format!("data usr/lib/many/{dir}/{n} 0 0 644 {size} {n}\n")
        });
        image = image.derived(&lines.collect::<String>())?;
    }
    Ok(image)
}

/// Writes the image of a system of a few files. From version 2 on it has a layer on top that adds
/// one file and removes another.
fn tiny(version: &str, layout: &Path, tag: &str) -> Result<()> {
    let fixture = Fixture::new()?;
    let motd = |version| format!("motd 0 0 644 version {version}");
    let lines = OS.replace(&motd("1"), &motd(version));
    let commit = fixture.commit_with(&lines, &options(version))?;
    let mut image = Encapsulation::chunked().image(fixture.repo(), &commit)?;
    if version != "1" {
        let lines = format!("file etc/issue 0 0 644 new in {version}\nwhiteout usr/bin/hi");
        image = image.derived(&lines)?;
    }
    write(&image, version, layout, tag)
}

fn write(image: &ImageBuilder, version: &str, layout: &Path, tag: &str) -> Result<()> {
    let image = image.build();
    report(version, &image);
    image.write_layout(layout, tag)
}

fn options(version: &str) -> CommitOptions {
    CommitOptions {
        subject: format!("Version {version}"),
        timestamp: EPOCH + version.bytes().map(u64::from).sum::<u64>(),
        metadata: vec![("version".into(), version.into())],
        bootable: true,
    }
}

fn report(version: &str, image: &Image) {
    let bytes: usize = image.blobs.values().map(Vec::len).sum();
    let (layers, kib) = (image.blobs.len(), bytes.div_ceil(1024));
    println!(
        "version {version}: {layers} layers, {kib} KiB, {}",
        image.digest()
    );
}
