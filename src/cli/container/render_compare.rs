//! What `container compare` prints for people: a comparison comes in, text goes out.

use crate::build::compare::{Comparison, LayerSum, NamedPackage, PackageChanges};
use crate::cli::text;

/// Names of components that stand in a line.
const MOST_NAMES: usize = 6;

/// The layers as sums, those to download one by one, and the packages.
pub(super) fn human(found: &Comparison) -> String {
    let mut text = String::new();
    for (name, sum) in [
        ("Shared", &found.shared),
        ("Removed", &found.removed),
        ("Added", &found.added),
    ] {
        let (layers, bytes) = (
            text::count(sum.layers.len(), "layer"),
            text::bytes(sum.bytes),
        );
        text += &format!("{:<9}{layers}, {bytes}\n", format!("{name}:"));
    }
    text += &layers(&found.added);
    text += "\n";
    text + &packages(&found.packages, found.source == "components")
}

fn layers(sum: &LayerSum) -> String {
    let row = |layer: &crate::build::compare::ComparedLayer| {
        let size = layer.size.map_or_else(|| "unknown".into(), text::bytes);
        let digest = layer.digest.trim_start_matches("sha256:");
        vec![text::shorten(digest), size, names(&layer.components)]
    };
    let rows: Vec<_> = sum.layers.iter().map(row).collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!(
            "\n{}",
            text::table(&["TO DOWNLOAD", "SIZE", "COMPONENTS"], &rows)
        ),
    }
}

fn names(components: &[String]) -> String {
    let few = components
        .iter()
        .take(MOST_NAMES)
        .map(|name| text::clean(name));
    let few = few.collect::<Vec<_>>().join(", ");
    match components.len().saturating_sub(MOST_NAMES) {
        0 => few,
        more => format!("{few} and {more} more"),
    }
}

/// One line for each package that is added, removed or changed.
pub(crate) fn packages(changes: &PackageChanges, names_only: bool) -> String {
    let mut text = String::new();
    let version = |package: &NamedPackage| match &package.version {
        Some(version) => format!(" {}", text::clean(version)),
        None => String::new(),
    };
    for package in &changes.removed {
        text += &format!("- {}{}\n", text::clean(&package.name), version(package));
    }
    for package in &changes.added {
        text += &format!("+ {}{}\n", text::clean(&package.name), version(package));
    }
    for package in &changes.changed {
        let (old, new) = (text::clean(&package.old), text::clean(&package.new));
        text += &format!("  {} {old} -> {new}\n", text::clean(&package.name));
    }
    let removed = text::count(changes.removed.len(), "package");
    let (added, changed) = (changes.added.len(), changes.changed.len());
    text + &match names_only {
        true => format!("{removed} removed, {added} added (by the names in the manifests)\n"),
        false => format!("{removed} removed, {added} added, {changed} changed\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::compare::{ChangedPackage, ComparedLayer};

    #[test]
    fn a_comparison_fits_a_screen() {
        let layer = |digest: &str, components: usize| ComparedLayer {
            digest: format!("sha256:{digest}"),
            size: Some(1 << 20),
            components: (0..components).map(|i| format!("p{i}")).collect(),
        };
        let sum = |layers: Vec<ComparedLayer>| LayerSum {
            bytes: (layers.len() as u64) << 20,
            layers,
        };
        let named = |name: &str| NamedPackage {
            name: name.into(),
            version: Some("1\u{1b}[31m".into()),
        };
        let found = Comparison {
            added: sum(vec![
                layer("aaaaaaaaaaaaaaaa", 8),
                layer("bbbbbbbbbbbbbbbb", 1),
            ]),
            removed: sum(vec![layer("c", 1)]),
            shared: sum(Vec::new()),
            source: "databases",
            packages: PackageChanges {
                added: vec![named("new")],
                removed: vec![named("old")],
                changed: vec![ChangedPackage {
                    name: "bash".into(),
                    old: "5.2".into(),
                    new: "5.3".into(),
                }],
            },
        };
        let wanted = "\
Shared:  0 layers, 0 B
Removed: 1 layer, 1.0 MB
Added:   2 layers, 2.1 MB

TO DOWNLOAD   SIZE    COMPONENTS
aaaaaaaaaaaa  1.0 MB  p0, p1, p2, p3, p4, p5 and 2 more
bbbbbbbbbbbb  1.0 MB  p0

- old 1 [31m
+ new 1 [31m
  bash 5.2 -> 5.3
1 package removed, 1 added, 1 changed
";
        similar_asserts::assert_eq!(human(&found), wanted);
    }
}
