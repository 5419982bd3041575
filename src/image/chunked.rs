//! Where a zstd:chunked layer keeps its table of contents. A layer's descriptor comes in, checked
//! positions in its blob go out. Pure: never fetches or parses the table itself.
//!
//! Annotations: containers/storage, "zstd:chunked". Both parts are skippable zstd frames behind
//! the layer's own frames, so that whoever does not know them reads plain zstd.

use std::ops::Range;

use super::{Compression, Digest, Layer};

const TOC_DIGEST: &str = "io.github.containers.zstd-chunked.manifest-checksum";
const TOC_POSITION: &str = "io.github.containers.zstd-chunked.manifest-position";
const TAR_SPLIT_POSITION: &str = "io.github.containers.zstd-chunked.tarsplit-position";
/// The only type of table there is.
const TOC_TYPE: u64 = 1;
/// Most compressed bytes of one part.
const MAX_COMPRESSED: u64 = 64 << 20;
/// Most bytes of one part when inflated.
const MAX_INFLATED: u64 = 512 << 20;
/// Most bytes between the two parts: the header of a frame has 8.
const MAX_GAP: u64 = 4096;

/// A part of a blob that holds zstd data of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its bytes in the blob.
    pub bytes: Range<u64>,
    /// Bytes when inflated.
    pub inflated: u64,
}

/// What is behind the files of a zstd:chunked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    /// The table of contents.
    pub toc: Part,
    /// Digest of the table, compressed.
    pub toc_digest: Digest,
    /// What of the tar stream is no file content.
    pub tar_split: Part,
}

impl Chunked {
    /// Reads the annotations of a layer; `None` where they are missing, incomplete, or point
    /// where no such part can be. Without tar-split data a layer cannot be put together exactly.
    pub fn of(layer: &Layer) -> Option<Self> {
        let text = |key: &str| layer.descriptor.annotations.get(key).map(String::as_str);
        let [offset, length, inflated, TOC_TYPE] = numbers(text(TOC_POSITION)?)? else {
            return None;
        };
        let toc = part(offset, length, inflated)?;
        let [offset, length, inflated] = numbers(text(TAR_SPLIT_POSITION)?)?;
        let tar_split = part(offset, length, inflated)?;
        let gap = tar_split.bytes.start.checked_sub(toc.bytes.end)?;
        let inside = tar_split.bytes.end <= layer.descriptor.size?;
        let fits = layer.compression == Compression::Zstd && inside && gap <= MAX_GAP;
        Some(Self {
            toc,
            toc_digest: text(TOC_DIGEST)?.parse().ok()?,
            tar_split,
        })
        .filter(|_| fits)
    }

    /// The bytes that hold both parts.
    pub const fn bytes(&self) -> Range<u64> {
        self.toc.bytes.start..self.tar_split.bytes.end
    }
}

/// Exactly `N` decimal numbers with colons between them.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let mut parts = text.split(':');
    let mut numbers = [0; N];
    for number in &mut numbers {
        let digits = parts.next()?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        *number = digits.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn part(offset: u64, length: u64, inflated: u64) -> Option<Part> {
    let sizes = (1..=MAX_COMPRESSED).contains(&length) && (1..=MAX_INFLATED).contains(&inflated);
    let bytes = offset..offset.checked_add(length)?;
    (offset > 0 && sizes).then_some(Part { bytes, inflated })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::{Descriptor, LayerKind};

    fn layer(annotations: &[(&str, &str)]) -> Layer {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Layer {
            index: 0,
            descriptor: Descriptor {
                media_type: String::new(),
                digest: Digest::of(b"blob"),
                size: Some(10_000),
                annotations: annotations.iter().map(owned).collect(),
            },
            diff_id: Digest::of(b"tar"),
            compression: Compression::Zstd,
            kind: LayerKind::Derived,
        }
    }

    fn parse(toc: &str, tar_split: &str) -> Option<Chunked> {
        let digest = Digest::of(b"toc").to_string();
        Chunked::of(&layer(&[
            (TOC_DIGEST, &digest),
            (TOC_POSITION, toc),
            (TAR_SPLIT_POSITION, tar_split),
        ]))
    }

    #[test]
    fn reads_positions() {
        let found = parse("8000:500:900:1", "8508:400:3000").unwrap();
        assert_eq!(found.toc.bytes, 8000..8500);
        assert_eq!((found.toc.inflated, found.tar_split.inflated), (900, 3000));
        assert_eq!(found.bytes(), 8000..8908);
        assert_eq!(found.toc_digest, Digest::of(b"toc"));
    }

    #[test]
    fn takes_nothing_that_cannot_be() {
        let table = [
            ("8000:500:900:2", "8508:400:3000"),
            ("8000:500:900", "8508:400:3000"),
            ("8000:500:900:1:1", "8508:400:3000"),
            ("+8000:500:900:1", "8508:400:3000"),
            ("8000:500:-900:1", "8508:400:3000"),
            ("0:500:900:1", "508:400:3000"),
            ("8000:0:900:1", "8008:400:3000"),
            ("8000:500:900:1", "8400:400:3000"),
            ("8000:500:900:1", "9700:400:3000"),
            ("100:500:900:1", "8508:400:3000"),
            ("8000:500:99999999999:1", "8508:400:3000"),
            ("8000:18446744073709551615:900:1", "8508:400:3000"),
            ("8000:500:900:1", ""),
        ];
        for (toc, tar_split) in table {
            assert_eq!(parse(toc, tar_split), None, "{toc} {tar_split}");
        }
        assert_eq!(Chunked::of(&layer(&[])), None);
    }

    proptest! {
        #[test]
        fn any_annotation_is_read_or_refused(toc in "[0-9:+-]{0,40}", split in "[0-9:]{0,40}") {
            if let Some(found) = parse(&toc, &split) {
                prop_assert!(found.bytes().end <= 10_000);
            }
        }
    }
}
