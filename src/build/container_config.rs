//! The file that says what a container of an image gets (`--config`): the properties of an image config's
//! `config`. JSON comes in, properties that an image may have go out. Pure.
//!
//! Shapes: image-spec, config.md; what it does not know is taken as it is.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// Why a file says nothing usable.
#[derive(Debug, Error)]
pub enum ContainerConfigError {
    /// No JSON, or of another shape.
    #[error("it is no JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// A property that others could not read.
    #[error("its {property} is not {expected}")]
    Property {
        /// The property.
        property: String,
        /// What it has to be.
        expected: &'static str,
    },
}

/// Reads a file. Properties without a value are left out.
pub fn container_config(text: &[u8]) -> Result<BTreeMap<String, Value>, ContainerConfigError> {
    let mut config: BTreeMap<String, Value> = serde_json::from_slice(text)?;
    config.retain(|_, value| !value.is_null());
    for (property, value) in &config {
        if let Some(expected) = wrong(property, value) {
            let property = property.clone();
            return Err(ContainerConfigError::Property { property, expected });
        }
    }
    Ok(config)
}

/// What a property has to be, where it is something else.
fn wrong(property: &str, value: &Value) -> Option<&'static str> {
    let texts = |list: &Vec<Value>| list.iter().all(Value::is_string);
    let (right, expected) = match property {
        "User" | "WorkingDir" | "StopSignal" => (value.is_string(), "a text"),
        "Env" | "Entrypoint" | "Cmd" => (value.as_array().is_some_and(texts), "a list of texts"),
        "Labels" => {
            let labels = value.as_object();
            let texts = labels.is_some_and(|labels| labels.values().all(Value::is_string));
            (texts, "an object of texts")
        }
        "ExposedPorts" | "Volumes" => {
            let names = value.as_object();
            let objects = names.is_some_and(|names| names.values().all(Value::is_object));
            (objects, "an object of empty objects")
        }
        "ArgsEscaped" => (value.is_boolean(), "true or false"),
        _ => return None,
    };
    (!right).then_some(expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_images_may_have_is_taken() {
        let text = r#"{"User":"1","Env":["A=b"],"Cmd":null,"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}},
            "Healthcheck":{"Test":["NONE"]},"ArgsEscaped":true,"Entrypoint":[],"WorkingDir":"/"}"#;
        let config = container_config(text.as_bytes()).unwrap();
        assert_eq!(config.get("Cmd"), None);
        assert_eq!(config["Healthcheck"], json!({"Test": ["NONE"]}));
        assert_eq!(config.len(), 8);
        assert!(container_config(b"{}").unwrap().is_empty());
    }

    #[test]
    fn what_others_could_not_read_is_refused() {
        for (text, words) in [
            ("[]", "no JSON object"),
            ("{\"User\":\"1\"", "no JSON object"),
            ("{\"User\":1}", "its User is not a text"),
            ("{\"Env\":\"A=b\"}", "its Env is not a list of texts"),
            ("{\"Cmd\":[1]}", "its Cmd is not a list of texts"),
            (
                "{\"Labels\":{\"a\":1}}",
                "its Labels is not an object of texts",
            ),
            ("{\"Labels\":[]}", "its Labels is not an object of texts"),
            (
                "{\"Volumes\":[\"/a\"]}",
                "its Volumes is not an object of empty",
            ),
        ] {
            let error = container_config(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\{\\}\\[\\]\":,a-zLU0-9]{0,60}") {
            let _ = container_config(text.as_bytes());
        }
    }
}
