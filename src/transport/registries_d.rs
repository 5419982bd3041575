//! Where signatures of images in registries are kept (containers-registries.d(5)): files and a name
//! come in; a lookaside server or directory goes out, and whether attachments are to be looked for.
//! Never contacts anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config_file::{self, io_error};
use super::{Error, HostPaths};
use crate::image::{Digest, RegistryName};

/// One namespace of a file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Namespace {
    lookaside: Option<String>,
    /// The old name of `lookaside`.
    sigstore: Option<String>,
    lookaside_staging: Option<String>,
    /// The old name of `lookaside-staging`.
    sigstore_staging: Option<String>,
    use_sigstore_attachments: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    default_docker: Option<Namespace>,
    docker: Option<BTreeMap<String, Option<Namespace>>>,
}

impl File {
    fn parse(bytes: &[u8]) -> Result<Self, serde_yaml_ng::Error> {
        let file: Option<Self> = serde_yaml_ng::from_slice(bytes)?;
        Ok(file.unwrap_or_default())
    }
}

impl Namespace {
    fn read_from(&self) -> Option<&str> {
        first_filled([&self.lookaside, &self.sigstore])
    }

    fn written_to(&self) -> Option<&str> {
        let staging = first_filled([&self.lookaside_staging, &self.sigstore_staging]);
        staging.or_else(|| self.read_from())
    }
}

fn first_filled(texts: [&Option<String>; 2]) -> Option<&str> {
    let mut texts = texts.into_iter().flatten();
    texts.find(|text| !text.is_empty()).map(String::as_str)
}

/// The merged configuration.
#[derive(Debug, Default)]
pub(super) struct RegistriesD {
    default: Namespace,
    docker: BTreeMap<String, Namespace>,
    builtin: PathBuf,
}

/// Where signature files of a repository are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookaside {
    /// A directory on this host.
    Directory(PathBuf),
    /// A web server.
    Server(reqwest::Url),
}

impl RegistriesD {
    /// Reads the user's directory if there is one, else the system's.
    pub(super) fn load(host: &HostPaths) -> Result<Self, Error> {
        let user = host
            .config_home()
            .map(|dir| dir.join("containers/registries.d"));
        let system = host.system("/etc/containers/registries.d");
        let dir = user.filter(|dir| dir.exists()).unwrap_or(system);
        let mut merged = Self {
            builtin: match (host.uid, &host.home) {
                (1.., Some(home)) => home.join(".local/share/containers/sigstore"),
                _ => host.system("/var/lib/containers/sigstore"),
            },
            ..Self::default()
        };
        let mut has_default = None;
        for path in files(&dir)? {
            merged.add(&path, &mut has_default)?;
        }
        Ok(merged)
    }

    fn add(&mut self, path: &Path, has_default: &mut Option<PathBuf>) -> Result<(), Error> {
        let Some(bytes) = config_file::read(path)? else {
            return Ok(());
        };
        let bad = |why: String| Error::Config(format!("{} cannot be used: {why}", path.display()));
        let file = File::parse(&bytes).map_err(|e| bad(e.to_string()))?;
        if let Some(default) = file.default_docker {
            if let Some(other) = has_default.replace(path.to_owned()) {
                let other = other.display();
                return Err(bad(format!("default-docker is also defined in {other}")));
            }
            self.default = default;
        }
        for (name, namespace) in file.docker.unwrap_or_default() {
            if self.docker.contains_key(&name) {
                return Err(bad(format!("{name} is also defined in another file there")));
            }
            self.docker.insert(name, namespace.unwrap_or_default());
        }
        Ok(())
    }

    /// The namespaces that cover a name, the nearest first.
    fn covering(&self, name: &RegistryName) -> impl Iterator<Item = &Namespace> {
        let scopes = name.scopes().into_iter();
        let found = scopes.filter_map(|scope| self.docker.get(&scope));
        found.chain([&self.default])
    }

    /// Whether to look for sigstore attachments; `None` where nobody has said.
    pub(super) fn attachments(&self, name: &RegistryName) -> Option<bool> {
        self.covering(name).find_map(|n| n.use_sigstore_attachments)
    }

    /// Where signature files of the repository are read; the file of a manifest's n-th signature is
    /// named by [`Lookaside::file`].
    pub(super) fn lookaside(&self, name: &RegistryName) -> Result<Lookaside, Error> {
        self.place(self.covering(name).find_map(Namespace::read_from))
    }

    /// Where signature files of the repository are written.
    fn staging(&self, name: &RegistryName) -> Result<PathBuf, Error> {
        let configured = self.covering(name).find_map(Namespace::written_to);
        match self.place(configured)? {
            Lookaside::Directory(dir) => Ok(dir),
            Lookaside::Server(url) => Err(Error::Config(format!(
                "signatures of {name} cannot be written to {url}: let lookaside-staging in registries.d \
                 name a directory, file:///…"
            ))),
        }
    }

    fn place(&self, configured: Option<&str>) -> Result<Lookaside, Error> {
        match configured {
            None => Ok(Lookaside::Directory(self.builtin.clone())),
            Some(text) => Lookaside::parse(text),
        }
    }
}

/// The `.yaml` files of a directory, by name.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(dir, error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths = paths.collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(|error| io_error(dir, error))?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    Ok(paths)
}

impl Lookaside {
    fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::Config(format!(
                "{text:?} in registries.d is no place for signatures: {why}"
            ))
        };
        let url = reqwest::Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        match url.scheme() {
            "file" => match url.to_file_path() {
                Ok(path) => Ok(Self::Directory(path)),
                Err(()) => Err(bad("it names a host")),
            },
            "http" | "https" => Ok(Self::Server(url)),
            other => Err(bad(&format!("{other:?} is neither file, http nor https"))),
        }
    }
}

/// Where the `number`-th signature (from 1) of a manifest is, below a lookaside.
pub(super) fn signature_path(repository: &str, digest: &Digest, number: usize) -> String {
    format!("{}/signature-{number}", signatures_path(repository, digest))
}

fn signatures_path(repository: &str, digest: &Digest) -> String {
    format!("{repository}@sha256={}", digest.hex())
}

/// The directory that signature files of a manifest are written to: `lookaside-staging`, or
/// `lookaside`, which must be on this host then. It need not be there yet.
pub fn signature_directory(
    name: &RegistryName,
    digest: &Digest,
    host: &HostPaths,
) -> Result<PathBuf, Error> {
    let store = RegistriesD::load(host)?.staging(name)?;
    Ok(store.join(signatures_path(&name.repository, digest)))
}

/// Reads a file and asks it about a name.
#[cfg(feature = "testing")]
pub(super) fn probe(data: &[u8]) {
    let Ok(file) = File::parse(data) else {
        return;
    };
    let docker = file.docker.unwrap_or_default().into_iter();
    let merged = RegistriesD {
        default: file.default_docker.unwrap_or_default(),
        docker: docker
            .map(|(name, n)| (name, n.unwrap_or_default()))
            .collect(),
        ..RegistriesD::default()
    };
    if let Ok(name) = "quay.example/ns/os:1".parse() {
        // Whatever is said is an answer.
        drop((merged.lookaside(&name), merged.attachments(&name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these files in its registries.d.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostPaths) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("etc/containers/registries.d");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let host = HostPaths {
            root: temp.path().into(),
            ..HostPaths::default()
        };
        (temp, host)
    }

    const FILE: &str = "
default-docker:
  lookaside: https://all.example/sigs
docker:
  quay.io:
    use-sigstore-attachments: true
  quay.io/a:
    sigstore: file:///var/a
    lookaside-staging: file:///var/staging
  quay.io/a/b:1:
    use-sigstore-attachments: false
  '*.example.org':
    lookaside: http://wild.example/
  empty.example:
";

    #[test]
    fn the_nearest_namespace_that_says_something_counts() {
        let (_temp, host) = host(&[("a.yaml", FILE), ("b.conf", "]"), ("c.yaml", "")]);
        let config = RegistriesD::load(&host).unwrap();
        let all = "https://all.example/sigs";
        for (name, place, attachments) in [
            ("quay.io/x", all, Some(true)),
            ("quay.io/a/b:1", "/var/a", Some(false)),
            ("quay.io/a/b:2", "/var/a", Some(true)),
            ("reg.example.org/x", "http://wild.example/", None),
            ("empty.example/x", all, None),
            ("docker.io/x", all, None),
        ] {
            let name: RegistryName = name.parse().unwrap();
            let found = match config.lookaside(&name).unwrap() {
                Lookaside::Directory(path) => path.display().to_string(),
                Lookaside::Server(url) => url.to_string(),
            };
            assert_eq!(found, place, "{name}");
            assert_eq!(config.attachments(&name), attachments, "{name}");
        }
    }

    #[test]
    fn signatures_are_written_to_a_directory() {
        let more = "
docker:
  quay.io/a/c:
    lookaside: https://c.example
  quay.io/old:
    sigstore-staging: file:///old
";
        let (_temp, host) = host(&[("a.yaml", FILE), ("b.yaml", more)]);
        let digest = Digest::of(b"");
        for (name, dir) in [
            ("quay.io/a/x:1", Some("/var/staging")),
            ("quay.io/old/x", Some("/old")),
            // The nearest namespace that says anything, not the nearest with a staging area.
            ("quay.io/a/c:1", None),
            ("quay.io/x", None),
        ] {
            let name: RegistryName = name.parse().unwrap();
            let found = signature_directory(&name, &digest, &host);
            let below = format!("{}@sha256={}", name.repository, digest.hex());
            match dir {
                Some(dir) => assert_eq!(found.unwrap(), Path::new(dir).join(below)),
                None => assert!(matches!(found, Err(Error::Config(_))), "{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn without_a_word_signatures_are_on_the_host() {
        let (temp, mut host) = host(&[]);
        let name: RegistryName = "quay.io/x".parse().unwrap();
        let of = |host: &HostPaths| RegistriesD::load(host).unwrap().lookaside(&name).unwrap();
        let system = temp.path().join("var/lib/containers/sigstore");
        assert_eq!(of(&host), Lookaside::Directory(system));
        host.uid = 1000;
        host.home = Some("/h".into());
        let user = "/h/.local/share/containers/sigstore".into();
        assert_eq!(of(&host), Lookaside::Directory(user));
        // A user's directory replaces the system's.
        host.home = Some(temp.path().join("home"));
        let dir = temp.path().join("home/.config/containers/registries.d");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(
            dir.join("u.yaml"),
            "default-docker: {lookaside: 'file:///u'}",
        )
        .unwrap();
        assert_eq!(of(&host), Lookaside::Directory("/u".into()));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for files in [
            &[("a.yaml", "docker: [")][..],
            &[("a.yaml", "docker: 7")],
            &[("a.yaml", FILE), ("b.yaml", "default-docker: {}")],
            &[("a.yaml", FILE), ("b.yaml", "docker: {quay.io: {}}")],
        ] {
            let (_temp, host) = host(files);
            let error = RegistriesD::load(&host).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{files:?}: {error}");
        }
        for place in ["relative/path", "ftp://x/", "file://host/x", "https://"] {
            assert!(
                matches!(Lookaside::parse(place), Err(Error::Config(_))),
                "{place}"
            );
        }
    }
}
