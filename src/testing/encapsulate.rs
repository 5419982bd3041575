//! An ostree commit to an OCI image, written as ostree-ext and bootc write it: the commit layer
//! first, then a layer per chunk. A commit in a repository comes in, an [`ImageBuilder`] goes out,
//! the same bytes every time. Never chooses the chunks itself.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use fn_error_context::context;

use super::objects::{ObjectWriter, Objects, Step, hex, object};
use super::oci::{ImageBuilder, Layer};
use crate::image::{Compression, Digest};

pub use super::objects::XattrStyle;

/// Something to do wrong, for readers to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// The first file object of the last layer gets the name of another content.
    ObjectName,
    /// The root dirtree stands in the last layer once more (wrong in a chunk).
    MetadataInChunk,
    /// The first file object of the last layer stands there twice.
    DuplicateObject,
    /// The first file object of the last layer has no xattr carrier.
    NoXattrs,
    /// A dirtree object of more than 10 MiB.
    HugeMetadata,
    /// An xattr carrier of more than 1 MiB.
    HugeXattrs,
    /// The commit layer does not begin with the commit object.
    NoCommit,
}

/// How a commit becomes an image.
#[derive(Debug, Clone)]
pub struct Encapsulation {
    /// Names of the chunk layers, in order.
    pub chunks: Vec<String>,
    /// The chunk of a file object, an index into `chunks`, by its first path (no leading slash);
    /// `None` leaves it in the commit layer.
    pub chunk_of: fn(&str) -> Option<usize>,
    /// The same for single paths; asked before `chunk_of`.
    pub chunk_of_path: BTreeMap<String, usize>,
    /// Where extended attributes stand.
    pub xattrs: XattrStyle,
    /// How layers are wrapped.
    pub compression: Compression,
    /// What to do wrong.
    pub tamper: Option<Tamper>,
}

impl Default for Encapsulation {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            chunk_of: |_| None,
            chunk_of_path: BTreeMap::new(),
            xattrs: XattrStyle::default(),
            compression: Compression::Gzip,
            tamper: None,
        }
    }
}

impl Encapsulation {
    /// Two chunks, `/usr/bin` and `/usr/lib`; everything else stays in the commit layer.
    pub fn chunked() -> Self {
        Self {
            chunks: vec!["bin".into(), "lib".into()],
            chunk_of: |path| match path {
                p if p.starts_with("usr/bin/") => Some(0),
                p if p.starts_with("usr/lib/") => Some(1),
                _ => None,
            },
            ..Self::default()
        }
    }

    /// Writes the image of a commit. `config.created` is the commit's time.
    #[context("Encapsulating commit {commit}")]
    pub fn image(&self, repo: &ostree::Repo, commit: &str) -> Result<ImageBuilder> {
        let tree = CommitTree::load(repo, commit)?;
        let mut groups = vec![Objects::new(); self.chunks.len() + 1];
        for (checksum, paths) in &tree.files {
            let chunk = paths.first().and_then(|path| {
                let single = self.chunk_of_path.get(path).copied();
                single.or_else(|| (self.chunk_of)(path))
            });
            groups[chunk.map_or(0, |c| c + 1)].insert(checksum, paths);
        }
        let mut layers = vec![self.commit_layer(repo, commit, &tree, &groups[0])?];
        for (name, objects) in self.chunks.iter().zip(&groups[1..]) {
            layers.push(self.chunk_layer(repo, name, objects)?);
        }
        if let Some(tamper) = self.tamper {
            let last = self.tampered(repo, &tree, tamper, &groups)?;
            *layers.last_mut().context("there is no layer")? = last;
        }
        image(repo, commit, layers)
    }

    fn commit_layer(
        &self,
        repo: &ostree::Repo,
        commit: &str,
        tree: &CommitTree,
        rest: &Objects<'_>,
    ) -> Result<Layer> {
        let mut layer = Layer::write(self.compression, |out| {
            let mut writer = ObjectWriter::start(repo, out, self.xattrs, true)?;
            if self.tamper != Some(Tamper::NoCommit) {
                writer.metadata(ostree::ObjectType::Commit, commit)?;
            }
            for step in &tree.steps {
                writer.step(step)?;
            }
            if !tree.has_var_tmp {
                writer.dir("var/tmp", 0o1777)?;
            }
            writer.objects(rest)?;
            writer.finish()
        })?;
        let subject = repo.load_commit(commit)?.0.child_value(3);
        let subject = subject.str().filter(|s| !s.is_empty());
        let fallback = || format!("ostree export of commit {commit}");
        layer.history = subject.map_or_else(fallback, str::to_string);
        Ok(layer)
    }

    fn chunk_layer(&self, repo: &ostree::Repo, name: &str, objects: &Objects<'_>) -> Result<Layer> {
        let mut layer = Layer::write(self.compression, |out| {
            let mut writer = ObjectWriter::start(repo, out, self.xattrs, false)?;
            writer.objects(objects)?;
            writer.finish()
        })?;
        layer.history = name.into();
        let components = if objects.is_empty() { "" } else { name };
        let annotation = ("ostree.components".to_string(), components.to_string());
        layer.annotations.extend([annotation]);
        Ok(layer)
    }

    /// The last layer again, with one thing wrong.
    fn tampered(
        &self,
        repo: &ostree::Repo,
        tree: &CommitTree,
        tamper: Tamper,
        groups: &[Objects<'_>],
    ) -> Result<Layer> {
        let objects = groups.last().context("there is no layer")?;
        let first = *objects.keys().next().context("the last layer is empty")?;
        Layer::write(self.compression, |out| {
            let mut writer = ObjectWriter::start(repo, out, self.xattrs, groups.len() == 1)?;
            let wrong = Digest::of(b"another content").hex();
            match tamper {
                Tamper::ObjectName => drop(writer.object(first, &wrong, true)?),
                Tamper::MetadataInChunk => writer.step(&tree.steps[1])?,
                Tamper::DuplicateObject => drop(writer.object(first, first, true)?),
                Tamper::NoXattrs => {
                    writer.object(first, first, false)?;
                    return writer.finish();
                }
                Tamper::HugeMetadata => writer.file(&object(&wrong, "dirtree"), 11 << 20)?,
                Tamper::HugeXattrs => writer.file(&object(&wrong, "file-xattrs"), 2 << 20)?,
                Tamper::NoCommit => {}
            }
            writer.objects(objects)?;
            writer.finish()
        })
    }
}

/// Labels, annotations and layers put together.
fn image(repo: &ostree::Repo, commit: &str, layers: Vec<Layer>) -> Result<ImageBuilder> {
    let (variant, _) = repo.load_commit(commit)?;
    let metadata = ostree::glib::VariantDict::new(Some(&variant.child_value(0)));
    let text = |key: &str| metadata.lookup::<String>(key).ok().flatten();
    let last = layers.last().context("there is no layer")?.diff_id;
    let mut labels = BTreeMap::from([
        ("ostree.commit".to_string(), commit.to_string()),
        ("ostree.final-diffid".to_string(), last.to_string()),
    ]);
    if metadata.contains("ostree.bootable") {
        labels.insert("ostree.bootable".into(), "true".into());
        labels.insert("containers.bootc".into(), "1".into());
    }
    let copied = [
        ("ostree.linux", "ostree.linux"),
        ("version", "org.opencontainers.image.version"),
    ];
    for (key, label) in copied {
        labels.extend(text(key).map(|value| (label.to_string(), value)));
    }
    let time = i64::try_from(ostree::commit_get_timestamp(&variant))?;
    let created = chrono::DateTime::from_timestamp(time, 0).context("the commit has no time")?;
    Ok(ImageBuilder {
        layers,
        annotations: labels.clone(),
        labels,
        created: created.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        ..ImageBuilder::default()
    })
}

/// What a commit consists of.
#[derive(Debug, Default)]
struct CommitTree {
    steps: Vec<Step>,
    files: BTreeMap<String, Vec<String>>,
    seen: BTreeSet<String>,
    has_var_tmp: bool,
}

impl CommitTree {
    fn load(repo: &ostree::Repo, commit: &str) -> Result<Self> {
        let (variant, _) = repo.load_commit(commit)?;
        let checksum = |index| hex(&variant.child_value(index));
        let mut tree = Self::default();
        tree.metadata(ostree::ObjectType::DirMeta, checksum(7));
        tree.walk(repo, "", &checksum(6))?;
        Ok(tree)
    }

    fn walk(&mut self, repo: &ostree::Repo, path: &str, dirtree: &str) -> Result<()> {
        self.metadata(ostree::ObjectType::DirTree, dirtree.into());
        let variant = repo.load_variant(ostree::ObjectType::DirTree, dirtree)?;
        let join = |name: &str| match path {
            "" => name.to_string(),
            _ => format!("{path}/{name}"),
        };
        for file in variant.child_value(0).iter() {
            let name = file.child_value(0);
            let name = name.str().context("a name is not text")?;
            let paths = self.files.entry(hex(&file.child_value(1))).or_default();
            paths.push(join(name));
        }
        for dir in variant.child_value(1).iter() {
            let name = dir.child_value(0);
            let child = join(name.str().context("a name is not text")?);
            let dirmeta = hex(&dir.child_value(2));
            self.has_var_tmp |= child == "var/tmp";
            self.metadata(ostree::ObjectType::DirMeta, dirmeta.clone());
            // The skeleton has written this directory already.
            if child != "sysroot" {
                self.steps.push(Step::Dir(child.clone(), dirmeta));
            }
            self.walk(repo, &child, &hex(&dir.child_value(1)))?;
        }
        Ok(())
    }

    fn metadata(&mut self, kind: ostree::ObjectType, checksum: String) {
        if self.seen.insert(checksum.clone()) {
            self.steps.push(Step::Metadata(kind, checksum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::{Fixture, OS};

    #[test]
    fn the_same_commit_gives_the_same_image_with_every_chunk() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture.commit(OS).unwrap();
        let make = || Encapsulation::chunked().image(fixture.repo(), &commit);
        let image = make().unwrap();
        assert_eq!(image.layers.len(), 3);
        assert_eq!(image.build().digest(), make().unwrap().build().digest());
        assert_eq!(image.layers[1].annotations["ostree.components"], "bin");
        assert_eq!(image.labels["ostree.commit"], commit);
        assert_eq!(image.labels["org.opencontainers.image.version"], "1");
        assert_eq!(image.created, "2026-01-01T00:00:00Z");
        let last = image.layers[2].diff_id.to_string();
        assert_eq!(image.labels["ostree.final-diffid"], last);
    }

    #[test]
    fn every_object_stands_in_exactly_one_layer() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture.commit(OS).unwrap();
        let tree = CommitTree::load(fixture.repo(), &commit).unwrap();
        for xattrs in [XattrStyle::V0, XattrStyle::Linked, XattrStyle::Inline] {
            let plan = Encapsulation {
                xattrs,
                compression: Compression::None,
                ..Encapsulation::chunked()
            };
            let image = plan.image(fixture.repo(), &commit).unwrap();
            let names = image.layers.iter().flat_map(|l| names(&l.blob));
            let files = names.filter_map(|n| n.strip_suffix(".file").map(object_name));
            let mut files: Vec<String> = files.collect();
            files.sort();
            assert_eq!(files, tree.files.keys().cloned().collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_tampering_changes_the_image() {
        let fixture = Fixture::new().unwrap();
        let commit = fixture.commit(OS).unwrap();
        let digest = |tamper| {
            let plan = Encapsulation {
                tamper,
                ..Encapsulation::chunked()
            };
            plan.image(fixture.repo(), &commit)
                .unwrap()
                .build()
                .digest()
        };
        let digests = [
            None,
            Some(Tamper::ObjectName),
            Some(Tamper::MetadataInChunk),
            Some(Tamper::DuplicateObject),
            Some(Tamper::NoXattrs),
            Some(Tamper::HugeMetadata),
            Some(Tamper::HugeXattrs),
            Some(Tamper::NoCommit),
        ];
        let different: BTreeSet<Digest> = digests.map(digest).into_iter().collect();
        assert_eq!(different.len(), digests.len());
    }

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = ::tar::Archive::new(tar);
        let entries = archive.entries().unwrap();
        let paths = entries.map(|e| e.unwrap().path_bytes().into_owned());
        paths.map(|p| String::from_utf8(p).unwrap()).collect()
    }

    fn object_name(path: &str) -> String {
        let parts: Vec<&str> = path.rsplitn(3, '/').collect();
        format!("{}{}", parts[1], parts[0])
    }
}
