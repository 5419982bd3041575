//! One layer from its tar stream to a commit in staging. The layer's kind decides who reads it;
//! a stage that can be published goes out. Whoever calls has checked nothing yet and checks the
//! digests afterwards, before anything is published.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufRead;

use anyhow::{Context, Result, bail};

pub use super::derived_tree::PathRules;
use super::derived_tree::{CommitTree, DerivedTree};
use super::flatpak::FlatpakCommit;
use super::import_ostree::OstreeLayerKind;
use super::layer_stage::LayerStage;
use super::object::ObjectKind;
use super::open_dirs::named;
use super::record::{self, Tape};
use super::staging::Staging;
use super::store::Repo;
use super::tar_stream::TarStream;
use super::tree::walk;
use super::union::{Part, Union};
use super::{LayerError, commit, import_derived, import_ostree};
use crate::image::{Digest, LayerKind};

/// A layer that has been read whole, not visible yet.
#[derive(Debug)]
pub struct ImportedLayer {
    stage: LayerStage,
    content: Content,
    record: Option<File>,
}

#[derive(Debug)]
enum Content {
    Commit(Digest),
    Tree(DerivedTree),
}

/// A layer that can be published.
#[derive(Debug)]
pub struct FinishedLayer {
    /// Its objects.
    pub stage: LayerStage,
    /// Its commit.
    pub commit: String,
}

/// Reads a layer off its (uncompressed) stream. Where `diff_id` is given, what it takes to put the stream
/// together again is kept under it.
pub fn import(
    staging: &Staging,
    (kind, diff_id): (LayerKind, Option<Digest>),
    input: impl BufRead,
) -> Result<ImportedLayer> {
    let mut stage = staging
        .layer()
        .context("Making a place for the layer's objects")?;
    let tape = diff_id.map(|diff_id| stage.begin_record(diff_id));
    let tape = tape.transpose().context("Beginning the layer's record")?;
    let tar = TarStream::new(input, tape);
    let (content, record) = match kind {
        LayerKind::Base => {
            let check = staging.check();
            let layer = import_ostree::import(tar, OstreeLayerKind::Base, &mut stage, check)?;
            import_ostree::require_once(layer.files)?;
            let commit = layer.commit.context("the layer has no commit")?;
            (Content::Commit(commit), layer.tape)
        }
        LayerKind::Chunk => {
            let layer = import_ostree::import(tar, OstreeLayerKind::Chunk, &mut stage, None)?;
            let commit = commit::write_chunk(&mut stage, layer.files)?;
            (Content::Commit(commit), layer.tape)
        }
        LayerKind::Derived => {
            let (tree, tape) = import_derived::import(tar, &mut stage)?;
            (Content::Tree(tree), tape)
        }
    };
    let record = record.map(Tape::finish).transpose();
    let record = record.context("Writing the layer's record")?;
    Ok(ImportedLayer {
        stage,
        content,
        record,
    })
}

impl ImportedLayer {
    /// Bytes that wait to be published.
    pub const fn bytes(&self) -> u64 {
        self.stage.bytes()
    }

    /// Whether the layer can be finished without knowing the base's path rules.
    pub const fn needs_rules(&self) -> bool {
        matches!(self.content, Content::Tree(_))
    }

    /// Gives a layer that holds the tree of a flatpak the commit that its image names.
    pub fn finish_flatpak(mut self, wanted: &FlatpakCommit) -> Result<FinishedLayer> {
        let Content::Tree(tree) = self.content else {
            bail!("the layer holds a commit, not the files of a flatpak");
        };
        let rules = PathRules {
            allow_nonusr: true,
            retain_var: true,
        };
        let tree = tree.into_commit_tree(&mut self.stage, rules)?;
        require(&tree, &mut self.stage)?;
        forget(&tree, &mut self.stage)?;
        let data = wanted.restore(tree.tree, tree.meta)?;
        let commit = self.stage.metadata(ObjectKind::Commit, &data)?;
        self.stage.no_other_detached_metadata(commit);
        Ok(FinishedLayer {
            stage: self.stage,
            commit: commit.hex(),
        })
    }

    /// Gives an ordinary layer its commit, under the path rules of the image's base.
    pub fn finish(mut self, rules: PathRules) -> Result<FinishedLayer> {
        let commit = match self.content {
            Content::Commit(commit) => commit,
            Content::Tree(tree) => {
                let tree = tree.into_commit_tree(&mut self.stage, rules)?;
                require(&tree, &mut self.stage)?;
                let gone = forget(&tree, &mut self.stage)?;
                if let Some(record) = self.record.take().filter(|_| !gone.is_empty()) {
                    let kept = record::add_dropped(&record, &gone, &|o| self.stage.content(o));
                    kept.context("Keeping what the image's base has no place for")?;
                }
                commit::write_derived(&mut self.stage, &tree)?
            }
        };
        Ok(FinishedLayer {
            stage: self.stage,
            commit: commit.hex(),
        })
    }
}

/// Sees to it that what hard links expect in the repository is there, as far as the tree has it.
fn require(tree: &CommitTree, stage: &mut LayerStage) -> Result<()> {
    let mut missing = BTreeSet::new();
    for object in &tree.expected {
        if !stage.has_file(*object)? {
            missing.insert((*object, ObjectKind::File));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    walk(
        tree.tree,
        &*stage,
        &mut |entry| match missing.contains(&named(entry)) {
            false => Ok(()),
            true => Err(LayerError::LinkTarget {
                path: entry.name().into(),
                target: format!("object {}", named(entry).0.hex()),
            }
            .into()),
        },
    )
}

/// Forgets objects that are not in the tree any more; they are not published. Gives them.
fn forget(tree: &CommitTree, stage: &mut LayerStage) -> Result<BTreeSet<(Digest, ObjectKind)>> {
    let mut gone = tree.doubtful.clone();
    if !gone.is_empty() {
        gone.remove(&(tree.tree, ObjectKind::DirTree));
        walk(tree.tree, &*stage, &mut |entry| {
            gone.remove(&named(entry));
            anyhow::Ok(())
        })?;
    }
    stage.forget(&gone);
    Ok(gone)
}

/// The path rules that an image's base asks for; without a base everything is kept.
pub fn path_rules(repo: &Repo, base: Option<&str>) -> Result<PathRules> {
    let retain_var = ostree::check_version(2024, 3);
    let Some(base) = base else {
        return Ok(PathRules {
            allow_nonusr: true,
            retain_var,
        });
    };
    let (tree, meta) = repo.commit_root(base)?;
    let root = Union::of(vec![Part {
        tree,
        meta,
        layered: false,
    }]);
    let settings = root.find(&["usr", "lib", "ostree"], repo)?;
    let text = match settings
        .map(|dir| dir.file("prepare-root.conf", repo))
        .transpose()?
    {
        Some(Some(file)) => repo.file_content(file, 1 << 20)?,
        _ => Vec::new(),
    };
    let allow_nonusr = root_is_writable(&String::from_utf8_lossy(&text));
    Ok(PathRules {
        allow_nonusr,
        retain_var,
    })
}

/// Whether prepare-root.conf gives the host a root that can have any top-level name: a transient
/// root or composefs (ostree-prepare-root(1)).
fn root_is_writable(text: &str) -> bool {
    let file = ostree::glib::KeyFile::new();
    if let Err(error) = file.load_from_data(text, ostree::glib::KeyFileFlags::NONE) {
        tracing::debug!("prepare-root.conf of the base: {error}");
        return false;
    }
    let value = |group, key| {
        file.string(group, key)
            .map(|v| v.to_lowercase())
            .unwrap_or_default()
    };
    let composefs = value("composefs", "enabled");
    let on = |value: &str| matches!(value, "yes" | "true" | "1" | "maybe" | "signed" | "verity");
    on(&composefs) || matches!(value("root", "transient").as_str(), "yes" | "true" | "1")
}

#[cfg(test)]
mod tests {
    use super::root_is_writable;

    #[test]
    fn prepare_root_decides_about_top_level_names() {
        assert!(root_is_writable("[composefs]\nenabled = yes\n"));
        assert!(root_is_writable("[composefs]\nenabled=Signed\n"));
        assert!(root_is_writable("[root]\ntransient=true\n"));
        assert!(!root_is_writable(
            "[composefs]\nenabled=no\n[root]\ntransient=false\n"
        ));
        assert!(!root_is_writable("[sysroot]\nreadonly=true\n"));
        assert!(!root_is_writable(""));
        assert!(!root_is_writable("garbage"));
    }
}
