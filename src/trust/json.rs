//! JSON as policies and signatures need it: every object keeps all its keys, a key that stands twice
//! is an error (two readers could take different ones), and so is a key that nobody asked for.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Whole numbers below this size are exact in every reader of JSON: 2 to the power of 53.
pub(super) const EXACT: f64 = 9_007_199_254_740_992.0;

/// What is wrong with a part of a policy or a signature, in words.
pub(super) type Problem = String;

/// A JSON value without duplicate keys. Of booleans and numbers that are not whole only the fact
/// that there was one is kept: none has a place in a policy or a signature.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Scalar,
    Int(i64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// The members of an object that have not been taken yet.
#[derive(Debug)]
pub(super) struct Object(Vec<(String, Json)>);

impl Json {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn object(self) -> Result<Object, Problem> {
        match self {
            Self::Object(object) => Ok(object),
            other => Err(format!("expected an object, got {}", other.kind())),
        }
    }

    pub(super) fn list(self) -> Result<Vec<Json>, Problem> {
        match self {
            Self::List(list) => Ok(list),
            Self::Null => Ok(Vec::new()),
            other => Err(format!("expected a list, got {}", other.kind())),
        }
    }

    /// A text; null counts as an empty one.
    pub(super) fn text(self) -> Result<String, Problem> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Null => Ok(String::new()),
            other => Err(format!("expected a text, got {}", other.kind())),
        }
    }

    /// A text; null is none.
    pub(super) fn strict_text(self) -> Result<String, Problem> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(format!("expected a text, got {}", other.kind())),
        }
    }

    /// A text in base64, which may be broken into lines.
    pub(super) fn base64(self) -> Result<Vec<u8>, Problem> {
        decode_base64(&self.text()?)
    }

    /// A whole number.
    pub(super) fn int(self) -> Result<i64, Problem> {
        match self {
            Self::Int(number) => Ok(number),
            other => Err(format!("expected a whole number, got {}", other.kind())),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Scalar => "a boolean or a number that is not whole",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Object {
    /// Takes a member out; `None` where there is none.
    pub(super) fn take(&mut self, key: &str) -> Option<Json> {
        let index = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Takes a text out; an empty one where there is none.
    pub(super) fn take_text(&mut self, key: &str) -> Result<String, Problem> {
        let value = self.take(key).map(Json::text).transpose();
        Ok(named(key, value)?.unwrap_or_default())
    }

    /// Takes a text out that must be there.
    pub(super) fn require_text(&mut self, key: &str) -> Result<String, Problem> {
        named(key, self.require(key)?.text())
    }

    /// Takes a member out that must be there.
    pub(super) fn require(&mut self, key: &str) -> Result<Json, Problem> {
        self.take(key).ok_or_else(|| format!("{key} is missing"))
    }

    /// Takes an object out that must be there.
    pub(super) fn require_object(&mut self, key: &str) -> Result<Object, Problem> {
        named(key, self.require(key)?.object())
    }

    /// Takes a whole number out that must be there.
    pub(super) fn require_int(&mut self, key: &str) -> Result<i64, Problem> {
        named(key, self.require(key)?.int())
    }

    /// Takes bytes in base64 out that must be there.
    pub(super) fn require_base64(&mut self, key: &str) -> Result<Vec<u8>, Problem> {
        named(key, self.require(key)?.base64())
    }

    /// The members in the order of the file.
    pub(super) fn into_members(self) -> Vec<(String, Json)> {
        self.0
    }

    /// Refuses members that nobody took.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((key, _)) => Err(format!("unknown key {key:?}")),
            None => Ok(()),
        }
    }
}

/// Bytes in base64, which may be broken into lines.
pub(super) fn decode_base64(text: &str) -> Result<Vec<u8>, Problem> {
    let decoded = BASE64_STANDARD.decode(text.replace(['\r', '\n'], ""));
    decoded.map_err(|error| format!("it is not base64: {error}"))
}

/// Says in front of a problem which member has it.
pub(super) fn named<T>(key: &str, result: Result<T, Problem>) -> Result<T, Problem> {
    result.map_err(|problem| format!("{key}: {problem}"))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Scalar)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::Scalar, Json::Int))
    }

    /// `1.0` is whole as far as JSON is concerned.
    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        let whole = number.fract() == 0.0 && number.abs() < EXACT;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "it has just been looked at"
        )]
        let int = number as i64;
        Ok(if whole { Json::Int(int) } else { Json::Scalar })
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let mut members = Vec::new();
        while let Some((key, value)) = access.next_entry::<String, Json>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("key {key:?} stands twice")));
            }
            members.push((key, value));
        }
        Ok(Json::Object(Object(members)))
    }
}
