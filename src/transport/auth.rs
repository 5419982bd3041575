//! Credentials for registries out of files of containers-auth.json(5): a repository comes in, the
//! credentials of the first file that has some go out. Never runs a credential helper, never
//! writes, never shows a password.
//!
//! Order: the file that the user names, or else those of ostree-ext, then those of podman.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Error, HostPaths, SourceOptions, config_file};

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
#[derive(Debug)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
    pub(super) file: PathBuf,
}

/// The shapes of credentials files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `{"auths": {KEY: …}}`
    Auths,
    /// `{URL: …}`, the old `.dockercfg`.
    Legacy,
}

/// Finds credentials for `key`, a `HOST/PATH` without tag. `Ok(None)`: anonymous.
pub(super) fn find(key: &str, options: &SourceOptions) -> Result<Option<Found>, Error> {
    let host = &options.host;
    if let Some(file) = options
        .authfile
        .as_ref()
        .or(host.registry_auth_file.as_ref())
    {
        let found = look_into(file, Format::Auths, key)?;
        return found.ok_or_else(|| {
            let file = file.display();
            Error::Config(format!("the credentials file {file} does not exist"))
        });
    }
    for (file, format) in default_files(host) {
        if let Some(Some(found)) = look_into(&file, format, key)? {
            return Ok(Some(found));
        }
    }
    tracing::debug!("no credentials for {key}");
    Ok(None)
}

/// `None`: no such file.
fn look_into(file: &Path, format: Format, key: &str) -> Result<Option<Option<Found>>, Error> {
    let Some(text) = config_file::read(file)? else {
        return Ok(None);
    };
    let credentials = lookup(&text, format, key)
        .map_err(|why| Error::Config(format!("credentials file {}: {why}", file.display())))?;
    Ok(Some(credentials.map(|credentials| {
        tracing::info!("using the credentials for {key} in {}", file.display());
        Found {
            credentials,
            file: file.into(),
        }
    })))
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
    #[error(
        "the entry for {key:?} is kept by the credential helper {helper:?}, which is not \
         supported: name another file with --authfile"
    )]
    Helper { key: String, helper: String },
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

/// Finds the entry for `key` in the text of a file.
fn lookup(text: &[u8], format: Format, key: &str) -> Result<Option<Credentials>, Unusable> {
    let file = parse(text, format)?;
    let keys = lookup_order(key, format);
    let needs = |key: &str, helper: &str| Unusable::Helper {
        key: key.into(),
        helper: helper.into(),
    };
    for key in &keys {
        if let Some(helper) = file.helpers.get(*key).filter(|h| !h.is_empty()) {
            return Err(needs(key, helper));
        }
    }
    let exact = keys.iter().find_map(|key| file.auths.get_key_value(*key));
    let host = normal_host(keys.last().copied().unwrap_or_default());
    let mut auths = file.auths.iter();
    let found = exact.or_else(|| auths.find(|(key, _)| normal_key(key, format) == host));
    match found {
        Some((key, entry)) if entry.auth.is_empty() && entry.identity_token.is_empty() => {
            match file.store.as_str() {
                "" => Ok(None),
                helper => Err(needs(key, helper)),
            }
        }
        Some((key, entry)) => decode(key, entry),
        None => Ok(None),
    }
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

#[cfg(test)]
mod tests;
