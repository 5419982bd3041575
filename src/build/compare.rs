//! What differs between two images: their layers by digest, and their packages. Manifests and lists of
//! packages come in, a plain value that serializes to JSON and YAML goes out. Pure. Field names are stable.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::image::{Descriptor, Manifest};
use crate::packages::Package;

/// The difference between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Layers that only the new image has: what a host with the old one downloads.
    pub added: LayerSum,
    /// Layers that only the old image has.
    pub removed: LayerSum,
    /// Layers that both have.
    pub shared: LayerSum,
    /// Where what is said of packages comes from: `databases`, or `components` (names only).
    pub source: &'static str,
    /// What became of the packages.
    pub packages: PackageChanges,
}

/// Layers, and what they are together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LayerSum {
    /// Bytes as they are transferred, of layers whose size the manifest tells.
    pub bytes: u64,
    /// The layers, base first.
    pub layers: Vec<ComparedLayer>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedLayer {
    /// Digest of the blob.
    pub digest: String,
    /// Its bytes, where the manifest tells.
    pub size: Option<u64>,
    /// Whose files are in it, where the manifest tells.
    pub components: Vec<String>,
}

/// What became of packages, ascending by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PackageChanges {
    /// Only in the new one.
    pub added: Vec<NamedPackage>,
    /// Only in the old one.
    pub removed: Vec<NamedPackage>,
    /// In both, in other versions.
    pub changed: Vec<ChangedPackage>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedPackage {
    /// Its name.
    pub name: String,
    /// Its version, where it is known; several are joined by a comma.
    pub version: Option<String>,
}

/// A package in two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedPackage {
    /// Its name.
    pub name: String,
    /// Its version before.
    pub old: String,
    /// Its version now.
    pub new: String,
}

impl Comparison {
    /// Compares the layers, and the names of components in the manifests' annotations.
    pub fn of_manifests(old: &Manifest, new: &Manifest) -> Self {
        let names = |manifest: &Manifest| {
            let layers = manifest.layers.iter().flat_map(Descriptor::components);
            layers.map(|name| (name, BTreeSet::new())).collect()
        };
        Self {
            source: "components",
            packages: changes(&names(old), &names(new)),
            ..Self::of_layers(old, new)
        }
    }

    /// Compares the layers, and the packages that were found in the images.
    pub fn of_images(
        (old, before): (&Manifest, &[Package]),
        (new, after): (&Manifest, &[Package]),
    ) -> Self {
        Self {
            packages: package_changes(before, after),
            ..Self::of_layers(old, new)
        }
    }

    fn of_layers(old: &Manifest, new: &Manifest) -> Self {
        Self {
            added: LayerSum::of(only_in(new, old)),
            removed: LayerSum::of(only_in(old, new)),
            shared: LayerSum::of(shared(old, new)),
            source: "databases",
            packages: PackageChanges::default(),
        }
    }
}

/// What became of packages between two lists.
pub fn package_changes(before: &[Package], after: &[Package]) -> PackageChanges {
    changes(&by_name(before), &by_name(after))
}

/// The layers of one image that another has not. One that stands there twice is transferred once.
pub fn only_in<'a>(one: &'a Manifest, other: &Manifest) -> Vec<&'a Descriptor> {
    let mut seen: BTreeSet<_> = other.layers.iter().map(|layer| layer.digest).collect();
    let layers = one.layers.iter();
    layers.filter(|layer| seen.insert(layer.digest)).collect()
}

fn shared<'a>(old: &Manifest, new: &'a Manifest) -> Vec<&'a Descriptor> {
    let mut left: BTreeSet<_> = old.layers.iter().map(|layer| layer.digest).collect();
    let layers = new.layers.iter();
    layers.filter(|layer| left.remove(&layer.digest)).collect()
}

impl LayerSum {
    fn of(layers: Vec<&Descriptor>) -> Self {
        let layer = |layer: &Descriptor| ComparedLayer {
            digest: layer.digest.to_string(),
            size: layer.size,
            components: layer.components(),
        };
        Self {
            bytes: layers
                .iter()
                .filter_map(|layer| layer.size)
                .fold(0, u64::saturating_add),
            layers: layers.into_iter().map(layer).collect(),
        }
    }
}

/// Versions by name: some packages may be installed in several.
type Versions = BTreeMap<String, BTreeSet<String>>;

fn by_name(packages: &[Package]) -> Versions {
    let mut names = Versions::new();
    for package in packages {
        let versions = names.entry(package.name.clone()).or_default();
        versions.insert(package.version.clone());
    }
    names
}

fn changes(before: &Versions, after: &Versions) -> PackageChanges {
    let text = |versions: &BTreeSet<String>| {
        versions
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let only = |one: &Versions, other: &Versions| {
        let names = one.iter().filter(|(name, _)| !other.contains_key(*name));
        let package = |(name, versions): (&String, &BTreeSet<String>)| NamedPackage {
            name: name.clone(),
            version: Some(text(versions)).filter(|version| !version.is_empty()),
        };
        names.map(package).collect()
    };
    let both = before
        .iter()
        .filter_map(|(name, old)| Some((name, old, after.get(name)?)));
    let changed = both.filter(|(_, old, new)| old != new);
    PackageChanges {
        added: only(after, before),
        removed: only(before, after),
        changed: changed
            .map(|(name, old, new)| ChangedPackage {
                name: name.clone(),
                old: text(old),
                new: text(new),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ANNOTATION_COMPONENTS, Digest, ManifestOrIndex};

    fn manifest(layers: &[(u8, i64, &str)]) -> Manifest {
        let layer = |(id, size, names): &(u8, i64, &str)| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": Digest::of(&[*id]).to_string(),
                "size": size,
                "annotations": {ANNOTATION_COMPONENTS: names},
            })
        };
        let text = serde_json::json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(b"c").to_string(),
                "size": 1,
            },
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        match ManifestOrIndex::parse(text.to_string().into_bytes(), None).unwrap() {
            ManifestOrIndex::Manifest(manifest) => manifest,
            ManifestOrIndex::Index(_) => unreachable!("it has layers"),
        }
    }

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            ..Package::default()
        }
    }

    #[test]
    fn layers_and_bytes_are_counted_once() {
        let old = manifest(&[(1, 10, "a"), (2, 20, "b"), (2, 20, "b"), (3, 30, "c,d")]);
        let new = manifest(&[(1, 10, "a"), (4, 40, "b,e"), (4, 40, "b,e"), (5, -1, "")]);
        let found = Comparison::of_manifests(&old, &new);
        let sum = |sum: &LayerSum| (sum.bytes, sum.layers.len());
        assert_eq!(sum(&found.added), (40, 2));
        assert_eq!(sum(&found.removed), (50, 2));
        assert_eq!(sum(&found.shared), (10, 1));
        assert_eq!(found.source, "components");
        let names = |list: &[NamedPackage]| list.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found.packages.added), ["e"]);
        assert_eq!(names(&found.packages.removed), ["c", "d"]);
        assert_eq!(found.packages.changed, []);
    }

    #[test]
    fn packages_are_added_removed_and_changed() {
        let before = [
            package("a", "1"),
            package("b", "1"),
            package("k", "6.1"),
            package("k", "6.2"),
        ];
        let after = [
            package("a", "1"),
            package("c", "2"),
            package("k", "6.2"),
            package("k", "6.3"),
        ];
        let image = manifest(&[(1, 10, "a")]);
        let found = Comparison::of_images((&image, &before), (&image, &after));
        assert_eq!(found.added, LayerSum::default());
        assert_eq!(found.source, "databases");
        let text = serde_json::to_value(&found.packages).unwrap();
        let wanted = serde_json::json!({
            "added": [{"name": "c", "version": "2"}],
            "removed": [{"name": "b", "version": "1"}],
            "changed": [{"name": "k", "old": "6.1, 6.2", "new": "6.2, 6.3"}],
        });
        assert_eq!(text, wanted);
    }
}
