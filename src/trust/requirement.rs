//! One requirement of policy.json: what must hold for an image (containers-policy.json(5), "POLICY
//! REQUIREMENTS"). JSON comes in; the kind of requirement goes out, its keys and identities checked
//! for form only. Never reads a key file and never verifies a signature.

use std::fmt;

use super::json::{Json, Object, Problem, named};
use crate::image::RegistryName;

/// What must hold for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Anything will do.
    InsecureAcceptAnything,
    /// Nothing will do.
    Reject,
    /// A GPG signature of the image.
    SignedBy,
    /// A signature of the image's base layer.
    SignedBaseLayer,
    /// A sigstore signature of the image.
    SigstoreSigned,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsecureAcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SignedBy => "signedBy",
            Self::SignedBaseLayer => "signedBaseLayer",
            Self::SigstoreSigned => "sigstoreSigned",
        })
    }
}

impl Requirement {
    pub(super) fn parse(json: Json) -> Result<Self, Problem> {
        let mut object = json.object()?;
        let requirement = match &*object.take_text("type")? {
            "insecureAcceptAnything" => Self::InsecureAcceptAnything,
            "reject" => Self::Reject,
            "signedBy" => signed_by(&mut object)?,
            "signedBaseLayer" => {
                let identity = object.take("baseLayerIdentity");
                let identity = identity.ok_or("baseLayerIdentity is missing")?;
                named("baseLayerIdentity", check_identity(identity))?;
                Self::SignedBaseLayer
            }
            "sigstoreSigned" => sigstore_signed(&mut object)?,
            other => return Err(format!("unknown requirement type {other:?}")),
        };
        object.finish()?;
        Ok(requirement)
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
    match &*object.take_text("keyType")? {
        "GPGKeys" | "signedByGPGKeys" | "X509Certificates" | "signedByX509CAs" => {}
        other => return Err(format!("unknown keyType {other:?}")),
    }
    let sources = [
        path(object, "keyPath")?,
        match object.take("keyPaths") {
            None | Some(Json::Null) => false,
            Some(json) => named("keyPaths", texts(json)).map(|_| true)?,
        },
        data(object, "keyData")?,
    ];
    if count(&sources) != 1 {
        return Err("exactly one of keyPath, keyPaths and keyData must be there".into());
    }
    signed_identity(object)?;
    Ok(Requirement::SignedBy)
}

fn sigstore_signed(object: &mut Object) -> Result<Requirement, Problem> {
    let fulcio = certificate_source(object, "fulcio", check_fulcio)?;
    let pki = certificate_source(object, "pki", check_pki)?;
    let keys = [
        path(object, "keyPath")?,
        paths(object, "keyPaths")?,
        data(object, "keyData")?,
        datas(object, "keyDatas")?,
        fulcio,
        pki,
    ];
    if count(&keys) != 1 {
        return Err(
            "exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki must be there"
                .into(),
        );
    }
    let rekor = [
        path(object, "rekorPublicKeyPath")?,
        paths(object, "rekorPublicKeyPaths")?,
        data(object, "rekorPublicKeyData")?,
        datas(object, "rekorPublicKeyDatas")?,
    ];
    match count(&rekor) {
        0 if fulcio => return Err("fulcio needs a Rekor public key".into()),
        1 if pki => return Err("pki cannot go with a Rekor public key".into()),
        0 | 1 => {}
        _ => return Err("at most one kind of Rekor public key may be there".into()),
    }
    signed_identity(object)?;
    Ok(Requirement::SigstoreSigned)
}

fn certificate_source(
    object: &mut Object,
    key: &str,
    check: fn(&mut Object) -> Result<(), Problem>,
) -> Result<bool, Problem> {
    let Some(json) = object.take(key) else {
        return Ok(false);
    };
    let checked = json.object().and_then(|mut inner| {
        check(&mut inner)?;
        inner.finish()
    });
    named(key, checked)?;
    Ok(true)
}

fn check_fulcio(object: &mut Object) -> Result<(), Problem> {
    if count(&[path(object, "caPath")?, data(object, "caData")?]) != 1 {
        return Err("exactly one of caPath and caData must be there".into());
    }
    for key in ["oidcIssuer", "subjectEmail"] {
        if object.take_text(key)?.is_empty() {
            return Err(format!("{key} is missing"));
        }
    }
    Ok(())
}

fn check_pki(object: &mut Object) -> Result<(), Problem> {
    let roots = [path(object, "caRootsPath")?, data(object, "caRootsData")?];
    if count(&roots) != 1 {
        return Err("exactly one of caRootsPath and caRootsData must be there".into());
    }
    let between = [
        path(object, "caIntermediatesPath")?,
        data(object, "caIntermediatesData")?,
    ];
    if count(&between) > 1 {
        return Err("caIntermediatesPath and caIntermediatesData cannot both be there".into());
    }
    let subject = [
        path(object, "subjectEmail")?,
        path(object, "subjectHostname")?,
    ];
    match count(&subject) {
        0 => Err("subjectEmail or subjectHostname must be there".into()),
        _ => Ok(()),
    }
}

fn count(present: &[bool]) -> usize {
    present.iter().filter(|p| **p).count()
}

/// Whether a text that is not empty is there.
fn path(object: &mut Object, key: &str) -> Result<bool, Problem> {
    object.take_text(key).map(|text| !text.is_empty())
}

fn data(object: &mut Object, key: &str) -> Result<bool, Problem> {
    match object.take(key) {
        None | Some(Json::Null) => Ok(false),
        Some(json) => named(key, json.base64()).map(|_| true),
    }
}

fn paths(object: &mut Object, key: &str) -> Result<bool, Problem> {
    let list = object.take(key).map(texts).transpose();
    filled(key, named(key, list)?)
}

fn datas(object: &mut Object, key: &str) -> Result<bool, Problem> {
    let decode = |json: Json| json.list()?.into_iter().map(Json::base64).collect();
    let list: Result<Option<Vec<_>>, _> = object.take(key).map(decode).transpose();
    filled(key, named(key, list)?)
}

fn filled<T>(key: &str, list: Option<Vec<T>>) -> Result<bool, Problem> {
    match list {
        Some(list) if list.is_empty() => Err(format!("{key} is empty")),
        list => Ok(list.is_some()),
    }
}

fn texts(json: Json) -> Result<Vec<String>, Problem> {
    json.list()?.into_iter().map(Json::text).collect()
}

fn signed_identity(object: &mut Object) -> Result<(), Problem> {
    match object.take("signedIdentity") {
        Some(json) => named("signedIdentity", check_identity(json)),
        None => Ok(()),
    }
}

/// Checks how the reference in a signature must relate to the image's.
fn check_identity(json: Json) -> Result<(), Problem> {
    let mut object = json.object()?;
    match &*object.take_text("type")? {
        "matchExact" | "matchRepoDigestOrExact" | "matchRepository" => {}
        "exactReference" => {
            let text = object.require_text("dockerReference")?;
            let name = registry_name(&text)?;
            if name.digest.is_none() && !text.rsplit('/').next().unwrap_or_default().contains(':') {
                return Err(format!("{text:?} has neither a tag nor a digest"));
            }
        }
        "exactRepository" => {
            registry_name(&object.require_text("dockerRepository")?)?;
        }
        "remapIdentity" => {
            for key in ["prefix", "signedPrefix"] {
                let prefix = object.require_text(key)?;
                named(key, check_prefix(&prefix))?;
            }
        }
        other => return Err(format!("unknown identity type {other:?}")),
    }
    object.finish()
}

fn registry_name(text: &str) -> Result<RegistryName, Problem> {
    let parsed = text.parse::<RegistryName>();
    parsed.map_err(|error| format!("{text:?} is no image name: {error}"))
}

fn check_prefix(prefix: &str) -> Result<(), Problem> {
    match RegistryName::is_prefix(prefix) {
        true => Ok(()),
        false => Err(format!(
            "{prefix:?} is neither a host nor a repository or namespace"
        )),
    }
}
