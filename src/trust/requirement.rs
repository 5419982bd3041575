//! One requirement of policy.json: what must hold for an image (containers-policy.json(5), "POLICY
//! REQUIREMENTS"). JSON comes in; the requirement with all its values goes out, its keys and
//! identities checked for form. Never reads a key file and never verifies a signature.

use std::fmt;

use super::identity::Identity;
use super::json::{Json, Object, Problem, named};
use super::material::Material;

/// What must hold for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// Anything will do.
    InsecureAcceptAnything,
    /// Nothing will do.
    Reject,
    /// A GPG signature of the image.
    SignedBy(SignedBy),
    /// A signature of the image's base layer; containers/image has never implemented it.
    SignedBaseLayer,
    /// A sigstore signature of the image.
    SigstoreSigned(Box<SigstoreSigned>),
}

/// The requirement `signedBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    /// Whether `keyType` is `GPGKeys`; the others are words without an implementation.
    pub(super) gpg: bool,
    /// OpenPGP certificates.
    pub(super) keys: Material,
    /// What the signature must say.
    pub(super) identity: Identity,
}

/// The requirement `sigstoreSigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSigned {
    /// Whose signatures count.
    pub(super) signer: Signer,
    /// Keys of transparency logs, PEM, of which one must have seen the signature.
    pub(super) rekor: Option<Material>,
    /// What the signature must say.
    pub(super) identity: Identity,
}

/// Whose sigstore signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signer {
    /// Holders of these keys, PEM.
    Keys(Material),
    /// Whom a Fulcio instance certified.
    Fulcio {
        ca: Material,
        issuer: String,
        email: String,
    },
    /// Whom one's own certificate authority certified; one of email and hostname is there.
    Pki {
        roots: Material,
        intermediates: Option<Material>,
        email: Option<String>,
        hostname: Option<String>,
    },
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsecureAcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SignedBy(_) => "signedBy",
            Self::SignedBaseLayer => "signedBaseLayer",
            Self::SigstoreSigned(_) => "sigstoreSigned",
        })
    }
}

impl Requirement {
    /// Parses one requirement; an error says what is wrong with it.
    pub(super) fn parse(json: Json) -> Result<Self, Problem> {
        let mut object = json.object()?;
        let requirement = match &*object.take_text("type")? {
            "insecureAcceptAnything" => Self::InsecureAcceptAnything,
            "reject" => Self::Reject,
            "signedBy" => signed_by(&mut object)?,
            "signedBaseLayer" => {
                let identity = object.take("baseLayerIdentity");
                let identity = identity.ok_or("baseLayerIdentity is missing")?;
                named("baseLayerIdentity", Identity::parse(identity))?;
                Self::SignedBaseLayer
            }
            "sigstoreSigned" => sigstore_signed(&mut object)?,
            other => return Err(format!("unknown requirement type {other:?}")),
        };
        object.finish()?;
        Ok(requirement)
    }

    /// Whether a signature of either kind could make it hold.
    pub(super) const fn wants_signatures(&self) -> bool {
        matches!(self, Self::SignedBy(_) | Self::SigstoreSigned(_))
    }
}

/// The list of one scope: at least one requirement, all of which must hold.
pub(super) fn parse_list(json: Json) -> Result<Vec<Requirement>, Problem> {
    let list = json.list()?.into_iter().map(Requirement::parse);
    let list: Vec<_> = list.collect::<Result<_, _>>()?;
    match list.is_empty() {
        true => Err("the list of requirements is empty".into()),
        false => Ok(list),
    }
}

fn signed_by(object: &mut Object) -> Result<Requirement, Problem> {
    let gpg = match &*object.take_text("keyType")? {
        "GPGKeys" => true,
        "signedByGPGKeys" | "X509Certificates" | "signedByX509CAs" => false,
        other => return Err(format!("unknown keyType {other:?}")),
    };
    let sources = [
        Material::take_path(object, "keyPath")?,
        Material::take_optional_paths(object, "keyPaths")?,
        Material::take_data(object, "keyData")?,
    ];
    let keys = only(sources).map_err(|count| match count {
        0 => "keyPath, keyPaths or keyData must be there",
        _ => "only one of keyPath, keyPaths and keyData can be there",
    })?;
    let identity = signed_identity(object)?;
    Ok(Requirement::SignedBy(SignedBy {
        gpg,
        keys,
        identity,
    }))
}

fn sigstore_signed(object: &mut Object) -> Result<Requirement, Problem> {
    let signers = [
        certificate_source(object, "fulcio", parse_fulcio)?,
        certificate_source(object, "pki", parse_pki)?,
        Material::take_path(object, "keyPath")?.map(Signer::Keys),
        Material::take_paths(object, "keyPaths")?.map(Signer::Keys),
        Material::take_data(object, "keyData")?.map(Signer::Keys),
        Material::take_datas(object, "keyDatas")?.map(Signer::Keys),
    ];
    let signer = only(signers).map_err(
        |_| "exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki must be there",
    )?;
    let rekor = at_most_one([
        Material::take_path(object, "rekorPublicKeyPath")?,
        Material::take_paths(object, "rekorPublicKeyPaths")?,
        Material::take_data(object, "rekorPublicKeyData")?,
        Material::take_datas(object, "rekorPublicKeyDatas")?,
    ])
    .map_err(|_| "at most one kind of Rekor public key may be there")?;
    match (&signer, &rekor) {
        (Signer::Fulcio { .. }, None) => return Err("fulcio needs a Rekor public key".into()),
        (Signer::Pki { .. }, Some(_)) => {
            return Err("pki cannot go with a Rekor public key".into());
        }
        _ => {}
    }
    let identity = signed_identity(object)?;
    Ok(Requirement::SigstoreSigned(Box::new(SigstoreSigned {
        signer,
        rekor,
        identity,
    })))
}

fn certificate_source(
    object: &mut Object,
    key: &str,
    parse: fn(&mut Object) -> Result<Signer, Problem>,
) -> Result<Option<Signer>, Problem> {
    let Some(json) = object.take(key) else {
        return Ok(None);
    };
    let parsed = json.object().and_then(|mut inner| {
        let signer = parse(&mut inner)?;
        inner.finish()?;
        Ok(signer)
    });
    named(key, parsed).map(Some)
}

fn parse_fulcio(object: &mut Object) -> Result<Signer, Problem> {
    let sources = [
        Material::take_path(object, "caPath")?,
        Material::take_data(object, "caData")?,
    ];
    let ca = only(sources).map_err(|_| "exactly one of caPath and caData must be there")?;
    let mut text = |key: &str| match object.take_text(key)? {
        empty if empty.is_empty() => Err(format!("{key} is missing")),
        text => Ok(text),
    };
    Ok(Signer::Fulcio {
        ca,
        issuer: text("oidcIssuer")?,
        email: text("subjectEmail")?,
    })
}

fn parse_pki(object: &mut Object) -> Result<Signer, Problem> {
    let roots = [
        Material::take_path(object, "caRootsPath")?,
        Material::take_data(object, "caRootsData")?,
    ];
    let roots =
        only(roots).map_err(|_| "exactly one of caRootsPath and caRootsData must be there")?;
    let intermediates = at_most_one([
        Material::take_path(object, "caIntermediatesPath")?,
        Material::take_data(object, "caIntermediatesData")?,
    ])
    .map_err(|_| "caIntermediatesPath and caIntermediatesData cannot both be there")?;
    let mut text = |key: &str| {
        let text = object.take_text(key)?;
        Ok::<_, Problem>(Some(text).filter(|t| !t.is_empty()))
    };
    let (email, hostname) = (text("subjectEmail")?, text("subjectHostname")?);
    if email.is_none() && hostname.is_none() {
        return Err("subjectEmail or subjectHostname must be there".into());
    }
    Ok(Signer::Pki {
        roots,
        intermediates,
        email,
        hostname,
    })
}

/// The one that is there; an error says how many are.
fn only<T>(candidates: impl IntoIterator<Item = Option<T>>) -> Result<T, usize> {
    at_most_one(candidates)?.ok_or(0)
}

fn at_most_one<T>(candidates: impl IntoIterator<Item = Option<T>>) -> Result<Option<T>, usize> {
    let mut there: Vec<T> = candidates.into_iter().flatten().collect();
    match there.len() {
        0 | 1 => Ok(there.pop()),
        many => Err(many),
    }
}

fn signed_identity(object: &mut Object) -> Result<Identity, Problem> {
    match object.take("signedIdentity") {
        Some(json) => named("signedIdentity", Identity::parse(json)),
        None => Ok(Identity::MatchRepoDigestOrExact),
    }
}
