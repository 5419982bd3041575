//! Signing images: a reference and keys come in, signatures beside the image go out. Signs what a name
//! means now: an index and every image in it, since that one image is what a host verifies. Never
//! verifies, and never changes an image.

mod attach;
mod files;
mod gpg;
mod key;
mod payload;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use fn_error_context::context;
use thiserror::Error;

pub use gpg::GpgKey;
pub use key::{KeyError, NewPair, PrivateKey};

use self::payload::{Kind, payload};
use crate::image::{
    Digest, ImageReference, ManifestOrIndex, ReferenceError, RegistryName, Transport,
};
use crate::transport::{self, ImageSource, RegistrySource, SourceOptions, signature_directory};

/// Why nothing can be signed, or not with this key.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignError {
    /// There is no place for signatures.
    #[error("images of transport {0} have no place for signatures that others would look at")]
    Transport(&'static str),
    /// A path is no name that somebody could ask for.
    #[error("an image in a directory has no name that a signature could be for")]
    Identity,
    /// The most that is read by those who verify.
    #[error("{0} has {max} signatures already, and more are not read", max = files::MAX_SIGNATURES)]
    Full(String),
    /// GnuPG did not sign.
    #[error("GnuPG does not sign with the key {key:?}: {said}")]
    Gpg {
        /// The key, as it was asked for.
        key: String,
        /// What GnuPG said.
        said: String,
    },
}

/// Who signs.
#[derive(Debug)]
pub enum Signer {
    /// A key of cosign's: the signature becomes an image of its own, with the tag `sha256-….sig`.
    Sigstore(PrivateKey),
    /// A key of GnuPG's: the signature becomes a file, where registries.d says.
    Gpg(GpgKey),
}

/// Who signs, and under which name.
#[derive(Debug, Default)]
pub struct Signing {
    /// Everybody who signs.
    pub signers: Vec<Signer>,
    /// What the image is to be called, instead of its own name (see [`identity`]).
    pub identity: Option<String>,
}

/// A signature that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub digest: Digest,
    /// Where the signature is.
    pub place: String,
}

/// A name to sign under, with everything that is left out of it filled in: a repository, or an image in
/// it.
pub fn identity(text: &str) -> Result<String, ReferenceError> {
    let name: RegistryName = text.parse()?;
    let last = text.rsplit('/').next().unwrap_or_default();
    Ok(match last.contains([':', '@']) {
        true => name.to_string(),
        false => format!("{}/{}", name.host, name.repository),
    })
}

/// A place of images that can have signatures.
#[derive(Debug, Clone)]
enum Place {
    Registry(RegistryName),
    Directory(PathBuf),
}

impl Place {
    fn of(imgref: &ImageReference) -> Result<Self> {
        match imgref.transport {
            Transport::Registry => Ok(Self::Registry(imgref.name.parse()?)),
            Transport::Dir => Ok(Self::Directory(PathBuf::from(&imgref.name))),
            other => Err(SignError::Transport(other.name()).into()),
        }
    }

    /// What the image is called, where nobody says something else: its tag, or its repository.
    fn identity(&self, signing: &Signing) -> Result<String, SignError> {
        let name = match (&signing.identity, self) {
            (Some(identity), _) => return Ok(identity.clone()),
            (None, Self::Directory(_)) => return Err(SignError::Identity),
            (None, Self::Registry(name)) => name,
        };
        Ok(match name.digest {
            Some(_) => format!("{}/{}", name.host, name.repository),
            None => name.to_string(),
        })
    }

    /// The digests of what it means: its manifest, or its index and what that names.
    async fn digests(
        &self,
        imgref: &ImageReference,
        options: &SourceOptions,
    ) -> Result<Vec<Digest>> {
        let raw = match self {
            Self::Registry(name) => {
                RegistrySource::itself(name, options)?
                    .manifest(None)
                    .await?
            }
            Self::Directory(_) => {
                transport::open(imgref, options)
                    .await?
                    .manifest(None)
                    .await?
            }
        };
        let named = Digest::of(&raw.bytes);
        let parsed = ManifestOrIndex::parse(raw.bytes, raw.media_type.as_deref());
        let parsed = parsed.with_context(|| format!("Reading the manifest {named}"))?;
        let mut all = vec![named];
        if let ManifestOrIndex::Index(index) = parsed {
            let entries = index.entries.iter();
            all.extend(entries.map(|entry| entry.descriptor.digest));
        }
        Ok(all)
    }
}

/// Whether an image at this place could be signed, if anybody is to sign it. Contacts nothing.
pub fn check(imgref: &ImageReference, signing: &Signing) -> Result<()> {
    if !signing.signers.is_empty() {
        Place::of(imgref)?.identity(signing)?;
    }
    Ok(())
}

/// Signs what `imgref` means now.
#[context("Signing {imgref}")]
pub async fn sign(
    imgref: &ImageReference,
    signing: &Signing,
    options: &SourceOptions,
) -> Result<Vec<Signed>> {
    check(imgref, signing)?;
    let digests = Place::of(imgref)?.digests(imgref, options).await?;
    let mut signed = Vec::new();
    for digest in digests {
        signed.extend(of_digest(imgref, digest, signing, options).await?);
    }
    Ok(signed)
}

/// Signs the manifest with this digest, whatever `imgref` means now, if anybody is to sign it.
#[context("Signing {imgref}")]
pub async fn sign_digest(
    imgref: &ImageReference,
    digest: Digest,
    signing: &Signing,
    options: &SourceOptions,
) -> Result<Vec<Signed>> {
    match signing.signers.is_empty() {
        true => Ok(Vec::new()),
        false => of_digest(imgref, digest, signing, options).await,
    }
}

async fn of_digest(
    imgref: &ImageReference,
    digest: Digest,
    signing: &Signing,
    options: &SourceOptions,
) -> Result<Vec<Signed>> {
    let place = Place::of(imgref)?;
    let identity = place.identity(signing)?;
    let now = chrono::Utc::now().timestamp();
    let mut signed = Vec::new();
    for signer in &signing.signers {
        let place = match signer {
            Signer::Sigstore(key) => {
                let payload = payload(Kind::Sigstore, &identity, &digest, now);
                let attachment = attach::Attachment::new(key, payload)?;
                match &place {
                    Place::Registry(name) => attachment.push(name, &digest, options).await?,
                    Place::Directory(dir) => files::add(dir, &attachment.to_file())?,
                }
            }
            Signer::Gpg(key) => {
                let payload = payload(Kind::Simple, &identity, &digest, now);
                let signature = key.sign(payload).await?;
                match &place {
                    Place::Registry(name) => {
                        let dir = signature_directory(name, &digest, &options.host)?;
                        files::add(&dir, &signature)?
                    }
                    Place::Directory(dir) => files::add(dir, &signature)?,
                }
            }
        };
        signed.push(Signed { digest, place });
    }
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_to_sign_under() {
        for (typed, meant) in [
            ("quay.io/a/b:1", "quay.io/a/b:1"),
            ("quay.io/a/b", "quay.io/a/b"),
            ("localhost:5000/b", "localhost:5000/b"),
            ("docker.io/debian:13", "docker.io/library/debian:13"),
        ] {
            assert_eq!(identity(typed).unwrap(), meant);
        }
        for bad in ["", "quay.io/a b", "quay.io/A:1", "quay.io/a:1@sha256:00"] {
            assert!(identity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_is_that_of_the_image_or_another_one() {
        let hex = Digest::of(b"").hex();
        let other = Signing {
            identity: Some("quay.io/x:1".into()),
            ..Signing::default()
        };
        for (image, expected) in [
            ("docker://quay.io/a/b:1", Ok("quay.io/a/b:1")),
            ("docker://quay.io/a/b", Ok("quay.io/a/b:latest")),
            (
                &format!("docker://quay.io/a/b@sha256:{hex}"),
                Ok("quay.io/a/b"),
            ),
            ("dir:/x", Err(SignError::Identity)),
        ] {
            let place = Place::of(&image.parse().unwrap()).unwrap();
            let expected = expected.map(str::to_owned);
            assert_eq!(place.identity(&Signing::default()), expected, "{image}");
            assert_eq!(place.identity(&other).unwrap(), "quay.io/x:1");
        }
        let key = GpgKey {
            key: "x".into(),
            passphrase: None,
            home: None,
        };
        let somebody = Signing {
            signers: vec![Signer::Gpg(key)],
            ..Signing::default()
        };
        for image in ["oci:/x:1", "oci-archive:/x", "containers-storage:x"] {
            let nobody = check(&image.parse().unwrap(), &other);
            assert!(nobody.is_ok(), "{image}");
            let error = check(&image.parse().unwrap(), &somebody).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(SignError::Transport(_))),
                "{image}"
            );
        }
    }
}
