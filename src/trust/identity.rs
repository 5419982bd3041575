//! What a signature says it was made for, against what an image is called (containers-policy.json(5),
//! "signedIdentity"). JSON comes in, then two names; "matches" or not goes out.

use super::json::{Json, Object, Problem, named};
use super::named::Named;
use crate::image::RegistryName;

/// How the name in a signature must relate to the image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// The same name and tag, or name and digest.
    MatchExact,
    /// As above, except that an image named by digest needs the same repository only.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This name, whatever the image is called.
    ExactReference(String),
    /// This repository, whatever the image is called.
    ExactRepository(String),
    /// As `MatchRepoDigestOrExact`, the image's `prefix` replaced first.
    Remap {
        prefix: String,
        signed_prefix: String,
    },
}

impl Identity {
    pub(super) fn parse(json: Json) -> Result<Self, Problem> {
        let mut object = json.object()?;
        let identity = match &*object.take_text("type")? {
            "matchExact" => Self::MatchExact,
            "matchRepoDigestOrExact" => Self::MatchRepoDigestOrExact,
            "matchRepository" => Self::MatchRepository,
            "exactReference" => {
                let text = object.require_text("dockerReference")?;
                if Named::parse(&text)?.is_name_only() {
                    return Err(format!("{text:?} has neither a tag nor a digest"));
                }
                Self::ExactReference(text)
            }
            "exactRepository" => {
                let text = object.require_text("dockerRepository")?;
                Named::parse(&text)?;
                Self::ExactRepository(text)
            }
            "remapIdentity" => Self::Remap {
                prefix: prefix(&mut object, "prefix")?,
                signed_prefix: prefix(&mut object, "signedPrefix")?,
            },
            other => return Err(format!("unknown identity type {other:?}")),
        };
        object.finish()?;
        Ok(identity)
    }

    /// Whether a signature for `signed` is one for `image`, which is `None` where the image has no
    /// name in a registry.
    pub(super) fn matches(&self, image: Option<&Named>, signed: &str) -> bool {
        let Ok(signed) = Named::parse(signed) else {
            return false;
        };
        match self {
            Self::ExactReference(text) => {
                Named::parse(text).is_ok_and(|wanted| exact(&wanted, &signed))
            }
            Self::ExactRepository(text) => {
                Named::parse(text).is_ok_and(|wanted| wanted.name == signed.name)
            }
            _ => image.is_some_and(|image| self.matches_image(image, &signed)),
        }
    }

    fn matches_image(&self, image: &Named, signed: &Named) -> bool {
        match self {
            Self::MatchExact => exact(image, signed),
            Self::MatchRepoDigestOrExact => repo_digest_or_exact(image, signed),
            Self::MatchRepository => image.name == signed.name,
            Self::Remap {
                prefix,
                signed_prefix,
            } => image
                .remapped(prefix, signed_prefix)
                .is_ok_and(|image| repo_digest_or_exact(&image, signed)),
            Self::ExactReference(_) | Self::ExactRepository(_) => false,
        }
    }

    /// What is asked for, for explanations.
    pub(super) fn words(&self) -> String {
        match self {
            Self::MatchExact => "the image's exact name".into(),
            Self::MatchRepoDigestOrExact => {
                "the image's exact name, or its repository where the image is named by digest"
                    .into()
            }
            Self::MatchRepository => "the image's repository".into(),
            Self::ExactReference(text) => format!("exactly {text}"),
            Self::ExactRepository(text) => format!("repository {text}"),
            Self::Remap {
                prefix,
                signed_prefix,
            } => format!("the image's name with {signed_prefix} in place of {prefix}"),
        }
    }
}

fn exact(wanted: &Named, signed: &Named) -> bool {
    !wanted.is_name_only() && !signed.is_name_only() && wanted == signed
}

fn repo_digest_or_exact(image: &Named, signed: &Named) -> bool {
    match (&image.tag, &image.digest) {
        _ if signed.is_name_only() => false,
        (Some(_), _) => image == signed,
        (None, Some(_)) => image.name == signed.name,
        (None, None) => false,
    }
}

fn prefix(object: &mut Object, key: &str) -> Result<String, Problem> {
    let prefix = object.require_text(key)?;
    let checked = match RegistryName::is_prefix(&prefix) {
        true => Ok(prefix),
        false => Err(format!(
            "{prefix:?} is neither a host nor a repository or namespace"
        )),
    };
    named(key, checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::vectors::{list, load, text};

    #[test]
    fn matchers_agree_with_containers_image() {
        let Some((_, table)) = load("signatures") else {
            return;
        };
        let groups = table["identity_matchers"].as_mapping().unwrap();
        let mut count = 0;
        for case in groups.iter().flat_map(|(_, group)| list(group, "cases")) {
            let json = serde_json::to_vec(&case["identity"]).unwrap();
            let identity = Identity::parse(Json::parse(&json).unwrap());
            let loads = case["identity_loads"].as_bool().unwrap_or(true);
            assert_eq!(identity.is_ok(), loads, "{case:?}: {identity:?}");
            let Ok(identity) = identity else { continue };
            let image = Named::parse(text(case, "image")).ok();
            let found = identity.matches(image.as_ref(), text(case, "signed"));
            assert_eq!(Some(found), case["matches"].as_bool(), "{case:?}");
            count += 1;
        }
        assert!(count > 200, "{count}");
    }
}
