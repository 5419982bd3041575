//! The images of the scenarios: names in, storage directories of a registry out. `base` is what the
//! top-level Containerfile builds; each other image is derived from its parent by buildah with the
//! Containerfile of `images/NAME/`, once, and again when anything that goes into it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::registry::Registry;
use crate::{place, tool};

/// The repository that all images are in, by tag.
pub const REPOSITORY: &str = "os";
/// The image that all others come from.
const BASE: &str = "base";

/// When every image was made, in seconds since 1970: the first of the year 2100. They are built in any
/// order and released in any order, and Bowline refuses an image that is older than what runs.
const CREATED: &str = "4102444800";

/// What an image is derived from: the word after `# parent:` in the first line of its Containerfile.
fn parent(name: &str) -> Result<String> {
    let path = directory(name).join("Containerfile");
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
    let first = text.lines().next().unwrap_or_default();
    let word = first.strip_prefix("# parent: ");
    let word = word.with_context(|| format!("{} names no parent", path.display()))?;
    Ok(word.trim().to_owned())
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("images")
        .join(name)
}

/// The OCI layout with the image of the top-level Containerfile, and its tag: what hack/image makes,
/// unless `BOOT_TESTS_IMAGE` names another.
fn layout() -> Result<String> {
    let given = std::env::var("BOOT_TESTS_IMAGE").ok();
    let layout =
        given.unwrap_or_else(|| format!("{}/target/image:latest", place::checkout().display()));
    let missing = || format!("The image {layout} is missing: run hack/image");
    fs::metadata(layout_path(&layout).join("index.json")).with_context(missing)?;
    Ok(layout)
}

fn layout_path(layout: &str) -> &Path {
    Path::new(layout.rsplit_once(':').map_or(layout, |(path, _)| path))
}

/// A hash of all that goes into an image.
pub fn key(name: &str) -> Result<Key> {
    if name == BASE {
        let layout = layout()?;
        return Key::new()
            .text(&layout)
            .file(&layout_path(&layout).join("index.json"));
    }
    let mut key = key(&parent(name)?)?.text(name).text(CREATED);
    for path in files(&directory(name))? {
        key = key.text(&path.display().to_string());
        key = match fs::symlink_metadata(&path)?.is_symlink() {
            true => key.text(&fs::read_link(&path)?.display().to_string()),
            false => key.file(&path)?,
        };
    }
    Ok(key)
}

/// The files and links below a directory, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => all.extend(files(&entry.path())?),
            false => all.push(entry.path()),
        }
    }
    all.sort();
    Ok(all)
}

/// The storage of a registry that has the image, and its ancestors.
pub fn storage(name: &str) -> Result<PathBuf> {
    let directory = cache::get(&format!("image-{name}"), &key(name)?, |directory| {
        let to = directory.join("storage");
        match name {
            BASE => copy_base(&to),
            _ => derive(name, &to),
        }
    })?;
    Ok(directory.join("storage"))
}

fn copy_base(to: &Path) -> Result<()> {
    let registry = Registry::start(&[])?;
    let from = format!("oci:{}", layout()?);
    let to_name = registry.image(&format!("{REPOSITORY}:{BASE}"));
    tool::run(
        "skopeo",
        &[
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            &from,
            &to_name,
        ],
    )?;
    registry.keep(to)
}

fn derive(name: &str, to: &Path) -> Result<()> {
    let parent = parent(name)?;
    let registry = Registry::start(&[storage(&parent)?])?;
    build(&directory(name), &registry, &parent, name)?;
    registry.keep(to)
}

/// Builds the Containerfile of a directory on top of an image in the registry, and pushes it there
/// under another tag.
pub fn build(context: &Path, registry: &Registry, parent: &str, name: &str) -> Result<()> {
    let local = format!("localhost/boot-test:{name}-{}", std::process::id());
    let base = format!("BASE={}", registry.image(&format!("{REPOSITORY}:{parent}")));
    let mut build = buildah("build")?;
    build.args([
        "--isolation",
        "chroot",
        "--tls-verify=false",
        "--pull",
        "--layers=false",
    ]);
    build
        .args(["--quiet", "--timestamp", CREATED])
        .args(["--build-arg", &base, "--tag", &local])
        .arg(context);
    tool::finish(build)?;
    let mut push = buildah("push")?;
    let to = registry.image(&format!("{REPOSITORY}:{name}"));
    push.args(["--quiet", "--tls-verify=false", &local, &to]);
    tool::finish(push)?;
    let mut remove = buildah("rmi")?;
    remove.arg(&local);
    tool::finish(remove)?;
    Ok(())
}

/// buildah with a storage of its own, so that it leaves nothing on the host.
pub(crate) fn buildah(command: &str) -> Result<Command> {
    let root = place::directory("containers")?;
    let mut buildah = Command::new("buildah");
    buildah
        .arg("--root")
        .arg(root.join("root"))
        .arg("--runroot")
        .arg(root.join("run"));
    buildah.arg(command);
    Ok(buildah)
}
