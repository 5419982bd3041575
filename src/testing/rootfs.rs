//! A Debian root file system in a directory to an ostree commit and the chunks of its image. A
//! directory comes in; a commit, and a plan that puts each large package into a layer of its own
//! and the small ones into a fixed number of others, go out; or an image with ordinary layers in
//! place of these. Never changes the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};
use fn_error_context::context;

use super::encapsulate::Encapsulation;
use super::fixture::{CommitOptions, write_commit};
use super::oci::{ImageBuilder, Layer};
use crate::image::{Compression, Digest};

const NONE: Option<&ostree::gio::Cancellable> = None;

/// Where an image keeps the database of its packages.
const DPKG_INFO: &str = "usr/lib/sysimage/dpkg/info";

/// Bytes of files from which on a package has a layer of its own.
const LARGE: u64 = 3 << 20;

/// Layers that the small packages share. By name, so that a change of one moves no other.
const SHARED: u8 = 6;

/// Commits a directory as it is: owners and modes kept, extended attributes left out.
#[context("Committing {}", dir.display())]
pub fn commit_dir(repo: &ostree::Repo, dir: &Path, options: &CommitOptions) -> Result<String> {
    commit_without(repo, dir, BTreeSet::new(), options)
}

/// The same without some paths, which have no slash in front.
fn commit_without(
    repo: &ostree::Repo,
    dir: &Path,
    skip: BTreeSet<String>,
    options: &CommitOptions,
) -> Result<String> {
    let transaction = repo.auto_transaction(NONE)?;
    let tree = ostree::MutableTree::new();
    let flags = ostree::RepoCommitModifierFlags::SKIP_XATTRS;
    let filter = move |_: &ostree::Repo, path: &str, _: &ostree::gio::FileInfo| match skip
        .contains(path.trim_start_matches('/'))
    {
        true => ostree::RepoCommitFilterResult::Skip,
        false => ostree::RepoCommitFilterResult::Allow,
    };
    let modifier = ostree::RepoCommitModifier::new(flags, Some(Box::new(filter)));
    let handle = std::fs::File::open(dir)?;
    repo.write_dfd_to_mtree(handle.as_raw_fd(), ".", &tree, Some(&modifier), NONE)?;
    let commit = write_commit(repo, &tree, options)?;
    transaction.commit(NONE)?;
    Ok(commit)
}

/// An image whose commit holds no packages but the kernel's modules: the files of each chunk of
/// [`package_chunks`] but the first stand in an ordinary layer with their own names.
#[context("Making an image of {}", dir.display())]
pub fn ordinary(repo: &ostree::Repo, dir: &Path, options: &CommitOptions) -> Result<ImageBuilder> {
    let plan = package_chunks(dir)?;
    let mut layers = vec![BTreeSet::new(); plan.chunks.len()];
    for (path, index) in plan.chunk_of_path {
        if (plan.chunk_of)(&path).is_none() {
            layers[index].insert(path);
        }
    }
    let moved = layers.iter().flatten().cloned().collect();
    let commit = commit_without(repo, dir, moved, options)?;
    let mut image = Encapsulation::default().image(repo, &commit)?;
    for (name, paths) in plan.chunks.into_iter().zip(&layers) {
        if !paths.is_empty() {
            let layer = ordinary_layer(dir, paths)?;
            let history = name;
            image = image.layer(Layer { history, ..layer });
        }
    }
    Ok(image)
}

/// A layer with these paths of a directory, and the directories above them.
fn ordinary_layer(dir: &Path, paths: &BTreeSet<String>) -> Result<Layer> {
    Layer::write(Compression::Gzip, |out| {
        let mut tar = ::tar::Builder::new(out);
        tar.follow_symlinks(false);
        let mut written = BTreeSet::new();
        for path in paths {
            let mut parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
            parents.retain(|p| !p.as_os_str().is_empty() && written.insert(p.to_path_buf()));
            for parent in parents.into_iter().rev() {
                tar.append_path_with_name(dir.join(parent), parent)?;
            }
            tar.append_path_with_name(dir.join(path), path)?;
        }
        Ok(tar.finish()?)
    })
}

/// Plans the chunks of a root file system: kernel modules, initramfs, large packages, the rest.
#[context("Reading the packages of {}", dir.display())]
pub fn package_chunks(dir: &Path) -> Result<Encapsulation> {
    let mut chunks = BTreeMap::<String, Vec<String>>::new();
    for entry in dir.join(DPKG_INFO).read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "list") {
            let stem = path.file_stem().context("a list has no name")?;
            let package = stem.to_string_lossy();
            let package = package.split(':').next().unwrap_or_default();
            let files = files_of(dir, &std::fs::read_to_string(&path)?);
            let size: u64 = files.iter().map(|(_, size)| size).sum();
            let name = match size >= LARGE {
                true => package.to_string(),
                false => shared(package),
            };
            let files = files.into_iter().map(|(path, _)| path);
            chunks.entry(name).or_default().extend(files);
        }
    }
    let mut plan = Encapsulation {
        chunk_of: |path| path.starts_with("usr/lib/modules/").then_some(0),
        chunks: vec!["kernel image and initramfs".into()],
        ..Encapsulation::default()
    };
    for (name, paths) in chunks.into_iter().filter(|(_, paths)| !paths.is_empty()) {
        let index = plan.chunks.len();
        plan.chunks.push(name);
        let paths = paths.into_iter().map(|path| (path, index));
        plan.chunk_of_path.extend(paths);
    }
    Ok(plan)
}

fn shared(package: &str) -> String {
    let bin = Digest::of(package.as_bytes()).as_bytes()[0] % SHARED;
    format!("small packages {}", bin + 1)
}

/// The regular files of a package's list that are there, as paths of the merged /usr, with sizes.
fn files_of(dir: &Path, list: &str) -> Vec<(String, u64)> {
    let files = list.lines().filter_map(|line| {
        let path = merged(line.trim_start_matches('/'));
        let meta = dir.join(&path).symlink_metadata().ok()?;
        (!meta.is_dir()).then_some((path, meta.len()))
    });
    files.collect()
}

fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    match top {
        "bin" | "sbin" | "lib" | "lib64" | "etc" => format!("usr/{path}"),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_packages_have_their_own_layer_and_names_are_stable() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write("usr/lib/big.so", &vec![0; 4 << 20]);
        write("usr/bin/small", b"x");
        write(
            &format!("{DPKG_INFO}/big:amd64.list"),
            b"/.\n/lib\n/lib/big.so\n",
        );
        write(
            &format!("{DPKG_INFO}/small.list"),
            b"/usr/bin/small\n/gone\n",
        );
        let plan = package_chunks(dir.path()).unwrap();
        let names = ["kernel image and initramfs", "big", &shared("small")];
        assert_eq!(plan.chunks, names);
        assert_eq!(plan.chunk_of_path["usr/lib/big.so"], 1);
        assert_eq!(plan.chunk_of_path["usr/bin/small"], 2);
        assert_eq!(plan.chunk_of_path.len(), 2);

        let repo = ostree::Repo::new_for_path(dir.path().join("repo"));
        repo.create(ostree::RepoMode::BareUser, NONE).unwrap();
        let image = ordinary(&repo, dir.path(), &CommitOptions::default()).unwrap();
        let histories: Vec<_> = image.layers[1..].iter().map(|l| &l.history).collect();
        assert_eq!(histories, ["big", &shared("small")]);
        let tar = image.layers[1].recompressed(Compression::None).unwrap();
        let mut tar = ::tar::Archive::new(tar.blob.as_slice());
        let entries = tar
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().into_owned());
        let entries: Vec<_> = entries.map(|p| p.to_string_lossy().into_owned()).collect();
        assert_eq!(entries, ["usr", "usr/lib", "usr/lib/big.so"]);
    }
}
