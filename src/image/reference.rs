//! Image references as users type them and as ostree-ext stores them. Text comes in, a typed
//! reference goes out and prints back the same. Never contacts anything: a tag stays a wish.
//!
//! Grammar: `SIGNATURE:TRANSPORT:NAME`, shorthands and bare registry names; the names of the
//! transports are those of containers-transports(5).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{DigestError, RegistryName};

/// Why a text is not an image reference. The message names the text and what would be right.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// No `:` where the transport should end.
    #[error("image reference {0:?} names no transport (such as docker://, oci: or registry:)")]
    NoTransport(String),
    /// A word in front of `:` that is no transport.
    #[error("unknown transport {0:?} in image reference")]
    UnknownTransport(String),
    /// Nothing after the transport.
    #[error("image reference {0:?} has an empty name")]
    EmptyName(String),
    /// `docker:` without `//`.
    #[error("image reference {0:?}: docker: must be followed by //")]
    DockerSlashes(String),
    /// The signature scheme is not one of the known ones.
    #[error("unknown ostree image reference scheme in {0:?}")]
    UnknownScheme(String),
    /// `ostree-remote-…` without a remote.
    #[error("image reference {0:?} names no ostree remote")]
    NoRemote(String),
    /// A registry name without a host.
    #[error("{0:?} is a short name: write the registry's host too, such as quay.io/{0}")]
    ShortName(String),
    /// A registry name outside the grammar of the distribution spec.
    #[error("{name:?} is not a registry name: {reason}")]
    RegistryName {
        /// The text.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A digest that cannot be used.
    #[error("image reference {name:?}: {source}")]
    Digest {
        /// The text.
        name: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
}

/// Where an image lives (containers-transports(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A registry, `registry:` or `docker://`.
    Registry,
    /// An OCI layout directory, `oci:PATH[:TAG]`.
    OciDir,
    /// A tar of an OCI layout, `oci-archive:PATH[:TAG]`.
    OciArchive,
    /// What `docker save` writes, `docker-archive:PATH[:NAME:TAG]`.
    DockerArchive,
    /// Local container storage.
    ContainerStorage,
    /// Plain files in a directory, `dir:PATH`.
    Dir,
    /// A running docker daemon.
    DockerDaemon,
}

impl Transport {
    /// The transport's canonical word with its separator (`docker://`, `oci:`).
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Registry => "docker://",
            Self::OciDir => "oci:",
            Self::OciArchive => "oci-archive:",
            Self::DockerArchive => "docker-archive:",
            Self::ContainerStorage => "containers-storage:",
            Self::Dir => "dir:",
            Self::DockerDaemon => "docker-daemon:",
        }
    }

    /// The transport's name as bootc's status writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::OciDir => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::ContainerStorage => "containers-storage",
            Self::Dir => "dir",
            Self::DockerDaemon => "docker-daemon",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "registry" | "docker" => Self::Registry,
            "oci" => Self::OciDir,
            "oci-archive" => Self::OciArchive,
            "docker-archive" => Self::DockerArchive,
            "containers-storage" => Self::ContainerStorage,
            "dir" => Self::Dir,
            "docker-daemon" => Self::DockerDaemon,
            _ => return None,
        })
    }
}

/// A transport and a name in it. Prints canonically (`docker://quay.io/x/y`); this text is the
/// key under which ostree-ext stores an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Where the image lives.
    pub transport: Transport,
    /// Its name there, not empty.
    pub name: String,
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (word, name) = text
            .split_once(':')
            .ok_or_else(|| ReferenceError::NoTransport(text.into()))?;
        let transport = Transport::from_word(word)
            .ok_or_else(|| ReferenceError::UnknownTransport(word.into()))?;
        let name = match word {
            "docker" => name
                .strip_prefix("//")
                .ok_or_else(|| ReferenceError::DockerSlashes(text.into()))?,
            _ => name,
        };
        if name.is_empty() {
            return Err(ReferenceError::EmptyName(text.into()));
        }
        Ok(Self {
            transport,
            name: name.into(),
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.transport.prefix(), self.name)
    }
}

/// Which signatures an image must carry before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SignatureSource {
    /// GPG or ed25519 signatures of the ostree commit, checked through this remote's configuration.
    OstreeRemote(String),
    /// policy.json applies and must not accept anything for this image.
    ContainerPolicy,
    /// policy.json applies, and may accept anything.
    ContainerPolicyAllowInsecure,
}

impl fmt::Display for SignatureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OstreeRemote(remote) => write!(f, "ostree-remote-image:{remote}"),
            Self::ContainerPolicy => f.write_str("ostree-image-signed"),
            Self::ContainerPolicyAllowInsecure => f.write_str("ostree-unverified-image"),
        }
    }
}

/// An image reference with its signature requirement: what an origin file stores.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OstreeImageReference {
    /// The signatures that are asked for.
    pub sigverify: SignatureSource,
    /// The image.
    pub imgref: ImageReference,
}

impl OstreeImageReference {
    /// Parses what a user types: any stored form, `TRANSPORT:NAME`, or a bare `host/name:tag`.
    ///
    /// The last two get [`SignatureSource::ContainerPolicyAllowInsecure`]: policy.json applies.
    pub fn from_user(text: &str) -> Result<Self, ReferenceError> {
        let word = text.split(':').next().unwrap_or_default();
        let imgref = if word.starts_with("ostree-") {
            return text.parse();
        } else if text.contains(':') && Transport::from_word(word).is_some() {
            text.parse()?
        } else if RegistryName::has_host(text) {
            ImageReference {
                transport: Transport::Registry,
                name: text.into(),
            }
        } else {
            return Err(without_host(text));
        };
        if imgref.transport == Transport::Registry {
            // `registry:5000/x` is more likely a host and port than an image of Docker Hub.
            if word == "registry" && !RegistryName::has_host(&imgref.name) {
                return Err(ReferenceError::ShortName(text.into()));
            }
            imgref.name.parse::<RegistryName>()?;
        }
        Ok(Self {
            sigverify: SignatureSource::ContainerPolicyAllowInsecure,
            imgref,
        })
    }
}

/// Why a name without a host is refused: most lack only that, others are no names at all.
fn without_host(text: &str) -> ReferenceError {
    if text.trim().is_empty() {
        return ReferenceError::EmptyName(text.into());
    }
    match format!("localhost/{text}").parse::<RegistryName>() {
        Err(ReferenceError::RegistryName { reason, .. }) => ReferenceError::RegistryName {
            name: text.into(),
            reason,
        },
        _ => ReferenceError::ShortName(text.into()),
    }
}

impl FromStr for OstreeImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let unknown = || ReferenceError::UnknownScheme(text.into());
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        let registry = |name: &str| match name {
            "" => Err(ReferenceError::EmptyName(text.into())),
            _ => Ok(ImageReference {
                transport: Transport::Registry,
                name: name.into(),
            }),
        };
        let remote = || match rest.split_once(':') {
            Some((remote, rest)) if !remote.is_empty() => Ok((remote.to_owned(), rest)),
            _ => Err(ReferenceError::NoRemote(text.into())),
        };
        let (sigverify, imgref) = match scheme {
            "ostree-image-signed" => (SignatureSource::ContainerPolicy, rest.parse()?),
            "ostree-unverified-image" => {
                (SignatureSource::ContainerPolicyAllowInsecure, rest.parse()?)
            }
            "ostree-unverified-registry" => (
                SignatureSource::ContainerPolicyAllowInsecure,
                registry(rest)?,
            ),
            "ostree-remote-image" => {
                let (remote, rest) = remote()?;
                (SignatureSource::OstreeRemote(remote), rest.parse()?)
            }
            "ostree-remote-registry" => {
                let (remote, rest) = remote()?;
                (SignatureSource::OstreeRemote(remote), registry(rest)?)
            }
            _ => return Err(unknown()),
        };
        Ok(Self { sigverify, imgref })
    }
}

impl fmt::Display for OstreeImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.sigverify, self.imgref.transport) {
            (SignatureSource::ContainerPolicyAllowInsecure, Transport::Registry) => {
                write!(f, "ostree-unverified-registry:{}", self.imgref.name)
            }
            (sigverify, _) => write!(f, "{sigverify}:{}", self.imgref),
        }
    }
}

#[cfg(test)]
mod tests;
