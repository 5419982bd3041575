//! One file of containers-registries.conf(5): text comes in, checked entries go out. Unknown keys
//! are ignored, as the reference library does; what cannot be obeyed is refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::image::RegistryName;

/// Why a file cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Unusable {
    #[error("{0}")]
    Toml(String),
    #[error("it is in the old version 1 format ([registries.…]): write [[registry]] tables")]
    Version1,
    #[error("location {0:?} must not have a scheme such as https://")]
    Scheme(String),
    #[error("a [[registry]] has neither a location nor a prefix of the form *.example.com")]
    NoLocation,
    #[error("prefix {0:?} must have the form *.example.com")]
    Wildcard(String),
    #[error("pull-from-mirror is for mirrors, not for the registry {0:?}")]
    PullFromRegistry(String),
    #[error("a mirror of {0:?} has no location")]
    NoMirrorLocation(String),
    #[error("{registry:?} has mirror-by-digest-only and its mirror {mirror:?} pull-from-mirror")]
    MirrorConflict { registry: String, mirror: String },
    #[error("{location:?} is defined more than once, with different {setting}")]
    Conflict {
        location: String,
        setting: &'static str,
    },
    #[error("unqualified-search-registries: {0:?} is not just a host")]
    SearchRegistry(String),
    #[error("alias {0:?} must be a short name, its value a full name, both without tag or digest")]
    Alias(String),
}

/// When a mirror is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullFromMirror {
    /// For tags and digests.
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

/// A mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) when: PullFromMirror,
}

/// A `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    /// What it applies to, never empty.
    pub(super) prefix: String,
    /// What the prefix is replaced by; empty: nothing.
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirror_by_digest_only: bool,
    pub(super) mirrors: Vec<Mirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireFile {
    #[serde(default)]
    registry: Vec<WireRegistry>,
    registries: Option<toml::Value>,
    #[serde(default)]
    unqualified_search_registries: Vec<String>,
    #[serde(default, rename = "short-name-mode")]
    _short_name_mode: ShortNameMode,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    credential_helpers: Option<Vec<String>>,
}

/// Read only to refuse a word that is none.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShortNameMode {
    #[default]
    #[serde(alias = "")]
    Permissive,
    Enforcing,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct WireRegistry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    pull_from_mirror: String,
    mirror: Vec<WireMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFromMirror>,
}

/// What a file says that has a meaning for Bowline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) registries: Vec<Registry>,
    /// Who has credentials, in the order of asking; an empty list is the credentials files alone.
    pub(super) credential_helpers: Option<Vec<String>>,
}

/// Parses a file and checks it whole.
pub(super) fn parse(text: &[u8]) -> Result<Parsed, Unusable> {
    let text = std::str::from_utf8(text);
    let text = text.map_err(|why| Unusable::Toml(why.to_string()))?;
    let wire: WireFile = toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        let line = error
            .span()
            .map(|span| text[..span.start].lines().count().max(1));
        Unusable::Toml(match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        })
    })?;
    if wire.registries.is_some() {
        return Err(Unusable::Version1);
    }
    for host in &wire.unqualified_search_registries {
        if location(host)?.contains('/') {
            return Err(Unusable::SearchRegistry(host.clone()));
        }
    }
    check_aliases(&wire.aliases)?;
    let registries = wire.registry.into_iter().map(registry);
    let registries = registries.collect::<Result<Vec<_>, _>>()?;
    check_conflicts(&registries)?;
    Ok(Parsed {
        registries,
        credential_helpers: wire.credential_helpers,
    })
}

fn registry(wire: WireRegistry) -> Result<Registry, Unusable> {
    let place = location(&wire.location)?;
    let prefix = match location(&wire.prefix)? {
        prefix if prefix.is_empty() => place.clone(),
        prefix => prefix,
    };
    let wildcard = prefix.starts_with("*.");
    if wildcard && prefix.contains(['/', '@', ':']) {
        return Err(Unusable::Wildcard(prefix));
    }
    if place.is_empty() && !wildcard {
        return Err(Unusable::NoLocation);
    }
    if !wire.pull_from_mirror.is_empty() {
        return Err(Unusable::PullFromRegistry(prefix));
    }
    let by_digest = wire.mirror_by_digest_only;
    let mirrors = wire.mirror.into_iter();
    let mirrors = mirrors.map(|m| mirror(m, &prefix, by_digest));
    Ok(Registry {
        mirrors: mirrors.collect::<Result<_, _>>()?,
        prefix,
        location: place,
        insecure: wire.insecure,
        blocked: wire.blocked,
        mirror_by_digest_only: by_digest,
    })
}

fn mirror(wire: WireMirror, registry: &str, by_digest: bool) -> Result<Mirror, Unusable> {
    let place = location(&wire.location)?;
    if place.is_empty() {
        return Err(Unusable::NoMirrorLocation(registry.into()));
    }
    if by_digest && wire.pull_from_mirror.is_some() {
        return Err(Unusable::MirrorConflict {
            registry: registry.into(),
            mirror: place,
        });
    }
    Ok(Mirror {
        location: place,
        insecure: wire.insecure,
        when: wire.pull_from_mirror.unwrap_or_default(),
    })
}

/// A location or prefix without slashes at its end.
fn location(text: &str) -> Result<String, Unusable> {
    match text.starts_with("http://") || text.starts_with("https://") {
        true => Err(Unusable::Scheme(text.into())),
        false => Ok(text.trim_end_matches('/').into()),
    }
}

/// Entries of one file that lead to one location must agree; a wildcard is known by its prefix.
fn check_conflicts(registries: &[Registry]) -> Result<(), Unusable> {
    fn key(registry: &Registry) -> &str {
        match registry.prefix.starts_with("*.") {
            true => &registry.prefix,
            false => &registry.location,
        }
    }
    for (index, one) in registries.iter().enumerate() {
        let earlier = registries[..index].iter();
        for other in earlier.filter(|other| key(other) == key(one)) {
            let setting = match (one.insecure == other.insecure, one.blocked == other.blocked) {
                (true, true) => continue,
                (false, _) => "insecure",
                (true, false) => "blocked",
            };
            return Err(Unusable::Conflict {
                location: key(one).into(),
                setting,
            });
        }
    }
    Ok(())
}

/// Aliases are for short names, which Bowline does not take; a broken file is refused all the same.
fn check_aliases(aliases: &BTreeMap<String, String>) -> Result<(), Unusable> {
    for (alias, value) in aliases {
        let bare = |text: &str| {
            let last = text.rsplit('/').next().unwrap_or_default();
            !last.contains([':', '@'])
        };
        let full = value.is_empty() || value.parse::<RegistryName>().is_ok();
        if !bare(alias) || !bare(value) || !full {
            return Err(Unusable::Alias(alias.clone()));
        }
    }
    Ok(())
}
