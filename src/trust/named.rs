//! Names as signatures and policies write them: as an image's, but a tag and a digest may stand
//! together, or neither. Text comes in, a normal form goes out that can be compared.

use std::fmt;

use super::json::Problem;
use crate::image::RegistryName;

/// A name in its normal form: host and `library/` filled in, a tag not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// `host[:port]/repository`.
    pub(super) name: String,
    pub(super) tag: Option<String>,
    /// `sha256:…`.
    pub(super) digest: Option<String>,
}

impl Named {
    /// Parses `[host/]repository[:tag][@digest]`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let bad = |error: &dyn fmt::Display| format!("{text:?} is no image name: {error}");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        if is_hex_id(rest) {
            return Err(bad(&"it looks like an image ID"));
        }
        if let Some(digest) = &digest {
            let parsed = digest.parse::<crate::image::Digest>();
            parsed.map_err(|error| bad(&error))?;
        }
        let parsed: RegistryName = rest.parse().map_err(|error| bad(&error))?;
        let name = format!("{}/{}", parsed.host, parsed.repository);
        if name.len() > MAX_NAME {
            return Err(bad(&"it is too long"));
        }
        let last = rest.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            name,
            tag: parsed.tag.filter(|_| last.contains(':')),
            digest,
        })
    }

    /// The name of an image in a registry; its tag is filled in where it has no digest.
    pub(super) fn of(name: &RegistryName) -> Self {
        Self {
            name: format!("{}/{}", name.host, name.repository),
            tag: name.tag.clone(),
            digest: name.digest.map(|digest| digest.to_string()),
        }
    }

    pub(super) const fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The name with `new` in place of `prefix`, or unchanged where it does not begin with it.
    pub(super) fn remapped(&self, prefix: &str, new: &str) -> Result<Self, Problem> {
        let rest = self.name.strip_prefix(prefix);
        let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Ok(self.clone());
        };
        let text = Self {
            name: format!("{new}{rest}"),
            ..self.clone()
        };
        let parsed = Self::parse(&text.to_string())?;
        // What only has a meaning after a host has been filled in is not what the policy says.
        match parsed == text {
            true => Ok(parsed),
            false => Err(format!("{text} is no full name")),
        }
    }
}

/// What containers/image takes for a name, host included, in bytes.
const MAX_NAME: usize = 255;

/// 64 hex digits name an image ID, never a repository.
fn is_hex_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::vectors::{list, load, text};

    #[test]
    fn remapping_agrees_with_containers_image() {
        let Some((_, table)) = load("signatures") else {
            return;
        };
        for case in list(&table["remap_rewriting"], "cases") {
            let named = Named::parse(text(case, "reference")).unwrap();
            let found = named.remapped(text(case, "prefix"), text(case, "signed_prefix"));
            let found = found.map_or("error".into(), |named| named.to_string());
            assert_eq!(found, text(case, "result"), "{case:?}");
        }
        for case in list(&table["remap_prefix_matching"], "cases") {
            // A host alone is a name to the matching code only.
            let Ok(named) = Named::parse(text(case, "reference")) else {
                continue;
            };
            let moved = named
                .remapped(text(case, "prefix"), "moved.example/x")
                .unwrap();
            let matches = moved != named;
            assert_eq!(Some(matches), case["matches"].as_bool(), "{case:?}");
        }
    }
}
