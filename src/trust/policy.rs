//! policy.json as containers/image reads it: strictly. Bytes come in; requirements by transport
//! and scope go out. Never overlooks a key: what is not understood is an error, for a policy that
//! is half understood protects nobody.

use std::collections::BTreeMap;

use super::json::{Json, Problem, named};
use super::requirement::{Requirement, parse_list};
use super::scope::{is_valid, scopes, transport_word};
use crate::image::ImageReference;

/// Requirements by scope.
type Scopes = BTreeMap<String, Vec<Requirement>>;

/// A policy.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    default: Vec<Requirement>,
    transports: BTreeMap<String, Scopes>,
}

/// What applies to one image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Applying<'a> {
    /// Where it stands, in words.
    pub(super) scope: String,
    /// All must hold; never empty.
    pub(super) requirements: &'a [Requirement],
}

impl Policy {
    /// Parses the bytes of a policy.json; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json = Json::parse(bytes).map_err(|error| format!("it is not valid JSON: {error}"))?;
        let mut object = json.object()?;
        let default = object.take("default").ok_or("default is missing")?;
        let default = named("default", parse_list(default))?;
        let transports = match object.take("transports") {
            Some(json) => named("transports", parse_transports(json))?,
            None => BTreeMap::new(),
        };
        object.finish()?;
        Ok(Self {
            default,
            transports,
        })
    }

    /// The requirements for `imgref`: those of the nearest scope, else of its transport, else the
    /// default. An error says why the image's scopes cannot be told.
    pub(super) fn applying(&self, imgref: &ImageReference) -> Result<Applying<'_>, Problem> {
        let word = transport_word(imgref.transport);
        let (scope, requirements) = match self.nearest(imgref)? {
            Some(("", list)) => (format!("all images of transport {word:?}"), list),
            Some((scope, list)) => (format!("scope {scope:?} of transport {word:?}"), list),
            None => ("the default".into(), &self.default),
        };
        Ok(Applying {
            scope,
            requirements,
        })
    }

    fn nearest(
        &self,
        imgref: &ImageReference,
    ) -> Result<Option<(&str, &Vec<Requirement>)>, Problem> {
        let Some(known) = self.transports.get(transport_word(imgref.transport)) else {
            return Ok(None);
        };
        let mut searched = scopes(imgref)?;
        searched.push(String::new());
        let found = searched.iter().find_map(|s| known.get_key_value(s));
        Ok(found.map(|(scope, list)| (&**scope, list)))
    }
}

fn parse_transports(json: Json) -> Result<BTreeMap<String, Scopes>, Problem> {
    let members = json.object()?.into_members().into_iter();
    let parsed = members.map(|(word, json)| {
        let scopes = named(&word, parse_scopes(&word, json))?;
        Ok((word, scopes))
    });
    parsed.collect()
}

fn parse_scopes(transport: &str, json: Json) -> Result<Scopes, Problem> {
    let members = json.object()?.into_members().into_iter();
    let parsed = members.map(|(scope, json)| {
        if !is_valid(transport, &scope) {
            return Err(format!("{scope:?} cannot be a scope of this transport"));
        }
        let list = named(&format!("scope {scope:?}"), parse_list(json))?;
        Ok((scope, list))
    });
    parsed.collect()
}
