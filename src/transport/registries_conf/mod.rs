//! Where a registry name is really pulled from (containers-registries.conf(5), version 2): files
//! and a name come in, the places to try in order go out. Short names are none of its business:
//! Bowline takes full names only. Never contacts anything.

mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::config_file::{self, io_error};
use super::{Error, HostPaths};
use crate::image::RegistryName;
use parse::{PullFromMirror, Registry};

/// One place to pull a name from, or to push it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullSource {
    /// The name as this place knows it.
    pub(super) name: RegistryName,
    /// Whether plain http and unknown certificates are fine.
    pub(super) insecure: bool,
}

/// The merged configuration.
#[derive(Debug, Default)]
pub(super) struct RegistriesConf {
    registries: Vec<Registry>,
    /// `credential-helpers`, and the file that says so.
    credential_helpers: (Vec<String>, PathBuf),
}

impl RegistriesConf {
    /// Reads the host's files: the user's registries.conf or else the system's, then drop-ins.
    pub(super) fn load(host: &HostPaths) -> Result<Self, Error> {
        let user = host.config_home().map(|dir| dir.join("containers"));
        let system = ["/etc/containers", "/usr/share/containers"].map(|dir| host.system(dir));
        let mut conf = Self::default();
        if let Some(file) = &host.registries_conf {
            if !conf.add_file(file)? {
                let file = file.display();
                return Err(Error::Config(format!("{file} does not exist")));
            }
        } else {
            for dir in user.iter().chain(&system) {
                if conf.add_file(&dir.join("registries.conf"))? {
                    break;
                }
            }
        }
        let dirs = system.iter().rev().chain(&user);
        conf.add_drop_ins(dirs.map(|dir| dir.join("registries.conf.d")))?;
        Ok(conf)
    }

    /// Adds `*.conf` of several directories by name; of two of one name the later one counts.
    fn add_drop_ins(&mut self, dirs: impl Iterator<Item = PathBuf>) -> Result<(), Error> {
        let mut files = BTreeMap::new();
        for dir in dirs {
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(io_error(&dir, source)),
            };
            for entry in entries {
                let path = entry.map_err(|source| io_error(&dir, source))?.path();
                if path.extension().is_some_and(|e| e == "conf") {
                    files.insert(path.file_name().map(ToOwned::to_owned), path);
                }
            }
        }
        for path in files.values() {
            self.add_file(path)?;
        }
        Ok(())
    }

    /// Adds a file, whose entries go before earlier ones with the same prefix. `false`: there is
    /// no such file.
    fn add_file(&mut self, path: &Path) -> Result<bool, Error> {
        let Some(text) = config_file::read(path)? else {
            return Ok(false);
        };
        let parsed = parse::parse(&text)
            .map_err(|why| Error::Config(format!("{} cannot be used: {why}", path.display())))?;
        if let Some(helpers) = parsed.credential_helpers {
            self.credential_helpers = (helpers, path.into());
        }
        let new = parsed.registries;
        self.registries
            .retain(|old| new.iter().all(|new| new.prefix != old.prefix));
        self.registries.extend(new);
        Ok(true)
    }

    /// Who has credentials, in the order of asking, and the file that says so; nobody: the credentials
    /// files.
    pub(super) const fn credential_helpers(&self) -> &(Vec<String>, PathBuf) {
        &self.credential_helpers
    }

    /// The places to try for a name, in order: mirrors, then the registry itself.
    /// [`Error::Config`] where the configuration blocks the name or leads it astray.
    pub(super) fn pull_sources(&self, name: &RegistryName) -> Result<Vec<PullSource>, Error> {
        let reference = text(name);
        let Some(registry) = self.find(&reference) else {
            return Ok(vec![PullSource {
                name: name.clone(),
                insecure: false,
            }]);
        };
        if registry.blocked {
            return Err(Error::Config(format!(
                "pulling {reference} is blocked: registries.conf blocks {}",
                registry.prefix
            )));
        }
        let usable = |when: PullFromMirror| match when {
            PullFromMirror::All => name.digest.is_some() || !registry.mirror_by_digest_only,
            PullFromMirror::DigestOnly => name.digest.is_some(),
            PullFromMirror::TagOnly => name.digest.is_none(),
        };
        let mirrors = registry.mirrors.iter().filter(|m| usable(m.when));
        let mirrors = mirrors.map(|m| (m.location.as_str(), m.insecure));
        let itself = (registry.location.as_str(), registry.insecure);
        mirrors
            .chain([itself])
            .map(|(location, insecure)| {
                Ok(PullSource {
                    name: rewrite(&reference, &registry.prefix, location)?,
                    insecure,
                })
            })
            .collect()
    }

    /// Where a name is pushed to: as containers/image does it, to the name itself, neither to a
    /// mirror nor to a location that stands for it. [`Error::Config`] where the name is blocked.
    pub(super) fn push_target(&self, name: &RegistryName) -> Result<PullSource, Error> {
        let reference = text(name);
        let registry = self.find(&reference);
        if let Some(registry) = registry.filter(|registry| registry.blocked) {
            return Err(Error::Config(format!(
                "pushing to {reference} is blocked: registries.conf blocks {}",
                registry.prefix
            )));
        }
        Ok(PullSource {
            name: name.clone(),
            insecure: registry.is_some_and(|registry| registry.insecure),
        })
    }

    /// The entry with the longest prefix that matches; the first one of several.
    fn find(&self, reference: &str) -> Option<&Registry> {
        let fitting = self.registries.iter();
        let fitting = fitting.filter(|r| match_prefix(reference, &r.prefix).is_some());
        fitting.rev().max_by_key(|r| r.prefix.len())
    }
}

fn text(name: &RegistryName) -> String {
    let mut text = format!("{}/{}", name.host, name.repository);
    if let Some(tag) = &name.tag {
        text = format!("{text}:{tag}");
    }
    if let Some(digest) = &name.digest {
        text = format!("{text}@{digest}");
    }
    text
}

/// How much of `reference` a prefix covers, if it matches: whole components only; `*.` stands for
/// any subdomain.
fn match_prefix(reference: &str, prefix: &str) -> Option<usize> {
    if let Some(suffix) = prefix.strip_prefix('*') {
        let host = reference.split(['/', ':', '@']).next().unwrap_or_default();
        let matches = suffix.starts_with('.') && host.ends_with(suffix);
        return (matches && host.len() > suffix.len()).then_some(host.len());
    }
    let rest = reference.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

/// Puts `location` where `prefix` stands; an empty location leaves the name as it is.
fn rewrite(reference: &str, prefix: &str, location: &str) -> Result<RegistryName, Error> {
    let covered = match_prefix(reference, prefix).ok_or_else(|| {
        Error::Config(format!(
            "registries.conf: {prefix} does not cover {reference}"
        ))
    })?;
    let new = match location {
        "" if prefix.starts_with("*.") => reference.to_owned(),
        location => format!("{location}{}", &reference[covered..]),
    };
    let bad = |why: &dyn fmt::Display| {
        Error::Config(format!(
            "registries.conf makes {new:?} of {reference}: {why}"
        ))
    };
    if !RegistryName::has_host(&new) {
        return Err(bad(&"no host is left"));
    }
    let name: RegistryName = new.parse().map_err(|why| bad(&why))?;
    let url = reqwest::Url::parse(&format!("https://{}/", name.host));
    url.map_err(|why| bad(&why))?;
    Ok(name)
}

/// Reads a file and asks it about a name.
#[cfg(feature = "testing")]
pub(super) fn probe(data: &[u8]) {
    let Ok(parsed) = parse::parse(data) else {
        return;
    };
    let conf = RegistriesConf {
        registries: parsed.registries,
        ..RegistriesConf::default()
    };
    let name = "quay.example/ns/os:1".parse();
    // Whatever is said is an answer.
    drop(name.map(|name| conf.pull_sources(&name)));
}

#[cfg(test)]
mod tests;
