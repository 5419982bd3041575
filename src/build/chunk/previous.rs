//! What an earlier build tells the next: which components were together in a chunk, and with
//! images made here, which of them changed how often. Layer annotations come in and go out;
//! whatever makes no sense in them is taken for not there, since it can only make a plan worse.

use std::collections::BTreeMap;

use super::item::Item;
use crate::image::{ANNOTATION_COMPONENTS, Manifest};

/// Layer annotation with what is remembered about the items of a chunk: comma-joined
/// `NAME:FINGERPRINT:CHANGES:BUILDS`, the names percent-encoded, the fingerprint in hexadecimal.
pub const ANNOTATION_MEMORY: &str = "bowline.chunk";

/// More builds than this are not counted; older ones fade.
const MOST_BUILDS: u32 = 32;

/// The chunks of an earlier build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    pub(super) chunks: Vec<PreviousChunk>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PreviousChunk {
    pub components: Vec<String>,
    /// By key; `None` in an image that was made by another program.
    pub items: Option<BTreeMap<String, Memory>>,
}

/// What is remembered of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub fingerprint: u32,
    pub changes: u32,
    pub builds: u32,
}

impl Previous {
    /// Reads the chunks of an image. Layers without components are no chunks.
    pub fn of(manifest: &Manifest) -> Self {
        Self::from_annotations(manifest.layers.iter().map(|layer| &layer.annotations))
    }

    /// Reads the annotations of layers.
    pub fn from_annotations<'a>(
        layers: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
    ) -> Self {
        let chunks = layers.into_iter().filter_map(|annotations| {
            let components = annotations.get(ANNOTATION_COMPONENTS)?.split(',');
            Some(PreviousChunk {
                components: components
                    .filter(|name| !name.is_empty())
                    .map(str::to_string)
                    .collect(),
                items: annotations.get(ANNOTATION_MEMORY).map(|text| recall(text)),
            })
        });
        Self {
            chunks: chunks.collect(),
        }
    }
}

fn recall(text: &str) -> BTreeMap<String, Memory> {
    let item = |part: &str| {
        let mut fields = part.split(':');
        let key = unescape(fields.next()?)?;
        let memory = Memory {
            fingerprint: u32::from_str_radix(fields.next()?, 16).ok()?,
            changes: fields.next()?.parse().ok()?,
            builds: fields.next()?.parse().ok()?,
        };
        let sound = memory.changes <= memory.builds && memory.builds <= MOST_BUILDS;
        (sound && fields.next().is_none()).then_some((key, memory))
    };
    text.split(',').filter_map(item).collect()
}

/// The annotations of a chunk of these items.
pub(super) fn remember(items: &[Item]) -> BTreeMap<String, String> {
    let mut parts: Vec<String> = items
        .iter()
        .map(|item| {
            let (changes, builds) = fade(item.changes, item.builds);
            let key = escape(&item.key);
            format!("{key}:{:08x}:{changes}:{builds}", item.fingerprint())
        })
        .collect();
    parts.sort_unstable();
    BTreeMap::from([(ANNOTATION_MEMORY.to_string(), parts.join(","))])
}

fn fade(changes: u32, builds: u32) -> (u32, u32) {
    match builds > MOST_BUILDS {
        true => (changes.div_ceil(2), builds / 2),
        false => (changes, builds),
    }
}

/// Percent-encodes what would end a name, and what is not printable ASCII.
fn escape(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b':' | b'%');
    let mut text = String::new();
    for byte in name.bytes() {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text += &format!("%{byte:02X}"),
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
