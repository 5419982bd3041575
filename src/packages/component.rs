//! Components that the maker of an image names: an extended attribute of a file, or of a directory
//! for all that is below it (as rpm-ostree and chunkah read it).

/// Extended attribute with the name of a component. Its files get a chunk of their own.
pub const XATTR_COMPONENT: &str = "user.component";

/// The longest name that is taken, in bytes.
const MAX_NAME: usize = 256;

/// A component that was named by an extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component(String);

impl Component {
    /// Reads the value of the attribute; `None` where it is no name.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let sound = !text.is_empty() && text.len() <= MAX_NAME;
        // A comma parts the names in an annotation.
        let sound = sound && !text.contains(|c: char| c.is_control() || c == ',');
        sound.then(|| Self(text.to_string()))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_names_are_taken() {
        for (value, name) in [
            (&b"kernel"[..], Some("kernel")),
            (b" my app\n\0", Some("my app")),
            (b"", None),
            (b" \0", None),
            (b"a,b", None),
            (b"a\nb", None),
            (b"\xff", None),
            (&[b'a'; 257], None),
        ] {
            let found = Component::parse(value);
            assert_eq!(found.as_ref().map(Component::name), name, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read(value in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(component) = Component::parse(&value) {
                let name = component.name();
                prop_assert!(!name.is_empty() && !name.contains([',', '\n', '\0']));
            }
        }
    }
}
