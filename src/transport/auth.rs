//! Credentials for registries out of files of containers-auth.json(5) and credential helpers: a
//! repository comes in, who may have credentials for it goes out, and then the credentials of the
//! first one that has some. Never writes, never shows a password, and runs a helper only once
//! somebody needs to know.
//!
//! Order of the files: the one that the user names, or else those of ostree-ext, then those of
//! podman. `credential-helpers` of registries.conf says which helpers come before or after them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::helper::{Helper, Unhelpful};
use super::{Error, HostPaths, SourceOptions, config_file};

/// The name that stands for the files among the helpers (containers-registries.conf(5)).
const FILES: &str = "containers-auth.json";

/// What a registry or its token service is shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
    /// A refresh token, which goes before the password.
    pub(super) identity_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Credentials and where they came from.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
    /// A file or a helper, for messages.
    pub(super) origin: String,
}

/// Somebody who may have credentials.
#[derive(Debug, Clone)]
pub(super) enum Candidate {
    /// A file, which has some.
    Known(Found),
    /// A helper, which has not been asked.
    Helper(Helper),
}

/// The credentials of the first candidate that has some. Asks helpers, and so may block for minutes.
/// A helper that fails is an error if nobody else has any.
pub(super) fn choose(candidates: &[Candidate], host: &HostPaths) -> Result<Option<Found>, Error> {
    let mut failed = None;
    for candidate in candidates {
        match candidate {
            Candidate::Known(found) => return Ok(Some(found.clone())),
            Candidate::Helper(helper) => match helper.ask(host) {
                Ok(Some(credentials)) => {
                    let origin = helper.program();
                    return Ok(Some(Found {
                        credentials,
                        origin,
                    }));
                }
                Ok(None) => {}
                Err(why) => drop(failed.get_or_insert((helper, why))),
            },
        }
    }
    match failed {
        Some((helper, why)) => Err(unhelpful(helper, &why)),
        None => Ok(None),
    }
}

fn unhelpful(helper: &Helper, why: &Unhelpful) -> Error {
    Error::Config(format!(
        "the credential helper {}, which {} names for {}: {why}",
        helper.program(),
        helper.file.display(),
        helper.server
    ))
}

/// The shapes of credentials files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `{"auths": {KEY: …}}`
    Auths,
    /// `{URL: …}`, the old `.dockercfg`.
    Legacy,
}

/// Finds who may have credentials for `key`, a `HOST/PATH` without tag. Nobody: anonymous. `helpers`
/// are those of registries.conf and the file that names them; none are the credentials files alone.
pub(super) fn find(
    key: &str,
    helpers: &(Vec<String>, PathBuf),
    options: &SourceOptions,
) -> Result<Vec<Candidate>, Error> {
    let (names, file) = helpers;
    if names.is_empty() {
        return in_files(key, options);
    }
    let mut candidates = Vec::new();
    for name in names {
        match name.as_str() {
            FILES => candidates.extend(in_files(key, options)?),
            name => candidates.push(Candidate::Helper(Helper {
                name: name.into(),
                server: key.split('/').next().unwrap_or_default().into(),
                file: file.clone(),
                required: true,
            })),
        }
    }
    Ok(candidates)
}

fn in_files(key: &str, options: &SourceOptions) -> Result<Vec<Candidate>, Error> {
    let host = &options.host;
    if let Some(file) = options
        .authfile
        .as_ref()
        .or(host.registry_auth_file.as_ref())
    {
        let found = look_into(file, Format::Auths, key)?;
        return match found {
            Some(found) => Ok(found.into_iter().collect()),
            None => {
                let file = file.display();
                Err(Error::Config(format!(
                    "the credentials file {file} does not exist"
                )))
            }
        };
    }
    let mut candidates = Vec::new();
    for (file, format) in default_files(host) {
        candidates.extend(look_into(&file, format, key)?.flatten());
        if matches!(candidates.last(), Some(Candidate::Known(_))) {
            return Ok(candidates);
        }
    }
    if candidates.is_empty() {
        tracing::debug!("no credentials for {key}");
    }
    Ok(candidates)
}

/// `None`: no such file.
fn look_into(file: &Path, format: Format, key: &str) -> Result<Option<Option<Candidate>>, Error> {
    let Some(text) = config_file::read(file)? else {
        return Ok(None);
    };
    let keeper = lookup(&text, format, key)
        .map_err(|why| Error::Config(format!("credentials file {}: {why}", file.display())))?;
    let candidate = keeper.map(|keeper| match keeper {
        Keeper::File(credentials) => {
            tracing::info!("using the credentials for {key} in {}", file.display());
            let origin = file.display().to_string();
            Candidate::Known(Found {
                credentials,
                origin,
            })
        }
        Keeper::Helper {
            name,
            server,
            required,
        } => Candidate::Helper(Helper {
            name,
            server,
            required,
            file: file.into(),
        }),
    });
    Ok(Some(candidate))
}

/// Where ostree-ext looks, then where podman looks (containers-auth.json(5)).
fn default_files(host: &HostPaths) -> Vec<(PathBuf, Format)> {
    let config = host.config_home();
    let mut files = match host.uid {
        0 => ["/run", "/etc", "/usr/lib"]
            .map(|dir| host.system(&format!("{dir}/ostree/auth.json")))
            .to_vec(),
        _ => [&host.runtime_dir, &config]
            .into_iter()
            .flatten()
            .map(|dir| dir.join("ostree/auth.json"))
            .collect(),
    };
    files.push(match &host.runtime_dir {
        Some(dir) => dir.join("containers/auth.json"),
        None => host.system(&format!("/run/containers/{}/auth.json", host.uid)),
    });
    files.extend(config.map(|dir| dir.join("containers/auth.json")));
    files.extend(
        host.home
            .iter()
            .map(|home| home.join(".docker/config.json")),
    );
    let legacy = host.home.iter().map(|home| home.join(".dockercfg"));
    let files = files.into_iter().map(|file| (file, Format::Auths));
    files.chain(legacy.map(|f| (f, Format::Legacy))).collect()
}

/// Why a file or entry cannot be used. Quotes nothing of the file: it is full of secrets.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Unusable {
    #[error("it is not JSON of that format (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("the entry {0:?} is not the base64 of USER:PASSWORD")]
    Encoding(String),
}

/// Who a file says has the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keeper {
    /// The file itself.
    File(Credentials),
    /// A helper (`credHelpers`, `credsStore`).
    Helper {
        name: String,
        server: String,
        required: bool,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// Finds the entry for `key` in the text of a file: a helper for it, credentials, and at last the
/// helper that keeps all others.
fn lookup(text: &[u8], format: Format, key: &str) -> Result<Option<Keeper>, Unusable> {
    let file = parse(text, format)?;
    let keys = lookup_order(key, format);
    let host = normal_host(keys.last().copied().unwrap_or_default());
    if let Some((server, name)) = entry(&file.helpers, &keys, host, format) {
        if !name.is_empty() {
            return Ok(Some(Keeper::Helper {
                name: name.clone(),
                server: server.clone(),
                required: true,
            }));
        }
    }
    let found = entry(&file.auths, &keys, host, format);
    let credentials = match found {
        Some((key, entry)) if !(entry.auth.is_empty() && entry.identity_token.is_empty()) => {
            decode(key, entry)?
        }
        _ => None,
    };
    let store = (!file.store.is_empty()).then(|| Keeper::Helper {
        name: file.store.clone(),
        server: host.into(),
        // It need not be here for registries that nobody ever logged in to.
        required: found.is_some(),
    });
    Ok(credentials.map(Keeper::File).or(store))
}

/// The entry for the first of `keys` that has one, or else for the host however it is written.
fn entry<'a, T>(
    entries: &'a BTreeMap<String, T>,
    keys: &[&str],
    host: &str,
    format: Format,
) -> Option<(&'a String, &'a T)> {
    let exact = keys.iter().find_map(|key| entries.get_key_value(*key));
    let mut all = entries.iter();
    exact.or_else(|| all.find(|(key, _)| normal_key(key, format) == host))
}

fn parse(text: &[u8], format: Format) -> Result<File, Unusable> {
    let parsed = match format {
        Format::Auths => serde_json::from_slice(text),
        Format::Legacy => serde_json::from_slice(text).map(|auths| File {
            auths,
            helpers: BTreeMap::new(),
            store: String::new(),
        }),
    };
    parsed.map_err(|error| Unusable::Json {
        line: error.line(),
        column: error.column(),
    })
}

/// The keys that fit, most specific first: the repository, its parents, the host.
fn lookup_order(key: &str, format: Format) -> Vec<&str> {
    let parents = std::iter::successors(Some(key), |key| key.rsplit_once('/').map(|(p, _)| p));
    match format {
        Format::Auths => parents.collect(),
        Format::Legacy => parents.last().into_iter().collect(),
    }
}

/// The host of a key that is written as a URL (`https://index.docker.io/v1/`).
fn normal_key(key: &str, format: Format) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    match (bare, format) {
        (None, Format::Auths) => normal_host(key),
        (bare, _) => {
            let host = bare.unwrap_or(key).split('/').next();
            normal_host(host.unwrap_or_default())
        }
    }
}

fn normal_host(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn decode(key: &str, entry: &Entry) -> Result<Option<Credentials>, Unusable> {
    let bad = || Unusable::Encoding(key.into());
    let bytes = STANDARD.decode(&entry.auth).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let identity_token = Some(entry.identity_token.clone()).filter(|token| !token.is_empty());
    let (user, password) = match text.split_once(':') {
        Some(pair) => pair,
        // An identity token stands alone as well; a lone user name is no credential.
        None if identity_token.is_some() => (text.as_str(), ""),
        None => return Ok(None),
    };
    Ok(Some(Credentials {
        user: user.into(),
        // Some helpers of old padded passwords with zero bytes.
        password: password.trim_end_matches('\0').into(),
        identity_token,
    }))
}

/// Looks into a file of either format.
#[cfg(feature = "testing")]
pub(super) fn probe(data: &[u8]) {
    for format in [Format::Auths, Format::Legacy] {
        // Whatever is said is an answer.
        drop(lookup(data, format, "quay.example/ns/os"));
    }
}

#[cfg(test)]
mod tests;
