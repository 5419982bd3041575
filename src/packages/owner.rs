//! What is known about the owner of files: a package, or what stands for one.

/// The change frequency of what is new in every build.
pub const ALWAYS_CHANGES: u32 = u32::MAX;

/// An owner by its place in the list of owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u32);

/// A package or another component that files belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its name, as users know it; without commas, which part names in an annotation.
    pub name: String,
    /// What it is built from: owners with the same group change together. A package that is
    /// built alone has its own name here.
    pub group: String,
    /// Its version, where there is one.
    pub version: Option<String>,
    /// How often it changes: releases in a year, [`ALWAYS_CHANGES`] for what each build changes.
    pub change_frequency: u32,
    /// Whether its files get a chunk of their own.
    pub apart: bool,
}

impl Owner {
    /// An owner of its own group, without a version. Commas in the name are replaced.
    pub fn new(name: &str, change_frequency: u32) -> Self {
        let name = name.replace(|c: char| c == ',' || c.is_control(), "_");
        Self {
            group: name.clone(),
            name,
            version: None,
            change_frequency,
            apart: false,
        }
    }
}
