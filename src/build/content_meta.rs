//! The file that says which object goes into which layer (`--contentmeta`), as build systems write it for
//! ostree-ext. JSON comes in, layers in the order of the file go out. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use thiserror::Error;

use super::LayerPlan;
use crate::image::Digest;

/// The only version there is.
const VERSION: u32 = 1;

/// Why a file says nothing usable.
#[derive(Debug, Error)]
pub enum ContentMetaError {
    /// No JSON, or of another shape.
    #[error("it is not valid JSON of a content map: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that is not known.
    #[error("it has version {0}, but only version {VERSION} is known")]
    Version(u32),
    /// Layers in an order of their own.
    #[error("it asks for an ordered mapping, which is not supported; leave `ordered` out")]
    Ordered,
    /// An object in a layer that is not listed.
    #[error("it has object {object} in layer {layer:?}, which is not in its list of layers")]
    Layer {
        /// The object.
        object: Digest,
        /// The layer.
        layer: String,
    },
    /// The same layer twice.
    #[error("it lists layer {0:?} twice")]
    Twice(String),
}

/// What such a file says.
#[derive(Debug)]
pub struct ContentMeta {
    /// When the image was made, RFC 3339.
    pub created: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The layers, those without objects left out.
    pub layers: Vec<LayerPlan>,
}

#[derive(Deserialize)]
struct Wire {
    version: u32,
    created: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    layers: Ordered,
    mapping: BTreeMap<Checksum, String>,
    ordered: Option<bool>,
}

/// A checksum without the name of its algorithm.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Checksum(Digest);

impl TryFrom<String> for Checksum {
    type Error = crate::image::DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Digest::from_hex(&text).map(Self)
    }
}

/// A JSON object in its order.
struct Ordered(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, String>()? {
            if entry.0.is_empty() {
                return Err(de::Error::custom("a layer has no name"));
            }
            entries.push(entry);
        }
        Ok(Ordered(entries))
    }
}

impl ContentMeta {
    /// Reads a file.
    pub fn parse(text: &[u8]) -> Result<Self, ContentMetaError> {
        let wire: Wire = serde_json::from_slice(text)?;
        if wire.version != VERSION {
            return Err(ContentMetaError::Version(wire.version));
        }
        if wire.ordered == Some(true) {
            return Err(ContentMetaError::Ordered);
        }
        let mut index = HashMap::new();
        let mut layers = Vec::new();
        for (id, name) in wire.layers.0 {
            if index.insert(id.clone(), layers.len()).is_some() {
                return Err(ContentMetaError::Twice(id));
            }
            layers.push(LayerPlan {
                components: vec![name.clone()],
                name,
                ..LayerPlan::default()
            });
        }
        // In the order of the objects, so that the lists are sorted.
        for (Checksum(object), layer) in wire.mapping {
            match index.get(&layer) {
                Some(index) => layers[*index].objects.push(object),
                None => return Err(ContentMetaError::Layer { object, layer }),
            }
        }
        layers.retain(|layer| !layer.objects.is_empty());
        Ok(Self {
            created: wire.created,
            labels: wire.labels.unwrap_or_default(),
            layers,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(n: u8) -> String {
        format!("{n:02x}").repeat(32)
    }

    #[test]
    fn layers_keep_their_order_and_objects_are_sorted() {
        let text = format!(
            r#"{{"version":1,"created":"2026-01-01T00:00:00Z","labels":{{"a":"b"}},"ordered":false,
            "layers":{{"z":"zsh-5.9","none":"empty","a":"aide"}},
            "mapping":{{"{}":"a","{}":"z","{}":"a"}}}}"#,
            hex(9),
            hex(5),
            hex(1),
        );
        let meta = ContentMeta::parse(text.as_bytes()).unwrap();
        assert_eq!(meta.created.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(meta.labels["a"], "b");
        let names: Vec<_> = meta
            .layers
            .iter()
            .map(|l| (l.name.as_str(), l.objects.len()))
            .collect();
        assert_eq!(names, [("zsh-5.9", 1), ("aide", 2)]);
        assert!(meta.layers[1].objects.is_sorted());
        assert_eq!(meta.layers[0].components, ["zsh-5.9"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |text: &str| ContentMeta::parse(text.as_bytes()).unwrap_err().to_string();
        let object = hex(1);
        for (text, words) in [
            (
                r#"{"version":2,"layers":{},"mapping":{}}"#.into(),
                "version 2",
            ),
            (
                r#"{"version":1,"layers":{},"mapping":{},"ordered":true}"#.into(),
                "ordered",
            ),
            (
                r#"{"version":1,"layers":{"a":"1","a":"2"},"mapping":{}}"#.into(),
                "twice",
            ),
            (
                format!(r#"{{"version":1,"layers":{{}},"mapping":{{"{object}":"a"}}}}"#),
                "not in its list",
            ),
            (
                r#"{"version":1,"layers":{},"mapping":{"zz":"a"}}"#.into(),
                "not valid JSON",
            ),
            (
                r#"{"version":1,"layers":{"":"a"},"mapping":{}}"#.into(),
                "no name",
            ),
            ("[]".into(), "not valid JSON"),
        ] {
            let text: String = text;
            assert!(refused(&text).contains(words), "{text}: {}", refused(&text));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\{\\}\\[\\]\":,a-z0-9]{0,200}") {
            let _ = ContentMeta::parse(text.as_bytes());
        }
    }
}
