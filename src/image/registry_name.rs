//! Names in a registry, by the rules of Docker and containers/image. Text comes in; host,
//! repository, tag and digest go out. Never asks a registry, and never tries several hosts.

use std::fmt;
use std::str::FromStr;

use super::{Digest, ReferenceError};

/// Where a name without a host leads.
const DEFAULT_HOST: &str = "docker.io";

/// A name in a registry, taken apart: `host[:port]/repository[:tag]` or `…@digest`.
///
/// As in containers/image, a name without a host (`debian`) is one of Docker Hub, and a name cannot
/// have both a tag and a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryName {
    /// Host and, where given, port.
    pub host: String,
    /// Path of the repository, `library/` already added for Docker Hub's short paths.
    pub repository: String,
    /// The tag; `latest` is filled in where there is neither a tag nor a digest.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

impl RegistryName {
    /// What goes behind `/v2/<repository>/manifests/`.
    pub fn manifest_reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }

    /// The name and what it belongs to, the nearest first: the image, its repository, the namespaces
    /// above, the host, and wildcards for its domains (containers-policy.json(5), "docker:";
    /// containers-registries.d(5)).
    pub fn scopes(&self) -> Vec<String> {
        let mut scopes = vec![self.to_string()];
        let mut rest = format!("{}/{}", self.host, self.repository);
        scopes.push(rest.clone());
        while let Some((namespace, _)) = rest.rsplit_once('/') {
            rest = namespace.to_owned();
            scopes.push(rest.clone());
        }
        let mut domain = self.host.split(':').next().unwrap_or_default();
        while let Some((_, parent)) = domain.split_once('.') {
            scopes.push(format!("*.{parent}"));
            domain = parent;
        }
        scopes
    }

    /// Whether `text` begins with a host: a dot, a port or `localhost` tells.
    pub fn has_host(text: &str) -> bool {
        text.split_once('/').is_some_and(|(host, _)| is_host(host))
    }

    /// Whether `text` is a host, or a namespace or repository of one: no tag, no digest.
    pub fn is_prefix(text: &str) -> bool {
        match text.split_once('/') {
            None => is_domain(text),
            Some((host, path)) => is_domain(host) && path.split('/').all(is_component),
        }
    }
}

/// The whole name, with everything that was filled in: `docker.io/library/debian:latest`.
impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

impl FromStr for RegistryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = |reason: &str| ReferenceError::RegistryName {
            name: text.into(),
            reason: reason.into(),
        };
        let (rest, digest) = split_digest(text)?;
        let (host, path) = split_host(rest);
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
            Some(_) => return Err(bad("the tag is empty or has characters that none can have")),
            None => (path, None),
        };
        if !is_domain(host) {
            return Err(bad("the host has characters that none can have"));
        }
        if !path.split('/').all(is_component) {
            return Err(bad(
                "a path component is empty or has characters that none can have",
            ));
        }
        if tag.is_some() && digest.is_some() {
            return Err(bad("it has both a tag and a digest; leave out one"));
        }
        let official = host == DEFAULT_HOST && !path.contains('/');
        Ok(Self {
            host: host.into(),
            repository: match official {
                true => format!("library/{path}"),
                false => path.into(),
            },
            tag: tag.or_else(|| digest.is_none().then(|| "latest".into())),
            digest,
        })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = text.split_once('@') else {
        return Ok((text, None));
    };
    let digest = digest.parse().map_err(|source| ReferenceError::Digest {
        name: text.into(),
        source,
    })?;
    Ok((rest, Some(digest)))
}

fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/').filter(|(host, _)| is_host(host)) {
        Some(("index.docker.io", path)) => (DEFAULT_HOST, path),
        Some(split) => split,
        None => (DEFAULT_HOST, text),
    }
}

/// A host has a dot, a port, or is `localhost` (the rule of containers/image).
fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

/// A host name or address, and perhaps a port.
fn is_domain(text: &str) -> bool {
    let port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let address = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
        return rest.split_once(']').is_some_and(|(inside, behind)| {
            address(inside) && (behind.is_empty() || behind.strip_prefix(':').is_some_and(port))
        });
    }
    let alnum = |c: char| c.is_ascii_alphanumeric();
    let label = |text: &str| {
        text.starts_with(alnum)
            && text.ends_with(alnum)
            && text.chars().all(|c| alnum(c) || c == '-')
    };
    let (name, has_port) = match text.split_once(':') {
        Some((name, number)) => (name, port(number)),
        None => (text, true),
    };
    has_port && name.split('.').all(label)
}

/// `[\w][\w.-]{0,127}` (distribution-spec, "Pulling manifests").
fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec, "Pulling manifests").
fn is_component(text: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |s: &str| matches!(s, "." | "_" | "__") || s.chars().all(|c| c == '-');
    text.starts_with(alnum)
        && text.ends_with(alnum)
        && text.split(alnum).filter(|s| !s.is_empty()).all(separator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn takes_names_apart() {
        let digest = format!("quay.io/a@sha256:{HEX}");
        for (text, whole) in [
            (
                "localhost:5000/a/b__c:v1.0_x",
                "localhost:5000/a/b__c:v1.0_x",
            ),
            ("quay.io/a/b", "quay.io/a/b:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/debian:12", "docker.io/library/debian:12"),
            ("debian", "docker.io/library/debian:latest"),
            ("user/app:1", "docker.io/user/app:1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (&digest, &digest),
        ] {
            let name: RegistryName = text.parse().unwrap();
            assert_eq!(name.to_string(), whole);
            let last = whole.rsplit_once(['@', ':']).unwrap().1;
            assert!(name.manifest_reference().ends_with(last), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let both = format!("quay.io/a:1@sha256:{HEX}");
        for text in [
            "",
            "quay.io/",
            "quay.io/A",
            "quay.io/a//b",
            "quay.io/a:",
            "quay.io/a:-x",
            "quay.io/a_-b",
            "quay.io/a@sha256:00",
            "quay.io/a@sha512:00",
            "UPPER/a",
            "-quay.io/a",
            "quay.io:/a",
            "quay..io/a",
            "quay.io:x/a",
            "user:password@quay.io/a",
            &both,
        ] {
            assert!(text.parse::<RegistryName>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_whole_name_parses_to_itself(text in "[a-z.:/@0-9_-]{0,40}|\\PC{0,40}") {
            if let Ok(name) = text.parse::<RegistryName>() {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
    }
}
