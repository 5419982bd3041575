//! A commit to what the plan of chunks is made of: its objects, whose they are, and what kind of file
//! they are. Never writes anything.

use std::collections::HashMap;

use anyhow::Result;
use fn_error_context::context;

use super::chunk::{self, Content, Limits, Part, Previous};
use super::commit_files::CommitFiles;
use super::encapsulate::LayerPlan;
use super::listing::{DirId, ListedObject, Listing};
use crate::image::Digest;
use crate::packages::{Component, Owner, OwnerId, Owners, XATTR_COMPONENT};
use crate::repo::gvariant::Xattrs;
use crate::repo::{CommitFacts, Repo};

/// The objects of a commit with their owners.
#[derive(Debug)]
pub struct Contents {
    /// The objects, ascending.
    pub objects: Vec<Content>,
    /// Their owners.
    pub owners: Vec<Owner>,
}

/// Plans the layers of a commit by the packages in it.
pub fn plan_layers(
    repo: &Repo,
    commit: &CommitFacts,
    limits: &Limits,
    previous: Option<&Previous>,
) -> Result<Vec<LayerPlan>> {
    let contents = Contents::of(repo, commit)?;
    let chunks = chunk::plan(&contents.objects, &contents.owners, limits, previous);
    let layers = chunks.into_iter().map(|chunk| LayerPlan {
        name: LayerPlan::name_of(&chunk.components),
        components: chunk.components,
        objects: chunk.objects.into_iter().map(Digest::from_bytes).collect(),
        annotations: chunk.annotations,
    });
    Ok(layers.collect())
}

impl Contents {
    /// Looks at all files of a commit.
    #[context("Finding out whose the files of commit {} are", commit.checksum)]
    pub fn of(repo: &Repo, commit: &CommitFacts) -> Result<Self> {
        let listing = Listing::of(repo, commit)?;
        let mut walk = Walk {
            repo,
            owners: Owners::read(&CommitFiles::new(repo, commit))?,
            components: HashMap::new(),
            listing: &listing,
        };
        let objects = listing.objects().map(|object| walk.content(&object));
        Ok(Self {
            objects: objects.collect::<Result<_>>()?,
            owners: walk.owners.list().to_vec(),
        })
    }
}

struct Walk<'a> {
    repo: &'a Repo,
    owners: Owners,
    /// What was found for directories, those above included.
    components: HashMap<DirId, Option<Component>>,
    listing: &'a Listing,
}

impl Walk<'_> {
    fn content(&mut self, object: &ListedObject<'_>) -> Result<Content> {
        let (meta, size) = self.repo.file_meta(object.checksum())?;
        let own = component(&meta.xattrs);
        let (mut owner, mut part) = (None, Part::Data);
        for (dir, path) in object.paths() {
            let named = own.clone().or_else(|| self.inherited(dir));
            let next = self.owners.of(&path, size, named.as_ref());
            owner = Some(match owner {
                Some(owner) => self.common(owner, next),
                None => next,
            });
            if !meta.is_symlink() && is_code(&path) {
                part = Part::Code;
            }
        }
        Ok(Content {
            checksum: *object.checksum().as_bytes(),
            // Every object of a listing has a path.
            owner: owner.unwrap_or_else(|| self.owners.shared()),
            part,
            size,
        })
    }

    fn inherited(&mut self, dir: Option<DirId>) -> Option<Component> {
        let dir = dir?;
        if let Some(known) = self.components.get(&dir) {
            return known.clone();
        }
        let own = component(&self.listing.dir_meta(dir).xattrs);
        let found = own.or_else(|| self.inherited(self.listing.parent(dir)));
        self.components.insert(dir, found.clone());
        found
    }

    /// The owner of an object that two have: it changes when either does, unless they change together.
    fn common(&mut self, one: OwnerId, other: OwnerId) -> OwnerId {
        let list = self.owners.list();
        let (a, b) = (&list[one.0 as usize], &list[other.0 as usize]);
        match (a.group == b.group, a.apart, b.apart) {
            (true, _, _) => one.min(other),
            // What has a chunk of its own anyway takes what it shares.
            (_, true, false) => one,
            (_, false, true) => other,
            _ => self.owners.shared(),
        }
    }
}

fn component(xattrs: &Xattrs) -> Option<Component> {
    let found = xattrs
        .iter()
        .find(|(name, _)| name == XATTR_COMPONENT.as_bytes())?;
    Component::parse(&found.1)
}

/// Whether a file is, by its path, made anew by each build of its package.
fn is_code(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let library = name.ends_with(".so") || name.contains(".so.") || name.ends_with(".a");
    let compiled = [".ko", ".ko.xz", ".ko.zst", ".ko.gz", ".node", ".efi"];
    let program = [
        "usr/bin/",
        "usr/sbin/",
        "usr/libexec/",
        "bin/",
        "sbin/",
        "boot/",
    ];
    let kernel = path.starts_with("usr/lib/modules/") || path.starts_with("usr/lib/ostree-boot/");
    // What tells the version, and the checksums of all files.
    let news = path.starts_with("usr/share/doc/") && name.starts_with("changelog");
    library
        || kernel
        || news
        || path.contains("/dpkg/info/")
        || compiled.iter().any(|end| name.ends_with(end))
        || program.iter().any(|dir| path.starts_with(dir))
        // Helpers of a package beside its libraries have no ending.
        || (path.starts_with("usr/lib/") && !name.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::Fixture;

    #[test]
    fn objects_have_the_owners_of_their_paths() {
        let fixture = Fixture::new().unwrap();
        let lines = "file /usr/lib/app/x/one 0 0 644 1\nfile /usr/lib/app/x/two 0 0 644 2\n\
                     file /usr/bin/tool 0 0 755 3\nfile /usr/share/doc/text 0 0 644 4\n\
                     file /usr/bin/same 0 0 644 5\nhardlink /usr/share/doc/same usr/bin/same";
        let commit = fixture.commit(lines).unwrap();
        let repo = Repo::open(fixture.path()).unwrap();
        let facts = repo
            .commit_facts(Digest::from_hex(&commit).unwrap())
            .unwrap();
        let contents = Contents::of(&repo, &facts).unwrap();
        let mut found: Vec<_> = contents
            .objects
            .iter()
            .map(|content| {
                let owner = &contents.owners[content.owner.0 as usize];
                (
                    owner.name.as_str(),
                    content.part == Part::Code,
                    content.size,
                )
            })
            .collect();
        found.sort();
        let wanted = [
            ("/usr/bin", true, 1),
            ("/usr/lib/app", true, 1),
            ("/usr/lib/app", true, 1),
            ("/usr/share/doc", false, 1),
            ("shared", true, 1),
        ];
        assert_eq!(found, wanted);
        let plan = plan_layers(&repo, &facts, &Limits { max_layers: 3 }, None).unwrap();
        let objects: usize = plan.iter().map(|layer| layer.objects.len()).sum();
        assert_eq!((plan.len() <= 2, objects), (true, 5));
    }
}
